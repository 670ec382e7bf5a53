"""The kernel of a batch cell: IPython's, in the batch's own interpreter, that never outlives its cell process.

    python -m mentor_kit.kernel LOCK_FILE -f CONNECTION_FILE

It holds a lock on its run folder for as long as it lives, so a kernel left over from a killed batch can never
write beside its successor.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Ask Linux to kill this process when its parent ends; elsewhere ipykernel's own watch does within a second.

    `parent`: the process id the parent had when it started this one; if it is gone already, this one exits.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        sys.exit("the parent process is gone")


def hold_lock(path: Path | str, patience: float = 0.0) -> IO[str] | None:
    """Take the exclusive lock of a file for the life of this process: the open file, or None after `patience` seconds.

    A POSIX record lock: forked children do not inherit it, and it works on shared storage.
    """
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - kept open, it is the lock
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError:
            if time.monotonic() >= deadline:
                file.close()
                return None
            time.sleep(0.05)


def main() -> None:
    parent = os.environ.get("JPY_PARENT_PID")
    die_with_parent(int(parent) if parent else None)
    lock = hold_lock(sys.argv.pop(1), patience=30.0)
    if lock is None:
        sys.exit("another kernel still writes into this run folder")
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance()


if __name__ == "__main__":
    if sys.path[0] == "" or Path(sys.path[0]) == Path.cwd():
        del sys.path[0]  # as ipykernel does: a file of the working folder must not shadow a library
    main()
