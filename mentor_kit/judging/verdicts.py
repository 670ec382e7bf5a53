"""The judge's verdict on a trajectory: right, wrong, or why it has no judged answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.judging.judge import RULES, final_answer, judge, require_graders


def failure_kind(trajectory: Trajectory) -> str | None:
    """Why a rollout has no judged answer (one of `trajectory.FAILURES`), or None where it has
    one."""
    if trajectory.finish != "eos":
        return trajectory.finish
    return None if final_answer(trajectory) else "no_answer"


def judge_trajectory(problem: Problem, trajectory: Trajectory,
                     rules: str = "released") -> dict[str, Any]:
    """The judge's verdict for the trajectory's meta: correct, judged_by, failure."""
    failure = failure_kind(trajectory)
    if failure:
        return {"correct": False, "judged_by": "failure", "failure": failure}
    verdict = judge(final_answer(trajectory), problem.answers, rules)
    return {"correct": verdict.correct, "judged_by": verdict.by, "failure": None}


def judge_answers(problems: Sequence[Problem], trajectories: Sequence[Trajectory],
                  rules: str = "released") -> list[dict[str, Any]]:
    """The scorer of mathematics: `judge_trajectory` of each.

    Where the two judges differ on one of the answers, each bears the other one's verdict too:
    `scores` holds `released judge` or `strict judge`, 0 or 1.

    Raises:
        UserError: a grader is missing.
    """
    require_graders()
    verdicts, others = ([judge_trajectory(p, t, r) for p, t in zip(problems, trajectories,
                                                                   strict=True)]
                        for r in sorted(RULES, key=rules.__ne__))
    if [v["correct"] for v in verdicts] != [o["correct"] for o in others]:
        (other,) = set(RULES) - {rules}
        for verdict, second in zip(verdicts, others, strict=True):
            verdict["scores"] = {f"{other} judge": float(second["correct"])}
    return verdicts


def judge_strictly(problems: Sequence[Problem],
                   trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """`judge_answers` by the strict judge."""
    return judge_answers(problems, trajectories, "strict")
