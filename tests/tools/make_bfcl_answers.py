"""Writes tests/data/bfcl_answers.jsonl: 204 answers over 6 categories with the verdicts of the
unstubbed `bfcl evaluate`.

    python -m venv /path/full && /path/full/bin/pip install bfcl-eval==2026.3.23 soundfile   # about 500 MB
    python tests/tools/make_bfcl_answers.py /path/full

Answers are made from the leaderboard's own possible answers: right ones, and ones wrong by name,
type, a missing parameter, an extra call, no call, an unknown parameter, and a value. What each is
worth, the official scorer says.
"""  # noqa: E501

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mentor_kit.bfcl.checker import decode_calls
from mentor_kit.core.chat_markup import render_call
from mentor_kit.core.turn import Turn

CATEGORIES = ("simple_python", "multiple", "parallel", "parallel_multiple", "live_simple",
              "irrelevance")
KINDS = ("right", "right", "name", "type", "missing", "extra_call", "no_call", "unknown_parameter",
         "value")
EACH, MODEL = 34, "gpt-4.1-2025-04-14-FC"
OUT = Path(__file__).parents[1] / "data" / "bfcl_answers.jsonl"
Calls = list[tuple[str, dict[str, Any]]]


def gold_calls(truth: list[dict[str, Any]]) -> Calls:
    """One right answer: the first accepted value of each parameter; a parameter that may be left
    out is."""
    return [(name.replace(".", "_"), {k: _value(v) for k, v in arguments.items() if "" not in v})
            for call in truth for name, arguments in call.items()]


def _value(accepted: list[Any]) -> Any:
    value = accepted[0]
    if isinstance(value, dict):
        return {k: _value(v) for k, v in value.items() if "" not in v}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [{k: _value(v) for k, v in item.items() if "" not in v} for item in value]
    return value


def spoil(calls: Calls, kind: str) -> Calls:
    """The answer with one thing wrong."""
    if kind == "no_call":
        return []
    if kind == "extra_call":
        return [*calls, calls[0]]
    name, arguments = calls[0]
    first = next(iter(arguments), None)
    if kind == "name":
        name = f"{name}_v2"
    elif kind == "unknown_parameter":
        arguments = {**arguments, "colour": "blue"}
    elif first is not None and kind == "missing":
        arguments = {k: v for k, v in arguments.items() if k != first}
    elif first is not None and kind in ("type", "value"):
        arguments = {**arguments, first: ["x", {"y": 1}] if kind == "type"
                     else "nothing of the kind"}
    return [(name, arguments), *calls[1:]]


def answers(data: Path) -> list[dict[str, Any]]:
    rows = []
    for category in CATEGORIES:
        items = [json.loads(line)
                 for line in (data / f"BFCL_v4_{category}.json").read_text().splitlines()][:EACH]
        truths = data / "possible_answer" / f"BFCL_v4_{category}.json"
        golds = (
            [json.loads(line)["ground_truth"] for line in truths.read_text().splitlines()]
            if truths.exists()
            else []
        )
        for i, item in enumerate(items):
            kind = KINDS[i % len(KINDS)]
            calls = (
                spoil(gold_calls(golds[i]), kind)
                if golds
                else []
                if i % 2
                else [(item["function"][0]["name"], {})]
            )
            text = (
                "\n".join(render_call(n, a) for n, a in calls)
                or "I cannot do that with these tools."
            )
            rows.append({"category": category, "entry": item["id"], "kind": kind if golds else "",
                         "text": text})
    return rows


def official(environment: Path, rows: list[dict[str, Any]]) -> dict[str, bool]:
    """Entry -> verdict, from the score files of `bfcl evaluate` (which list what was wrong)."""
    with tempfile.TemporaryDirectory() as folder:
        for category in CATEGORIES:
            group = "live" if category.startswith("live") else "non_live"
            path = Path(folder) / "result" / MODEL / group / f"BFCL_v4_{category}_result.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps({"id": r["entry"], "result": _as_result(r["text"])})
                                    + "\n"
                                    for r in rows if r["category"] == category))
        command = [environment / "bin" / "bfcl", "evaluate", "--model", MODEL, "--test-category",
                   ",".join(CATEGORIES),
                   "--partial-eval"]
        subprocess.run(command, check=True, cwd=folder,
                       env=os.environ | {"BFCL_PROJECT_ROOT": folder, "OPENAI_API_KEY": "none"})
        wrong = [json.loads(line) for path in Path(folder).glob("score/**/*_score.json")
                 for line in path.read_text().splitlines()]
    ids = {w["id"]: w.get("error_type", "") for w in wrong if "id" in w}
    assert sum(w.get("total_count", 0) for w in wrong if "id" not in w) == len(rows)
    return {r["entry"]: r["entry"] not in ids for r in rows}


def _as_result(text: str) -> Any:
    """What the handler of a function-calling endpoint stores: calls with JSON arguments, or the
    text."""
    calls = decode_calls(Turn(text))
    return [{name: json.dumps(a)} for call in calls for name, a in call.items()] if calls else text


def main() -> None:
    environment = Path(sys.argv[1])
    data = next(environment.glob("lib/python*/site-packages/bfcl_eval/data"))
    rows = answers(data)
    verdicts = official(environment, rows)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("".join(json.dumps({**r, "official": verdicts[r["entry"]]}) + "\n"
                           for r in rows), encoding="utf-8")
    print(f"{len(rows)} answers, {sum(verdicts.values())} right by the official scorer: {OUT}")


if __name__ == "__main__":
    main()
