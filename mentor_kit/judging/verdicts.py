"""The judge's verdict on a trajectory: right, wrong, or why it has no judged answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mentor_kit.core.environment import environment_class, make_environment
from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.judging.judge import RULES, Verdict, final_answer, judge, require_graders


def answer_of(problem: Problem, trajectory: Trajectory) -> str | None:
    """What is judged: the last box. Where the problem's environment asks for none, the last turn's
    text; None where the dialogue did not come to its end."""
    environment = environment_class(problem)
    if environment is None or environment.boxed:
        return final_answer(trajectory)
    return trajectory.turns[-1].text if trajectory.finish == "eos" else None


def verdict_of(problem: Problem, trajectory: Trajectory, rules: str = "released") -> Verdict:
    """Whether a trajectory is right: by its boxed answer, and where the problem's environment looks
    at the state that was reached, by that too (`mentor_kit.core.environment.Environment.verdict`).
    """
    environment = make_environment(problem)
    state = environment.verdict(trajectory) if environment else None
    if state and not (state[0] and environment.boxed):
        return Verdict(*state)
    return judge(final_answer(trajectory), problem.answers, rules)


def failure_kind(problem: Problem, trajectory: Trajectory) -> str | None:
    """Why a rollout has no judged answer (one of `trajectory.FAILURES`), or None where it has
    one."""
    if trajectory.finish != "eos":
        return trajectory.finish
    return "no_answer" if answer_of(problem, trajectory) is None else None


def judge_trajectory(problem: Problem, trajectory: Trajectory,
                     rules: str = "released") -> dict[str, Any]:
    """The judge's verdict for the trajectory's meta: correct, judged_by, failure."""
    failure = failure_kind(problem, trajectory)
    if failure:
        return {"correct": False, "judged_by": "failure", "failure": failure}
    verdict = verdict_of(problem, trajectory, rules)
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
