"""Locks of folders and files: two processes never write into one run."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO

from mentor_kit.errors import UserError

# Bytes of a run folder's `.lock`: a job holds one, its kernel the other. Whoever locks the whole
# file waits for both.
JOB_BYTE, KERNEL_BYTE = 0, 1


def acquire_lock(path: Path | str, timeout: float = 0.0, byte: int | None = None) -> IO[str] | None:
    """Take the exclusive lock of a file for the life of this process.

    A POSIX record lock, of one `byte` or of the whole file. It works on shared storage, and forked
    children do not inherit it. It is gone when the process closes any of its handles of that file.

    Returns:
        The open file, or None where another process still holds the lock after `timeout` seconds.

    Raises:
        UserError: the storage has no such locks.
    """
    length, start = (0, 0) if byte is None else (1, byte)
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - kept open, it is the lock
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
            return file
        except OSError as error:
            # these two mean that another process holds it
            if not isinstance(error, BlockingIOError | PermissionError):
                raise UserError(f"{path}: this storage has no POSIX locks ({error.strerror}), "
                                "which keep two processes from writing into one run folder; mount "
                                "it with them, or give --results another place.") from error
            if time.monotonic() >= deadline:
                file.close()
                return None
            time.sleep(0.05)


def lock_folder(folder: Path, busy: str) -> IO[str]:
    """Make a folder and lock it: the whole of its `.lock`. Close what is returned to unlock it.

    Raises:
        UserError: the folder cannot be made or written, or another process holds the lock: the
            message is `busy`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = acquire_lock(folder / ".lock")
    except OSError as error:
        raise UserError(f"The folder {str(folder)!r} cannot be written ({error.strerror}): give "
                        "another one.") from error
    if lock is None:
        raise UserError(busy)
    return lock
