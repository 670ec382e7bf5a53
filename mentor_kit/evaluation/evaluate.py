"""Evaluate a student on problems: roll out, judge, and keep every item.

Every asked item is in the denominator: what is overlong, ends at the turn limit or has no answer is
wrong and counted by kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mentor_kit.evaluation.metrics import summarise
from mentor_kit.judge import final_answer, judge
from mentor_kit.problem import Problem
from mentor_kit.store import Record
from mentor_kit.toolbox import load_toolbox
from mentor_kit.trajectory import Trajectory

if TYPE_CHECKING:
    from mentor_kit.students.rollout import Sampling
    from mentor_kit.students.student import Student

FAILURES = ("overlong", "tool_cap", "error", "no_answer")


def failure_kind(trajectory: Trajectory) -> str | None:
    """Why a rollout has no judged answer, or None: overlong, tool_cap, error, no_answer."""
    by_finish = {"length": "overlong", "tool_cap": "tool_cap", "error": "error"}
    if trajectory.finish in by_finish:
        return by_finish[trajectory.finish]
    return None if final_answer(trajectory) else "no_answer"


def verdict_facts(problem: Problem, trajectory: Trajectory) -> dict[str, Any]:
    """The judge's verdict as facts for the trajectory's meta: correct, judged_by, failure."""
    failure = failure_kind(trajectory)
    if failure:
        return {"correct": False, "judged_by": "failure", "failure": failure}
    verdict = judge(final_answer(trajectory), problem.answers)
    return {"correct": verdict.correct, "judged_by": verdict.by, "failure": None}


def evaluate(student: Student, problems: Sequence[Problem], references: Mapping[str, Trajectory],
             sampling: Sampling | None = None, *, facts: Mapping[str, Any] | None = None, batch_size: int = 128,
             progress: Callable[[int], None] | None = None) -> list[Record]:
    """Ask every problem once and judge it.

    Args:
        references: problem id -> teacher trajectory, where there is one.
        facts: added to every trajectory's meta (method, seed, ...).

    Returns:
        One judged record per problem, in order.
    """
    trajectories = student.rollout(problems, sampling, batch_size=batch_size, progress=progress)
    records = []
    for problem, trajectory in zip(problems, trajectories, strict=True):
        meta = {**verdict_facts(problem, trajectory), **(facts or {})}
        records.append(Record(problem, trajectory.with_meta(**meta), references.get(problem.id)))
    return records


def validation_metrics(student: Student, validation: Sequence[Record]) -> dict[str, float]:
    """Greedy accuracy and teacher likeness on validation records (their trajectories are the references)."""
    records = evaluate(student, [r.problem for r in validation], as_mapping(validation))
    summary = summarise(records, load_toolbox(validation[0].problem.toolbox).names)
    keys = {"accuracy": "correct", "set_match": "set_match", "unknown_tool": "unknown_tool", "box_rate": "boxed",
            "tool_calls": "n_calls", "executed_calls": "n_executed", "similarity": "similarity_pooled"}
    return {name: summary[key] for name, key in keys.items()}


def sample_groups(student: Student, teacher: Sequence[Record], group_size: int, sampling: Sampling) -> list[Record]:
    """`group_size` sampled and judged rollouts of each teacher record's problem, group by group."""
    asked = [r for r in teacher for _ in range(group_size)]
    rollouts = evaluate(student, [r.problem for r in asked], as_mapping(teacher), sampling)
    return [replace(r, trajectory=replace(r.trajectory, sample=i % group_size)) for i, r in enumerate(rollouts)]


def as_mapping(teacher: Sequence[Record]) -> dict[str, Trajectory]:
    """Problem id -> the record's trajectory."""
    return {r.problem.id: r.trajectory for r in teacher}
