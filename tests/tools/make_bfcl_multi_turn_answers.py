"""Writes tests/data/bfcl_multi_turn_answers.jsonl: 96 answers over 4 categories with the verdicts
of `bfcl evaluate`.

    python tests/tools/make_bfcl_multi_turn_answers.py /path/full       # the environment of tests/tools/make_bfcl_answers.py

Answers are made from the leaderboard's gold calls: right ones, and ones with one thing wrong in one
user turn. What each is worth, the official scorer says.
"""  # noqa: E501

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bfcl_gold import DONE, Calls, gold_turns, say

from mentor_kit.bfcl.checker import decode_calls
from mentor_kit.bfcl.items import MULTI_TURN, load
from mentor_kit.core.problem import Problem, known_tools
from mentor_kit.core.turn import Turn

MODEL = "gpt-4.1-2025-04-14-FC"
OUT = Path(__file__).parents[1] / "data" / "bfcl_multi_turn_answers.jsonl"
KINDS = ("right", "right_step_by_step", "name", "missing_call", "value", "missing_parameter",
         "unknown_parameter",
         "extra_call", "same_call_twice", "silent_turn", "stops_early", "hostile")
EACH = 24  # answers a category: every kind twice
HOSTILE: Calls = [("__import__", {"name": "os"}), ("exit", {}),
                  ("ls", {"a b": "); import os; os.getcwd("}),
                  ("cd", {"folder": "$(pwd); `id`"})]
EXTRA: Calls = [("mkdir", {"dir_name": "one_more"}), ("add_to_watchlist", {"stock": "ZETA"}),
                ("lockDoors", {"unlock": True, "door": ["driver"]}), ("register_credit_card", {}),
                ("logarithm", {})]


def spoil(calls: Calls, kind: str, known: Sequence[str]) -> Calls:
    """One user turn's calls with one thing wrong."""
    (name, arguments), rest = calls[-1], calls[:-1]
    first = next(iter(arguments), None)
    if kind == "name":
        return [*rest, (f"{name}_v2", arguments)]
    if kind == "missing_call":
        return rest
    if kind == "value" and first is not None:
        return [*rest, (name, {**arguments, first: "nothing of the kind"})]
    if kind == "missing_parameter":
        return [*rest, (name, {k: v for k, v in arguments.items() if k != first})]
    if kind == "unknown_parameter":
        return [*rest, (name, {**arguments, "colour": "blue"})]
    if kind == "extra_call":
        return [*calls, next((c for c in EXTRA if c[0] in known), EXTRA[-1])]
    return (
        [*calls, calls[-1]]
        if kind == "same_call_twice"
        else [*calls, *HOSTILE]
        if kind == "hostile"
        else calls
    )


def answer(problem: Problem, kind: str, number: int) -> list[list[str]]:
    """The texts of each user turn."""
    turns, known = gold_turns(problem), known_tools(problem)
    called = [i for i, calls in enumerate(turns) if calls]
    place = called[number % len(called)]
    texts = [say(spoil(calls, kind, known) if i == place else calls, kind != "right_step_by_step")
             for i, calls in enumerate(turns)]
    if kind == "silent_turn":
        texts[place] = [DONE]
    return texts[:-1] if kind == "stops_early" else texts


def answers() -> list[dict[str, Any]]:
    rows = []
    # the categories' items are variants of each other: take others
    for place, category in enumerate(MULTI_TURN):
        problems = load(0, {category: 0})[2 * place::200 // EACH][:EACH]
        for number, problem in enumerate(problems):
            kind = KINDS[(number + 3 * place) % len(KINDS)]
            texts = answer(problem, kind, number // len(KINDS) + place)
            rows.append({"category": category, "entry": problem.meta["entry"], "kind": kind,
                         "turns": texts})
    return rows


def official(environment: Path, rows: list[dict[str, Any]]) -> dict[str, str]:
    """Entry -> error type ("" where right), from the score files of `bfcl evaluate` (which list
    what was wrong)."""
    with tempfile.TemporaryDirectory() as folder:
        for category in MULTI_TURN:
            path = (
                Path(folder) / "result" / MODEL / "multi_turn" / f"BFCL_v4_{category}_result.json"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps({"id": r["entry"], "result": _as_result(r["turns"])})
                                    + "\n"
                                    for r in rows if r["category"] == category))
        command = [environment / "bin" / "bfcl", "evaluate", "--model", MODEL, "--test-category",
                   ",".join(MULTI_TURN),
                   "--partial-eval"]
        subprocess.run(command, check=True, cwd=folder,
                       env={"PATH": os.environ["PATH"], "BFCL_PROJECT_ROOT": folder,
                                                             "OPENAI_API_KEY": "none"})
        lines = [json.loads(line) for path in Path(folder).glob("score/**/*multi_turn*_score.json")
                 for line in path.read_text().splitlines()]
    assert sum(w.get("total_count", 0) for w in lines if "id" not in w) == len(rows)
    return {r["entry"]: "" for r in rows} | {w["id"]: w["error"]["error_type"] for w in lines
                                             if "id" in w}


def _as_result(turns: list[list[str]]) -> list[list[Any]]:
    """What the handler of a function-calling endpoint stores: each step's calls with JSON
    arguments, or its text."""
    steps = [[(decode_calls(Turn(text)), text) for text in texts] for texts in turns]
    return [[[{n: json.dumps(a)} for call in calls for n, a in call.items()] if calls else text
             for calls, text in turn]
            for turn in steps]


def main() -> None:
    rows = answers()
    errors = official(Path(sys.argv[1]), rows)
    OUT.write_text("".join(json.dumps({**r, "official": errors[r["entry"]] or "valid"}) + "\n"
                           for r in rows),
                   encoding="utf-8")
    print(f"{len(rows)} answers, {sum(not e for e in errors.values())} right by the official "
          f"scorer: {OUT}")


if __name__ == "__main__":
    main()
