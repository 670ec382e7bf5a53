"""Runs inside the checker's own environment: `python -I -S worker.py PACKAGES entries|check`, lines
of JSON; and as the handlers of a sandbox (`mentor_kit.core.confined`) that answers the multi-turn
requests.

Imports nothing of the kit. The package's table of models pulls in seventeen vendors' clients; the
checker reads only one flag of it, so a table of that flag stands in its place (dots in function
names were made underscores).

The package evaluates what a model wrote as Python and keeps state in module globals; so each
multi-turn request runs in a forked child of the sandbox. A call arrives as [name, arguments] of
JSON and reaches the package only if the item's classes have a method of that name: what is
evaluated is that name with literal arguments.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import types
from collections import defaultdict
from functools import cache
from typing import Any

MODEL = "mentor_kit"
LANGUAGES = {"simple_java": "JAVA", "simple_javascript": "JAVASCRIPT"}
# no such name exists: to the package a call like any other that cannot be evaluated
REFUSED = "refused_call()"


def load_package(folder: str) -> None:
    """Make `bfcl_eval` importable, with the table of models replaced."""
    sys.path.insert(0, folder)
    table = types.ModuleType("bfcl_eval.constants.model_config")
    table.MODEL_CONFIG_MAPPING = defaultdict(lambda: types.SimpleNamespace(underscore_to_dot=True))
    sys.modules[table.__name__] = table


def entries(line: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of a category as the leaderboard asks them, with the hash of their file, and those
    of several turns with their gold calls (`ground_truth`)."""
    from bfcl_eval.constants.eval_config import PROMPT_PATH
    from bfcl_eval.utils import load_dataset_entry

    data = (PROMPT_PATH / f"BFCL_v4_{line['category']}.json").read_bytes()
    revision = f"sha256:{hashlib.sha256(data).hexdigest()}"
    found = [{**e, "revision": revision} for e in load_dataset_entry(line["category"])]
    if line["category"].startswith("multi_turn"):
        _, answers = truths(line["category"])
        found = [{**e, "ground_truth": answers[e["id"]]} for e in found]
    return found


