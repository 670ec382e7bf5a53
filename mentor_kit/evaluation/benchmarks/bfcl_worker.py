"""Runs inside the checker's own environment: `python -I -S bfcl_worker.py PACKAGES entries|check`, lines of JSON.

Imports nothing of the kit. The package's table of models pulls in seventeen vendors' clients; the checker reads only
one flag of it, so a table of that flag stands in its place (dots in function names were made underscores).
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


def load_package(folder: str) -> None:
    """Make `bfcl_eval` importable, with the table of models replaced."""
    sys.path.insert(0, folder)
    table = types.ModuleType("bfcl_eval.constants.model_config")
    table.MODEL_CONFIG_MAPPING = defaultdict(lambda: types.SimpleNamespace(underscore_to_dot=True))
    sys.modules[table.__name__] = table


def entries(line: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of a category as the leaderboard asks them, with the hash of their file."""
    from bfcl_eval.constants.eval_config import PROMPT_PATH
    from bfcl_eval.utils import load_dataset_entry

    data = (PROMPT_PATH / f"BFCL_v4_{line['category']}.json").read_bytes()
    revision = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return [{**e, "revision": revision} for e in load_dataset_entry(line["category"])]


@cache
def truths(category: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Id -> item, and id -> possible answers (none where no checker is asked)."""
    from bfcl_eval.utils import load_dataset_entry, load_ground_truth_entry

    items = load_dataset_entry(category, include_language_specific_hint=False)
    answers = [] if "relevance" in category else [e["ground_truth"] for e in load_ground_truth_entry(category)]
    by_id = {item["id"]: item for item in items}
    return by_id, dict(zip(by_id, answers, strict=False))  # by position, as the leaderboard pairs them: ids may differ


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
        result = ast_checker(items[entry]["function"], calls, answers[entry], language, category, MODEL)
    except Exception as error:  # noqa: BLE001 - an answer the checker trips over is wrong, and said so by name
        return {"valid": False, "by": f"bfcl:checker_error:{type(error).__name__}"}
    return {"valid": bool(result["valid"]), "by": "bfcl:" + ("valid" if result["valid"] else result["error_type"])}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (600, 600))
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    folder, operation = sys.argv[1:]
    load_package(folder)
    out, sys.stdout = sys.stdout, sys.stderr  # the package prints
    for text in sys.stdin:
        line = json.loads(text)
        found = entries(line) if operation == "entries" else [check(line)]
        out.writelines(json.dumps(answer) + "\n" for answer in found)


if __name__ == "__main__":
    main()
