"""Handwritten rollouts over one small problem: what each reward pays for good and for bad
behaviour.

Notebook 02 draws them as a heat map (preset x behaviour); the tests keep the released formulas'
pathologies on record.
"""

from __future__ import annotations

import json
from typing import Any

from mentor_kit.core.chat_markup import render_call, render_environment
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.toolboxes.arithmetic import ARITHMETIC

PROBLEM = Problem(
    "behaviours/boxes",
    "A shelf holds 4 boxes of 28 books each. 12 books are lent out. How many are left?",
    ("100",),
    "behaviours",
    "design",
)
MULTIPLY = ("multiply", {"a": 4, "b": 28})
SUBTRACT = ("subtract", {"a": 112, "b": 12})
RIGHT, WRONG = "The answer is \\boxed{100}.", "The answer is \\boxed{124}."


def rollout(calls: list[tuple[str, dict[str, Any]]
                        | str], answer: str, *, execute: bool = True) -> Trajectory:
    """A trajectory with one call a turn; a text stands for the exact (malformed) content of a call.

    With `execute=False` the last turn's call gets no result, as at the cap on turns, and `answer`
    stands beside it.
    """
    turns = []
    for call in calls:
        malformed = isinstance(call, str)
        text = f"<tool_call>\n{call}\n</tool_call>" if malformed else render_call(*call)
        result = "{'error': 'Malformed call.'}" if malformed else ARITHMETIC.execute(*call).content
        turns.append(Turn(text, env_response=render_environment([result])))
    if execute:
        turns.append(Turn(answer))
    else:
        turns[-1] = Turn(f"{answer}\n{turns[-1].text}", "max_turns")
    return Trajectory(PROBLEM.id, tuple(turns), producer="behaviour")


REFERENCE = rollout([MULTIPLY, SUBTRACT], RIGHT)


def _rollouts() -> dict[str, Trajectory]:
    steps = [MULTIPLY, SUBTRACT]
    broken = json.dumps({"name": "subtract", "arguments": {"a": 112, "b": 12}})[:-2]
    dummies = [("multiply", {"a": 0, "b": 0}), ("subtract", {"a": 0, "b": 0})]
    cut = Turn("I multiply 4 by 28 and then", "length")
    return {
        "perfect": rollout(steps, RIGHT),
        "other order": rollout([SUBTRACT, MULTIPLY], RIGHT),
        "extra valid tool": rollout([*steps, ("abs_value", {"x": 100})], RIGHT),
        "hallucinated tool": rollout([*steps, ("count_books", {"a": 100})], RIGHT),
        "missing tool": rollout([MULTIPLY], RIGHT),
        "repeated calls": rollout([MULTIPLY, MULTIPLY, *steps], RIGHT),
        "dummy calls": rollout(dummies, RIGHT),
        "never executed": rollout(steps, RIGHT, execute=False),
        "failed call": rollout([MULTIPLY, ("subtract", {"a": 112})], RIGHT),
        "malformed call": rollout([MULTIPLY, broken, SUBTRACT], RIGHT),
        "no tools": rollout([], RIGHT),
        "wrong answer, right tools": rollout(steps, WRONG),
        "wrong answer, hallucinated tool": rollout([("count_books", {"a": 100})], WRONG),
        "no box": rollout(steps, "The answer is 100."),
        "not ended": Trajectory(PROBLEM.id, (*REFERENCE.turns[:-1], cut), producer="behaviour"),
    }


def behaviours() -> list[tuple[str, Record]]:
    """(name, record) of each behaviour, the reference being the perfect rollout."""
    return [(name, Record(PROBLEM, trajectory, REFERENCE)) for name,
            trajectory in _rollouts().items()]
