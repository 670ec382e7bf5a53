"""Locks of folders and files: two processes never write into one run."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO

from mentor_kit.errors import UserError

# of a run folder's .lock: each process holds its own, who takes the whole waits for both
CELL_BYTE, KERNEL_BYTE = 0, 1


def hold_lock(path: Path | str, patience: float = 0.0, byte: int | None = None) -> IO[str] | None:
    """Take the exclusive lock of a file for the life of this process: the open file, or None after
    `patience` seconds.

    A POSIX record lock, of one `byte` or of the whole file: forked children do not inherit it, and
    it works on shared storage. It is gone when the process closes any of its handles of that file.

    Raises:
        UserError: the storage has no such locks.
    """
    length, start = (0, 0) if byte is None else (1, byte)
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - kept open, it is the lock
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
            return file
        except OSError as error:
            # those two: somebody holds it
            if not isinstance(error, BlockingIOError | PermissionError):
                raise UserError(f"{path}: this storage has no POSIX locks ({error.strerror}), "
                                "which keep two processes from writing into one run folder; mount "
                                "it with them, or give --results another place.") from error
            if time.monotonic() >= deadline:
                file.close()
                return None
            time.sleep(0.05)


def lock_folder(folder: Path, busy: str) -> IO[str]:
    """Make a folder and take the whole of its `.lock`; close what is returned to let it go.

    Raises:
        UserError: the folder cannot be made or written, or another process holds the lock: the
            message is `busy`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = hold_lock(folder / ".lock")
    except OSError as error:
        raise UserError(f"The folder {str(folder)!r} cannot be written ({error.strerror}): give "
                        "another one.") from error
    if lock is None:
        raise UserError(busy)
    return lock
