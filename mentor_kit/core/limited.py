"""Tools with a time limit: each call runs in a child process, which is killed when it is late.

The child is `python -m mentor_kit.core.tool_process FOLDER MODULE NAME`. It imports the function's
module once, and answers call after call. It is no sandbox: the function may do what this process
may.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from mentor_kit.core.processes import NotReady, WorkerPool
from mentor_kit.errors import ToolError, UserError


def limited(seconds: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: each call of the tool runs in a child process, which is killed after so many
    seconds on the wall clock.

    The function must be in a module that a child process can import.
    """
    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        function.tool_seconds = seconds
        return function

    if not seconds > 0:
        raise UserError(f"limited({seconds!r}): give seconds above 0.")
    return mark


def check_importable(function: Callable[..., Any]) -> None:
    """Raise UserError where a child process cannot import a function by its name."""
    if function.__module__ == "__main__" or "<locals>" in function.__qualname__:
        raise UserError(f"Tool {function.__name__!r} has a time limit, so a child process must be "
                        "able to import it: move it to the top level of a module (a .py file "
                        "beside the notebook).")


@cache
def _pool(module: str, name: str) -> WorkerPool:
    def command(folder: str) -> tuple[list[str], dict[str, str]]:
        paths = os.pathsep.join(os.path.abspath(p) for p in sys.path)
        return [sys.executable, "-m", "mentor_kit.core.tool_process", os.getcwd(), module, name], {
            **os.environ, "PYTHONPATH": paths}

    return WorkerPool(command)


def call_limited(function: Callable[..., Any], name: str, arguments: Any) -> str:
    """The result of a call in a child process.

    Raises:
        ToolError: the call failed, was late, or ended its process.
        UserError: the child cannot import the function.
    """
    seconds = function.tool_seconds
    with _pool(function.__module__, function.__qualname__).borrow() as worker:
        try:
            reply = worker.ask({"arguments": arguments, "seconds": seconds}, seconds)
        except NotReady as error:
            raise UserError(f"Tool {name!r} cannot be imported by a child process ({error}).") \
                from None
        if reply is None and worker.late:
            raise ToolError(f"{name}: no answer within {seconds:g} seconds.")
        if reply is None:
            raise ToolError(f"{name}: its process ended during the call.")
    if "error" in reply:
        raise ToolError(reply["error"])
    return reply["result"]
