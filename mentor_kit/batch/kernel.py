"""The kernel of a job: IPython's, in the batch's own interpreter, that never outlives its job.

    python -m mentor_kit.batch.kernel LOCK_FILE -f CONNECTION_FILE

It holds a lock on its run folder for as long as it lives, as its job does, so that what is left
over from a killed batch or a lost node can never write beside its successor.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from mentor_kit.core.processes import die_with_parent, name_process
from mentor_kit.runs.locks import KERNEL_BYTE, acquire_lock


def main() -> None:
    name_process("mentor-kernel")
    parent = os.environ.get("JPY_PARENT_PID")
    die_with_parent(int(parent) if parent else None)
    lock = acquire_lock(sys.argv.pop(1), timeout=30.0, byte=KERNEL_BYTE)
    if lock is None:
        sys.exit("another kernel still writes into this run folder")
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance()


class ForkedKernel:
    """A forked process that waits to become the kernel, as subprocess.Popen shows one."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, orders: int) -> None:
        self.pid, self.orders = pid, orders
        self.returncode: int | None = None

    def launch(self, argv: list[str]) -> None:
        """Become the kernel that `python -m ARGV` would be."""
        with os.fdopen(self.orders, "w") as orders:
            json.dump(argv, orders)

    def poll(self) -> int | None:
        return self._end(os.WNOHANG)

    def wait(self) -> int | None:
        return self._end(0)

    def _end(self, flags: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, flags)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork_kernel() -> ForkedKernel:
    """Fork the kernel of this process, which has one thread yet. In the fork this does not return
    before the kernel has ended: it exits."""
    parent = os.getpid()
    reading, writing = os.pipe()
    if pid := os.fork():
        os.close(reading)
        return ForkedKernel(pid, writing)
    os.close(writing)
    os.setsid()
    os.environ["JPY_PARENT_PID"] = str(parent)
    die_with_parent(parent)
    with os.fdopen(reading) as orders:
        text = orders.read()
    if not text:  # the job ended before
        sys.exit()
    if "numpy" in sys.modules:  # or all jobs draw the same from its unseeded generator
        sys.modules["numpy"].random.seed()
    # ipykernel read the variable when it was imported
    sys.argv = [*json.loads(text), f"--IPKernelApp.parent_handle={parent}"]
    main()
    sys.exit()


if __name__ == "__main__":
    if sys.path[0] == "" or Path(sys.path[0]) == Path.cwd():
        del sys.path[0]  # as ipykernel does: a file of the working folder must not shadow a library
    main()
