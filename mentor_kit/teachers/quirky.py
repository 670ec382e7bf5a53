"""A teacher whose answers are all right and whose calls are not all needed: the offline teacher
with idle calls.

Idle calls change no result: a call is made twice in a row, or the first call is preceded by one
whose result nobody uses. Imitation learns them; a reward that looks at outcomes, or at the set of
tools, does not have to.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from mentor_kit.core.problem import Problem, seeded
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.problems.worked.calls import Call
from mentor_kit.teachers.attempt import Attempt
from mentor_kit.teachers.worked_solution import WorkedSolutionTeacher


@dataclass(frozen=True)
class QuirkyTeacher(WorkedSolutionTeacher):
    """The offline teacher with idle calls.

    Args:
        repeat: chance that a call is made a second time.
        irrelevant: chance of an irrelevant first call: another tool, the first call's arguments. It
            is one of the problem's `meta["shown_tools"]` where it has some.
        max_turns: idle calls are left out where a trajectory would have more turns, answer
            included.
        seed: of the draws; each problem and sample has its own.

    Raises:
        UserError: for a chance outside 0..1.
    """

    repeat: float = 0.5
    irrelevant: float = 0.3
    max_turns: int = 8
    seed: int = 0
    name = "quirky"

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("repeat", "irrelevant"):
            if not 0 <= getattr(self, option) <= 1:
                raise UserError(f"Teacher option {option}={getattr(self, option)!r} is not a "
                                "chance: give a number from 0 to 1.")

    def solve(self, problem: Problem, sample: int = 0) -> Attempt:
        """One attempt; each sample has idle calls of its own.

        Raises:
            UserError: the problem has an environment of its own, in which a call may not be idle.
        """
        if "calls_per_message" in problem.meta:
            raise UserError("Teacher 'quirky' makes idle calls, and a call may change the state of "
                            f"{problem.id!r}: use teacher 'worked_solution'.")
        return super().solve(problem, sample)

    def _trajectory(self, calls: list[Call], problem: Problem, sample: int) -> Trajectory:
        who = zlib.crc32(problem.id.encode("utf-8", "replace"))
        idle = list(self._with_idle(calls, problem, seeded(self.seed, who, sample)))
        return super()._trajectory(idle, problem, sample)

    def _with_idle(self, calls: list[Call], problem: Problem, rng: Random) -> Iterator[Call]:
        spare = self.max_turns - 1 - len(calls)
        irrelevant = self._irrelevant(calls[0], problem, rng)
        if rng.random() < self.irrelevant and irrelevant and spare > 0:
            spare -= 1
            yield irrelevant
        for call in calls:
            yield call
            if rng.random() < self.repeat and spare > 0:
                spare -= 1
                yield call

    def _irrelevant(self, first: Call, problem: Problem, rng: Random) -> Call | None:
        """Another tool with the first call's arguments, carried out; None where none takes them."""
        toolbox = load_toolbox(problem.toolbox)
        names = [n for n in problem.meta.get("shown_tools", toolbox.names) if n != first.name
                 and list(toolbox.tools[n].parameters) == list(first.arguments)]
        name = rng.choice(names) if names else first.name
        observation = toolbox.execute(name, first.arguments)
        if name == first.name or not observation.ok:
            return None
        return Call(name, first.arguments, observation.content, first.short, first.full)
