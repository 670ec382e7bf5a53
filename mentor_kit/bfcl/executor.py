"""The sandbox that executes what a model wrote for BFCL's multi-turn items: `worker.py` in
`mentor_kit.core.sandbox`, with the checker's packages."""

from __future__ import annotations

from functools import cache
from typing import Any

from mentor_kit.bfcl.checker import WORKER, environment, worker_variables
from mentor_kit.core import sandbox as core
from mentor_kit.errors import UserError


class Sandbox(core.Sandbox):
    """A serving worker, started at the first request. The gold answers take milliseconds."""

    def __init__(self, seconds: int = core.SECONDS, stuck: float = core.STUCK) -> None:
        super().__init__("BFCL's executor", WORKER, lambda: [str(environment())], worker_variables,
                         seconds, stuck)

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """The reply to one request (`execute` or `check`, see the worker), or `{"failure": kind}`.

        Raises:
            UserError: the environment cannot be made or does not work, or it has no such item.
        """
        try:
            return super().ask(operation, **request)
        except core.SandboxBroken as error:
            raise UserError(f"BFCL's executor failed ({error}); delete {str(environment())!r} and "
                            "try again.") from None


@cache
def sandbox() -> Sandbox:
    """The sandbox of this process."""
    return Sandbox()
