"""The offline teacher: a worked solution as a verified tool trajectory (see
`mentor_kit.problems.worked.calls`).

A problem with an environment of its own is played in it: its calls (`meta["program"]`, so many
after each of the user's messages as `meta["calls_per_message"]` says), each in a turn of its own,
and after those of a message a turn without one. What comes back is real, and the attempt is judged
as that of any model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mentor_kit.core.chat_markup import render_call, render_environment
from mentor_kit.core.environment import make_environment
from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.problems.worked.calls import Call, work_out
from mentor_kit.teachers.attempt import Attempt, judged

REASONING = ("short", "full", "none")
NEXT, DONE = "Next step.", "Done."


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
        if "calls_per_message" in problem.meta:
            return judged(self._played(problem, sample), problem)
        calls, reason = work_out(problem)
        trajectory = self._trajectory(calls, problem, sample) if calls else None
        return Attempt(trajectory, reason == "accepted", reason)

    def _trajectory(self, calls: list[Call], problem: Problem, sample: int) -> Trajectory:
        turns = [Turn(self._text(c), "eos", render_environment([c.result])) for c in calls]
        turns.append(Turn(f"The answer is \\boxed{{{calls[-1].result}}}."))
        return Trajectory(problem.id, tuple(turns), f"teacher:{self.name}", sample)

    def _played(self, problem: Problem, sample: int) -> Trajectory:
        environment, turns, results = make_environment(problem), [], []
        program = iter(problem.meta["program"])
        for number in problem.meta["calls_per_message"]:
            for _ in range(number):
                step = next(program)
                arguments = {n: _value(v, results) for n, v in step["arguments"].items()}
                call = Call(step["tool"], arguments, "", NEXT, NEXT)
                turns.append(environment.answered(self._text(call)))
                results += [c.observation.content for c in turns[-1].calls if c.observation]
            turns.append(environment.answered(DONE))
        if environment.boxed and results:
            turns[-1] = Turn(f"The answer is \\boxed{{{results[-1]}}}.")
        return Trajectory(problem.id, tuple(turns), f"teacher:{self.name}", sample)

    def _text(self, call: Call) -> str:
        return "\n".join(filter(None, [self._words(call), render_call(call.name, call.arguments)]))

    def _words(self, call: Call) -> str:
        return {"short": call.short, "full": call.full or call.short, "none": ""}[self.reasoning]


def _value(value: Any, results: list[str]) -> Any:
    """An argument as it is called with: `{"result": k}` is the result of the k-th call."""
    is_result = isinstance(value, Mapping) and list(value) == ["result"]
    return results[value["result"]] if is_result else value
