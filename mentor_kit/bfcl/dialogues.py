"""BFCL's multi-turn dialogues to learn from, and others to be asked: the official tool classes as
an environment to train in.

    problems = load(seed=0, sizes={"train": 100, "validation": 20, "in_domain": 60})

The leaderboard's four multi-turn categories are 200 scenarios, each in four variants. A scenario is
trained on, validated with or held out, whole: all its variants, and all scenarios that share its
initial state, one of its user's messages or its gold calls. Single calls (`get_watchlist()`) are
common to many scenarios, as tools are.

| split | dialogues |
|---|---|
| `train`, `validation` | `multi_turn_base` |
| `in_domain` | `multi_turn_base`, of held-out scenarios |
| `miss_func` | a tool is added late; of held-out scenarios, as the next two |
| `miss_param` | what a call needs is said late |
| `long_context` | tools give long results |

The gold calls are the teacher's (`worked_solution`): they are made one a turn in the sandbox, so
what comes back is real. An attempt is right when the official checker says so. Whoever trained on
these dialogues has no score on the leaderboard's: half of its items are the training's.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any

from mentor_kit.bfcl.checker import read_entries
from mentor_kit.bfcl.items import MULTI_TURN, scenario, scenario_number
from mentor_kit.bfcl.items import load as load_items
from mentor_kit.core.problem import Problem, check_splits
from mentor_kit.core.records import to_json
from mentor_kit.errors import UserError

CATEGORY = {"train": "multi_turn_base", "validation": "multi_turn_base",
            "in_domain": "multi_turn_base", "miss_func": "multi_turn_miss_func",
            "miss_param": "multi_turn_miss_param", "long_context": "multi_turn_long_context"}
# split -> its share of the scenarios, in eighths
SHARES = {"train": (3, 4, 5, 6, 7), "validation": (2,)}
HELD_OUT = (0, 1)
Call = tuple[str, dict[str, Any]]


def load(seed: int, sizes: Mapping[str, int]) -> list[Problem]:
    """The first dialogues of each split, in the leaderboard's order (`seed` is not used: nothing is
    drawn).

    Args:
        sizes: split name (see `CATEGORY`) -> number of dialogues.

    Returns:
        Problems as `mentor_kit.bfcl.items.load` makes them, with the gold calls: `meta["program"]`,
        and how many of them follow each of the user's messages, `meta["calls_per_message"]`.

    Raises:
        UserError: an unknown split, more dialogues than there are, or the checker's environment
            cannot be made.
    """
    check_splits("bfcl_dialogues", sizes, CATEGORY)
    return [p for split, n in sizes.items() for p in _split(split, n)]


def _split(split: str, size: int) -> list[Problem]:
    shares, heads = SHARES.get(split, HELD_OUT), scenarios()
    found = [p for p in load_items(0, {CATEGORY[split]: 0}) if _share(heads, p) in shares]
    if not 0 <= size <= len(found):
        raise UserError(f"bfcl_dialogues: split {split!r} has {len(found)} dialogues, not {size}.")
    entries = {entry["id"]: entry for entry in read_entries(CATEGORY[split])}
    return [_with_gold(replace(p, split=split), entries[p.meta["entry"]]) for p in found[:size]]


def _share(heads: Mapping[int, int], problem: Problem) -> int:
    return sha256(f"scenario {heads[scenario(problem)]}".encode()).digest()[0] % 8


def _with_gold(problem: Problem, entry: Mapping[str, Any]) -> Problem:
    turns = gold_calls(problem, entry)
    program = [{"tool": name, "arguments": arguments} for turn in turns for name, arguments in turn]
    meta = {**problem.meta, "program": program, "calls_per_message": [len(t) for t in turns]}
    return replace(problem, meta=meta)


def gold_calls(problem: Problem, entry: Mapping[str, Any]) -> list[list[Call]]:
    """The gold calls of each user turn; an argument given by place gets the name that the tool's
    schema has there."""
    later = [tool for turn in problem.meta["later_turns"] for tool in turn["tools"]]
    names = {s["function"]["name"]: list(s["function"]["parameters"]["properties"])
             for s in [*problem.meta["tool_schemas"], *later]}
    return [[_call(text, names) for text in turn] for turn in entry["ground_truth"]]


def _call(text: str, names: Mapping[str, Sequence[str]]) -> Call:
    call = ast.parse(text, mode="eval").body
    by_place = zip(names[call.func.id], call.args, strict=False)
    given = [*by_place, *((k.arg, k.value) for k in call.keywords)]
    return call.func.id, {name: ast.literal_eval(value) for name, value in given}


@cache
def scenarios() -> dict[int, int]:
    """Scenario -> the first of those that it must not be parted from."""
    heads: dict[int, int] = {}
    first: dict[str, int] = {}  # who has what is not to be shared
    for category in MULTI_TURN:
        for entry in read_entries(category):
            number = scenario_number(entry["id"])
            for mark in _marks(entry):
                other = _head(heads, first.setdefault(mark, number))
                low, high = sorted((other, _head(heads, number)))
                heads[high] = low
    return {number: _head(heads, number) for number in heads}


def _head(heads: Mapping[int, int], number: int) -> int:
    while heads.get(number, number) != number:
        number = heads[number]
    return number


def _marks(entry: Mapping[str, Any]) -> list[str]:
    """What a dialogue is known by: the initial state, each message, all gold calls in their
    order."""
    said = [message["content"] for messages in entry["question"] for message in messages]
    calls = [ast.unparse(ast.parse(text)) for turn in entry["ground_truth"] for text in turn]
    return [*said, to_json(entry["initial_config"]), to_json(calls)]
