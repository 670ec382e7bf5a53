"""A process that carries out what a model wrote, and is none of ours.

It sees the standard library and what its handlers load, inherits no variable that could hold a
secret, works in a folder of its own and leads a process group of its own. Each request runs in a
forked child of it that can do nothing but compute (`mentor_kit.core.confined`). Where the process
itself does not answer in time, its whole group is killed; the next request starts a new one.
Nothing is lost by that: requests carry all that they need.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mentor_kit.core.processes import LineWorker, NotReady

PROGRAM = Path(__file__).with_name("confined.py")
SECONDS = 5  # CPU seconds a request may take
PATIENCE = 6  # seconds on the wall clock for each of them: other processes want the CPU too
STUCK = 60.0  # seconds on the wall clock after which the process itself is given up


class SandboxBroken(Exception):
    """The sandbox cannot answer, whatever is asked; the message is its reason."""


class Sandbox:
    """A serving process, started at the first request.

    Args:
        name: for messages.
        handlers: the file that `confined.py` loads.
        arguments: of its `start`; asked for when the process starts.
        variables: all variables of the process, for the folder it works in.
        seconds: CPU seconds a request may take.
        stuck: seconds on the wall clock after which the process itself is given up.
        flags: of Python.
        filtered: refuse to work where the system filters no system calls.
    """

    def __init__(self, name: str, handlers: Path, arguments: Callable[[], list[str]],
                 variables: Callable[[str], dict[str, str]], seconds: int = SECONDS,
                 stuck: float = STUCK, flags: tuple[str, ...] = ("-I", "-S"),
                 filtered: bool = False) -> None:
        self.name, self.seconds, self.stuck = name, seconds, stuck
        self.worker = LineWorker(lambda folder: (
            [sys.executable, *flags, str(PROGRAM), "filtered" if filtered else "limited",
             str(handlers), *arguments()], variables(folder)))

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """The reply to one request. Where the process was killed from outside, the request is made
        again, once, and a line on stderr says so.

        Returns:
            What the handler gave, or `{"failure": kind}` with kind timeout, memory, crash or long
            (a reply above 4 MB).

        Raises:
            SandboxBroken: it cannot start, or does not know the operation.
        """
        request |= {"operation": operation, "seconds": self.seconds,
                    "wall": PATIENCE * self.seconds}
        try:
            reply = self.worker.ask(request, self.stuck)
            if reply is None and not self.worker.late:
                print(f"{self.name} was killed; it is started again, and the call is repeated.",
                      file=sys.stderr, flush=True)
                reply = self.worker.ask(request, self.stuck)
        except NotReady as error:
            raise SandboxBroken(str(error)) from None
        if reply is not None and "error" in reply:
            raise SandboxBroken(reply["error"])
        return reply or {"failure": "timeout"}

    def stop(self) -> None:
        """End the process, if there is one."""
        self.worker.stop()
