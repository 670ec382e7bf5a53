"""Gold answers of BFCL's multi-turn items as calls, and trajectories of students that are told what
to say."""

from __future__ import annotations

import ast
import json
from functools import cache
from typing import Any

from mentor_kit.bfcl import checker as bfcl
from mentor_kit.bfcl.multi_turn import MultiTurnEnvironment
from mentor_kit.core.chat_markup import render_call
from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn

Calls = list[tuple[str, dict[str, Any]]]
DONE = "Done."


def gold_turns(problem: Problem) -> list[Calls]:
    """The gold calls of each user turn; an argument given by place gets the name that the tool's
    schema has there."""
    later = [tool for turn in problem.meta["later_turns"] for tool in turn["tools"]]
    names = {s["function"]["name"]: list(s["function"]["parameters"]["properties"])
             for s in [*problem.meta["tool_schemas"], *later]}
    truth = _truths(problem.meta["category"])[problem.meta["entry"]]
    return [[_call(text, names) for text in turn] for turn in truth]


@cache
def _truths(category: str) -> dict[str, list[list[str]]]:
    path = (
        bfcl.environment() / "bfcl_eval" / "data" / "possible_answer" / f"BFCL_v4_{category}.json"
    )
    return {row["id"]: row["ground_truth"]
            for row in map(json.loads, path.read_text().splitlines())}


def _call(text: str, names: dict[str, list[str]]) -> tuple[str, dict[str, Any]]:
    call = ast.parse(text, mode="eval").body
    by_place = zip(names[call.func.id], call.args, strict=False)
    given = [*by_place, *((k.arg, k.value) for k in call.keywords)]
    return call.func.id, {name: ast.literal_eval(value) for name, value in given}


def say(calls: Calls, together: bool = True) -> list[str]:
    """The texts of a user turn: the calls in one step or one a step, then a closing word."""
    steps = [calls] if together else [[c] for c in calls]
    return ["\n".join(render_call(*c) for c in step) for step in steps if step] + [DONE]


def play(problem: Problem, turns: list[list[str]]) -> Trajectory:
    """The trajectory of a student that says these texts, user turn by user turn, to the real
    executor."""
    episode, made = MultiTurnEnvironment(problem), []
    for text in (text for texts in turns for text in texts):
        answer = episode.step(Turn(text))
        made.append(Turn(text, "eos", answer.text if answer else ""))
    made[-1] = Turn(made[-1].text)  # whoever says no more ends there
    return Trajectory(problem.id, tuple(made), "student:told")
