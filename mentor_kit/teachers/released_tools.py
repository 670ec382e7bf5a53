"""References from the released data, which names the tools its teacher used but holds no
trajectories.

A reference is a skeleton: the named calls, in order and without arguments, then the answer. Rewards
that compare tool names (`mentor`, `set_f1`, ...) read all they need from it; it is no text to
imitate, so train it by RL, not by SFT.
"""

from __future__ import annotations

from dataclasses import dataclass

from mentor_kit.core.chat_markup import render_call
from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.teachers.attempt import Attempt


@dataclass(frozen=True)
class ReleasedToolsTeacher:
    """`solve` gives the skeleton of `problem.meta["teacher_tools"]`; rejected as `no_tool` where
    there are none."""

    name = "released_tools"
    instant = True

    def solve(self, problem: Problem, sample: int = 0) -> Attempt:
        names = problem.meta.get("teacher_tools") or ()
        if not names:
            return Attempt(None, False, "no_tool")
        calls = "\n".join(render_call(name, {}) for name in names)
        text = f"{calls}\nThe answer is \\boxed{{{problem.answers[0]}}}."
        return Attempt(Trajectory(problem.id, (Turn(text),), f"teacher:{self.name}", sample,
                                  {"skeleton": True}), True,
                       "accepted")