@cache
def truths(category: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Id -> item, and id -> possible answers (none where no checker is asked)."""
    from bfcl_eval.utils import load_dataset_entry, load_ground_truth_entry

    items = load_dataset_entry(category, include_language_specific_hint=False)
    answers = [] if "relevance" in category else [e["ground_truth"]
                                                  for e in load_ground_truth_entry(category)]
    by_id = {item["id"]: item for item in items}
    # by position, as the leaderboard pairs them: ids may differ
    return by_id, dict(zip(by_id, answers, strict=False))


def check(line: dict[str, Any]) -> dict[str, Any]:
    """The leaderboard's verdict on one answer; `calls` is None where it could not be decoded."""
    category, calls = line["category"], line["calls"]
    if "relevance" in category:
        called = bool(calls)
        valid = called != ("irrelevance" in category)
        return {"valid": valid, "by": "bfcl:called" if called else "bfcl:no_call"}
    if calls is None:
        return {"valid": False, "by": "bfcl:ast_decoder:decoder_failed"}
    return check_calls(category, line["entry"], calls)


def check_calls(category: str, entry: str, calls: list[Any]) -> dict[str, Any]:
    from bfcl_eval.constants.enums import Language
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker
    from bfcl_eval.utils import is_function_calling_format_output

    if not is_function_calling_format_output(calls):
        return {"valid": False, "by": "bfcl:ast_decoder:decoder_wrong_output_format"}
    items, answers = truths(category)
    language = Language[LANGUAGES.get(category, "PYTHON")]
    try:
        result = ast_checker(items[entry]["function"], calls, answers[entry], language, category,
                             MODEL)
    except Exception as error:  # noqa: BLE001 - what the checker trips over is wrong, by name
        return {"valid": False, "by": f"bfcl:checker_error:{type(error).__name__}"}
    return {"valid": bool(result["valid"]),
            "by": "bfcl:" + ("valid" if result["valid"] else result["error_type"])}


def execute(line: dict[str, Any]) -> dict[str, Any]:
    """What the last calls gave, after the item's earlier calls were made again from its initial
    state."""
    from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_utils import execute_multi_turn_func_call

    item = truths(line["category"])[0][line["entry"]]
    calls = [expression(item, call) for call in (*line["earlier"], *line["calls"])]
    results, _ = execute_multi_turn_func_call(calls, item["initial_config"],
                                              item["involved_classes"], MODEL,
                                              item["id"],
                                              long_context="long_context" in line["category"])
    return {"results": results[len(line["earlier"]):]}


def expression(item: dict[str, Any], call: list[Any] | None) -> str:
    """A call as the package wants it. A refused call, and one of no method of the item's classes,
    is `REFUSED`."""
    if call is None or call[0] not in methods(tuple(item["involved_classes"])):
        return REFUSED
    name, arguments = call
    return f"{name}({','.join(f'{k}={v!r}' for k, v in arguments.items())})"


@cache
def methods(classes: tuple[str, ...]) -> frozenset[str]:
    """The public methods of the item's classes: its tools."""
    from importlib import import_module

    from bfcl_eval.constants.executable_backend_config import CLASS_FILE_PATH_MAPPING

    found = [getattr(import_module(CLASS_FILE_PATH_MAPPING[name]), name) for name in classes]
    return frozenset(n for c in found for n in dir(c) if not n.startswith("_")
                     and callable(getattr(c, n)))


def check_turns(line: dict[str, Any]) -> dict[str, Any]:
    """The leaderboard's verdict on a multi-turn answer: user turns of steps of calls."""
    from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker import multi_turn_checker

    items, answers = truths(line["category"])
    item, truth = items[line["entry"]], answers[line["entry"]]
    turns = [[[expression(item, call) for call in step] for step in turn] for turn in line["turns"]]
    if len(turns) != len(truth):
        return {"valid": False, "by": "bfcl:multi_turn:force_terminated"}
    try:
        result = multi_turn_checker(turns, truth, item, line["category"], MODEL)
    except Exception as error:  # noqa: BLE001 - what the checker trips over is wrong, by name
        return {"valid": False, "by": f"bfcl:checker_error:{type(error).__name__}"}
    return {"valid": bool(result["valid"]),
            "by": "bfcl:" + ("valid" if result["valid"] else result["error_type"])}


class LateImport(BaseException):
    """A module that a child asks for and its parent has not read. Not an Exception: the package
    would take it for a call that failed; so it is a crash, and seen."""

    @classmethod
    def find_spec(cls, name: str, *_: Any) -> None:
        raise cls(name)


def start(folder: str) -> dict[str, Any]:
    """The operations of the sandbox (`mentor_kit.core.confined`).

    Raises:
        ImportError: the package is not in the folder.
    """
    load_package(folder)
    import _strptime  # noqa: F401 - imported by `datetime.strptime` at its first use

    import bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker  # noqa: F401

    return {"execute": closed(execute), "check": closed(check_turns)}


def prepare(line: dict[str, Any]) -> None:
    """Read what a request needs, once."""
    items, _ = truths(line["category"])
    methods(tuple(items[line["entry"]]["involved_classes"]))


def closed(operation: Any) -> Any:
    """An operation without imports."""
    def run(line: dict[str, Any]) -> dict[str, Any]:
        sys.meta_path[:] = [LateImport]
        return operation(line)

    return run


def main() -> None:
    folder, operation = sys.argv[1:]
    load_package(folder)
    out, sys.stdout = sys.stdout, sys.stderr  # the package prints
    resource.setrlimit(resource.RLIMIT_CPU, (600, 600))
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    for text in sys.stdin:
        line = json.loads(text)
        found = entries(line) if operation == "entries" else [check(line)]
        out.writelines(json.dumps(answer) + "\n" for answer in found)


if __name__ == "__main__":
    main()
