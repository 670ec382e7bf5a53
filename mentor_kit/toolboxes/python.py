"""The Python tool: a model's code, run in a sandbox. A call knows nothing of the one before.

    load_toolbox("python").execute("python", {"code": "2**100"}).content

What it protects against is on the page docs/toolboxes.md. It needs Linux (x86_64 or aarch64).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from mentor_kit.core.arguments import MAX_TEXT
from mentor_kit.core.processes import inherited_variables
from mentor_kit.core.sandbox import Sandbox, SandboxBroken
from mentor_kit.core.toolbox import Toolbox
from mentor_kit.errors import ToolError, UserError

CHARACTERS = 4000  # of a result that are shown
SECONDS = 2  # of CPU time
HANDLERS = Path(__file__).with_name("python_process.py")
FAILURES = {"memory": "the code used more than 1 GB of memory.",
            "crash": "the code ended its process.", "long": "the output is too long.",
            "timeout": f"the code took too long ({SECONDS} seconds of computing)."}


@cache
def sandbox() -> Sandbox:
    """The sandbox of this process. Sets and dicts come in the same order each time."""
    return Sandbox("The Python sandbox", HANDLERS, lambda: [str(CHARACTERS)],
                   lambda folder: inherited_variables() | {"PYTHONHASHSEED": "0", "TZ": "UTC",
                                                           "HOME": folder},
                   SECONDS, flags=("-P", "-s", "-S"), filtered=True)


def python(code: str) -> str:
    """Run Python code; gives what it prints and the value of its last line.

    Args:
        code: Python 3; only modules of the standard library that compute (math, fractions, ...)
    """
    if len(code) > MAX_TEXT:
        raise ToolError(f"code has more than {MAX_TEXT} characters.")
    try:
        reply = sandbox().ask("run", code=code)
    except SandboxBroken as error:
        raise UserError(f"The Python tool does not work here ({error}). It needs Linux with "
                        "seccomp, on x86_64 or aarch64.") from None
    text = reply.get("text")
    if not isinstance(text, str):  # the code may have written the reply
        raise ToolError(FAILURES.get(str(reply.get("failure")), FAILURES["crash"]))
    if reply.get("ok") is not True:
        raise ToolError(text[:2 * CHARACTERS])
    return text[:2 * CHARACTERS] or "(no output)"


PYTHON = Toolbox("python", [python], waits=True)
