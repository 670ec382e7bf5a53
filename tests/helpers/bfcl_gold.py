"""Gold answers of BFCL's multi-turn items as calls, and trajectories of students that are told what
to say."""

from __future__ import annotations

from typing import Any

from mentor_kit.bfcl import checker as bfcl
from mentor_kit.bfcl.dialogues import gold_calls
from mentor_kit.bfcl.multi_turn import MultiTurnEnvironment
from mentor_kit.core.chat_markup import render_call
from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn

Calls = list[tuple[str, dict[str, Any]]]
DONE = "Done."


def gold_turns(problem: Problem) -> list[Calls]:
    """The gold calls of each user turn."""
    entries = bfcl.read_entries(problem.meta["category"])
    return gold_calls(problem, next(e for e in entries if e["id"] == problem.meta["entry"]))


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
