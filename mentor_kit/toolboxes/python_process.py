"""The handlers of the Python tool's sandbox (`mentor_kit.core.confined`): they run a model's code.

Imports nothing of the kit. All modules that the code may import are loaded here: afterwards no file
can be read.
"""

from __future__ import annotations

import ast
import importlib
import io
import random
import sys
import traceback
from importlib.machinery import BuiltinImporter, FrozenImporter
from typing import Any

MODULES = ("array", "bisect", "calendar", "cmath", "collections", "copy", "dataclasses", "datetime",
           "decimal", "enum", "fractions", "functools", "heapq", "itertools", "json", "math",
           "numbers", "operator", "random", "re", "statistics", "string", "textwrap", "typing",
           "unicodedata", "_strptime", "encodings.idna", "encodings.latin_1", "encodings.ascii")
NAME = "<code>"


def start(limit: str) -> dict[str, Any]:
    """The operations. `limit`: characters of a result."""
    for module in MODULES:
        importlib.import_module(module)
    return {"run": lambda line: run(line["code"], int(limit))}


def run(code: str, limit: int) -> dict[str, Any]:
    """What the code printed and the value of its last line, or the error that ended it."""
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter]
    random.seed(0)
    sys.stdout = sys.stderr = printed = io.StringIO()
    ok = True
    try:
        value = execute(code)
        if value is not None:
            printed.write(f"{value!r}\n")
    except SystemExit:
        pass
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001 - what the code raises is its result
        ok = False
        printed.write(told(error))
    text = printed.getvalue().strip().encode("utf-8", "replace").decode()
    if len(text) > limit:
        text = f"{text[:limit]} ... ({len(text) - limit} characters more)"
    return {"ok": ok, "text": text}


def execute(code: str) -> Any:
    """Run the code; the value of its last line, where that is an expression."""
    tree, names = ast.parse(code, NAME), {"__name__": "__main__"}
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, NAME, "exec"), names)  # noqa: S102 - this is the sandbox
    return eval(compile(ast.Expression(last.value), NAME, "eval"), names) if last else None


def told(error: BaseException) -> str:
    """An error in one line, with the line of the code."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == NAME]
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    where = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"
