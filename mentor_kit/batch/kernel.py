"""The kernel of a batch job: IPython's, in the batch's own interpreter, that never outlives its
job process.

    python -m mentor_kit.batch.kernel LOCK_FILE -f CONNECTION_FILE

It holds a lock on its run folder for as long as it lives, as its job process does, so that what is
left over from a killed batch or a lost node can never write beside its successor.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mentor_kit.runs.locks import KERNEL_BYTE, acquire_lock
from mentor_kit.runs.processes import die_with_parent


def main() -> None:
    parent = os.environ.get("JPY_PARENT_PID")
    die_with_parent(int(parent) if parent else None)
    lock = acquire_lock(sys.argv.pop(1), timeout=30.0, byte=KERNEL_BYTE)
    if lock is None:
        sys.exit("another kernel still writes into this run folder")
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance()


if __name__ == "__main__":
    if sys.path[0] == "" or Path(sys.path[0]) == Path.cwd():
        del sys.path[0]  # as ipykernel does: a file of the working folder must not shadow a library
    main()
