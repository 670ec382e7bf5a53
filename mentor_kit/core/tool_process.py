"""The process of a tool with a time limit: `python -m mentor_kit.core.tool_process FOLDER MODULE
NAME`, lines of JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import reduce
from importlib import import_module
from typing import Any

from mentor_kit.core.tool import Tool

GRACE = 5  # seconds after its limit


def answer(tool: Tool, arguments: Any, seconds: float) -> dict[str, str]:
    signal.alarm(int(seconds) + GRACE)  # ends this process where nobody is left to kill it
    try:
        return {"result": tool.run(arguments)}
    except Exception as error:  # noqa: BLE001 - whatever the tool raises is the call's observation
        return {"error": str(error) or type(error).__name__}
    finally:
        signal.alarm(0)


def main() -> int:
    """Answer calls from stdin until it closes."""
    folder, module, name = sys.argv[1:]
    replies = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)  # what the tool prints must not mix with the replies
    try:
        os.chdir(folder)
        tool = Tool(reduce(getattr, name.split("."), import_module(module)))
    except Exception as error:  # noqa: BLE001 - said to whoever asked
        replies.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return 1
    replies.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        replies.write(json.dumps(answer(tool, **json.loads(line))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
