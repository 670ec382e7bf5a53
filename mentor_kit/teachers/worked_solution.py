"""The offline teacher: a worked solution as a verified tool trajectory (see
`mentor_kit.problems.worked.calls`)."""

from __future__ import annotations

from dataclasses import dataclass

from mentor_kit.core.chat_markup import render_call, render_environment
from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.problems.worked.calls import Call, work_out
from mentor_kit.teachers.attempt import Attempt

REASONING = ("short", "full", "none")


@dataclass(frozen=True)
class WorkedSolutionTeacher:
    """The teacher that needs no model.

    Args:
        reasoning: the text before each call: `short` (at most six words, derived from the unit of
            the result), `full` (the worked solution's own words before the equation) or `none`.

    Raises:
        UserError: for an unknown `reasoning`.
    """

    reasoning: str = "short"
    name = "worked_solution"
    # deterministic and quick: its attempts are made again rather than kept one by one
    instant = True

    def __post_init__(self) -> None:
        if self.reasoning not in REASONING:
            raise UserError(f"Teacher option reasoning={self.reasoning!r} is unknown: use one of "
                            f"{REASONING}.")

    def solve(self, problem: Problem, sample: int = 0) -> Attempt:
        """One attempt. Deterministic: every sample is the same."""
        calls, reason = work_out(problem)
        trajectory = self._trajectory(calls, problem, sample) if calls else None
        return Attempt(trajectory, reason == "accepted", reason)

    def _trajectory(self, calls: list[Call], problem: Problem, sample: int) -> Trajectory:
        turns = [Turn("\n".join(filter(None, [self._words(c), render_call(c.name, c.arguments)])),
                      "eos",
                      render_environment([c.result])) for c in calls]
        turns.append(Turn(f"The answer is \\boxed{{{calls[-1].result}}}."))
        return Trajectory(problem.id, tuple(turns), f"teacher:{self.name}", sample)

    def _words(self, call: Call) -> str:
        return {"short": call.short, "full": call.full or call.short, "none": ""}[self.reasoning]
