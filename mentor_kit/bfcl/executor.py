"""The process that executes what a model wrote for BFCL's multi-turn items: `worker.py PACKAGES
serve`.

Never ours: it sees the standard library and the checker's packages only, inherits no variable that
could hold a secret, works in a folder of its own and leads a process group of its own. Each request
runs in a forked child of it with limits on CPU time, memory and files (`mentor_kit.bfcl.worker`);
where the process itself does not answer in time, its whole group is killed and the next request
starts a new one. Nothing is lost by that: requests carry all that they need.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from mentor_kit.bfcl.checker import WORKER, environment, worker_variables
from mentor_kit.core.processes import LineWorker, NotReady
from mentor_kit.errors import UserError

SECONDS = 5  # CPU seconds a request may take; the gold answers take milliseconds
STUCK = 60.0  # seconds on the wall clock after which the process itself is given up


def _command(folder: str) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, "-I", "-S", str(WORKER), str(environment()), "serve"]
    return command, worker_variables(folder)


class Sandbox:
    """A serving worker, started at the first request."""

    def __init__(self, seconds: int = SECONDS, stuck: float = STUCK) -> None:
        self.seconds, self.stuck = seconds, stuck
        self.worker = LineWorker(_command)

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """The reply to one request (`execute` or `check`, see the worker).

        Returns:
            The worker's answer, or `{"failure": kind}` with kind timeout, memory, crash or long (a
            reply above 4 MB).

        Raises:
            UserError: the environment cannot be made or does not work, or it has no such item.
        """
        request |= {"operation": operation, "seconds": self.seconds}
        try:
            reply = self.worker.ask(request, self.stuck)
        except NotReady as error:
            raise _broken(str(error)) from None
        if reply is not None and "error" in reply:
            raise _broken(reply["error"])
        return reply or {"failure": "timeout"}

    def stop(self) -> None:
        """End the process, if there is one."""
        self.worker.stop()


def _broken(reason: str) -> UserError:
    return UserError(f"BFCL's executor failed ({reason}); delete {str(environment())!r} and try "
                     "again.")


@cache
def sandbox() -> Sandbox:
    """The sandbox of this process."""
    return Sandbox()
