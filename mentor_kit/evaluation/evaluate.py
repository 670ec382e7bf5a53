"""Ask a student or a teacher problems, score what came back, and keep every item.

Every asked item is in the denominator: what is overlong, ends at the turn limit, crashes or has no answer is
wrong and counted by kind. A student answers by `rollout(problems, sampling)`; a teacher (an endpoint, a local model,
the worked solutions) is asked as in a collection, so that it can be a row of the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mentor_kit.errors import UserError
from mentor_kit.evaluation.metrics import known_names, summarise
from mentor_kit.judge import final_answer, judge
from mentor_kit.problem import Problem
from mentor_kit.store import Record
from mentor_kit.trajectory import Trajectory, Turn

if TYPE_CHECKING:
    from mentor_kit.students.rollout import Sampling

FAILURES = ("overlong", "tool_cap", "error", "no_answer")
BY_FINISH = {"length": "overlong", "tool_cap": "tool_cap", "error": "error"}
Scorer = Callable[[Sequence[Problem], Sequence[Trajectory]], list[dict[str, Any]]]


def failure_kind(trajectory: Trajectory) -> str | None:
    """Why a rollout has no judged answer, or None: overlong, tool_cap, error, no_answer."""
    if trajectory.finish in BY_FINISH:
        return BY_FINISH[trajectory.finish]
    return None if final_answer(trajectory) else "no_answer"


def verdict_facts(problem: Problem, trajectory: Trajectory) -> dict[str, Any]:
    """The judge's verdict as facts for the trajectory's meta: correct, judged_by, failure."""
    failure = failure_kind(trajectory)
    if failure:
        return {"correct": False, "judged_by": "failure", "failure": failure}
    verdict = judge(final_answer(trajectory), problem.answers)
    return {"correct": verdict.correct, "judged_by": verdict.by, "failure": None}


def judge_answers(problems: Sequence[Problem], trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """The scorer of mathematics: `verdict_facts` of each."""
    return [verdict_facts(p, t) for p, t in zip(problems, trajectories, strict=True)]


def evaluate(solver: Any, problems: Sequence[Problem], references: Mapping[str, Trajectory],
             sampling: Sampling | None = None, *, facts: Mapping[str, Any] | None = None, batch_size: int = 128,
             progress: Callable[[int], None] | None = None, scorer: Scorer = judge_answers,
             samples: Sequence[int] | None = None) -> list[Record]:
    """Ask every problem once and score it.

    Args:
        solver: a Student, or a teacher.
        references: problem id -> teacher trajectory, where there is one.
        facts: added to every trajectory's meta (method, seed, ...).
        scorer: verdicts of all answers: at least `correct`, `judged_by`, `failure`; further numbers under `scores`.
        samples: the sample index of each problem (0 where one is asked once).

    Returns:
        One judged record per problem, in order.

    Raises:
        Exception: what the solver raised, where it raised for every one of several items: that is no item's failure.
    """
    samples = samples or [0] * len(problems)
    answers = _answers(solver, problems, samples, sampling, batch_size, progress)
    records = []
    for problem, answer, verdict in zip(problems, answers, scorer(problems, answers), strict=True):
        trajectory = answer.with_meta(**verdict, **(facts or {}))
        records.append(Record(problem, trajectory, references.get(problem.id)))
    return records


def _answers(solver: Any, problems: Sequence[Problem], samples: Sequence[int], sampling: Sampling | None,
             batch_size: int, progress: Callable[[int], None] | None) -> list[Trajectory]:
    answers: list[Trajectory] = []
    errors: list[Exception] = []
    for start in range(0, len(problems), batch_size):
        batch, numbers = problems[start:start + batch_size], samples[start:start + batch_size]
        answers += _guarded(solver, batch, numbers, batch_sampling(sampling, start // batch_size), errors)
        if progress:
            progress(len(batch))
    if len(errors) == len(problems) > 1:
        raise errors[-1]
    return answers


def batch_sampling(sampling: Sampling | None, batch: int) -> Sampling | None:
    """The settings of the n-th batch: sampled batches have seeds of their own, or equal prompts would repeat."""
    if batch == 0 or sampling is None or sampling.temperature == 0:
        return sampling
    return replace(sampling, seed=int(np.random.SeedSequence([sampling.seed, batch]).generate_state(1)[0]))


def _guarded(solver: Any, problems: Sequence[Problem], samples: Sequence[int], sampling: Sampling | None,
             errors: list[Exception]) -> list[Trajectory]:
    """One trajectory an item. Where a batch raises, its items are asked one by one, so that one bad item costs only
    itself; it is kept with its error and counts as wrong. What a user did wrong is raised, never scored."""
    try:
        return _ask(solver, problems, samples, sampling)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it was: kept with the item, and raised where all items meet it
        if len(problems) > 1:
            pairs = zip(problems, samples, strict=True)
            return [t for p, s in pairs for t in _guarded(solver, [p], [s], sampling, errors)]
        errors.append(error)
        reason = f"{type(error).__name__}: {error}"[:300]
        return [Trajectory(problems[0].id, (Turn("", "error"),), _producer(solver), samples[0], {"error": reason})]


def _ask(solver: Any, problems: Sequence[Problem], samples: Sequence[int], sampling: Sampling | None
         ) -> list[Trajectory]:
    if hasattr(solver, "rollout"):
        answers = solver.rollout(problems, sampling, batch_size=len(problems))
        return [replace(t, sample=s) for t, s in zip(answers, samples, strict=True)]
    return _attempts(solver, problems, samples)


def _attempts(teacher: Any, problems: Sequence[Problem], samples: Sequence[int]) -> list[Trajectory]:
    """A teacher's attempts, accepted or not; without any call it is an empty turn that finished by `error`."""
    from mentor_kit.asking import ask_all
    from mentor_kit.collect import as_record

    made: dict[tuple[str, int], Trajectory] = {}

    def keep(problem: Problem, sample: int, found: Any) -> None:
        made[problem.id, sample] = as_record(problem, sample, found, teacher.name).trajectory

    pairs = list(zip(problems, samples, strict=True))
    ask_all(teacher, pairs, keep)
    return [replace(made[p.id, s], sample=s) for p, s in pairs]


def _producer(solver: Any) -> str:
    return f"{'student' if hasattr(solver, 'rollout') else 'teacher'}:{solver.name}"


def validation_metrics(student: Any, validation: Sequence[Record]) -> dict[str, float]:
    """Greedy accuracy and teacher likeness on validation records (their trajectories are the references)."""
    records = evaluate(student, [r.problem for r in validation], as_mapping(validation))
    summary = summarise(records, known_names(validation[0].problem))
    keys = {"accuracy": "correct", "set_match": "set_match", "unknown_tool": "unknown_tool", "box_rate": "boxed",
            "tool_calls": "n_calls", "executed_calls": "n_executed", "similarity": "similarity_pooled"}
    return {name: summary[key] for name, key in keys.items()}


def sample_groups(student: Any, teacher: Sequence[Record], group_size: int, sampling: Sampling) -> list[Record]:
    """`group_size` sampled and judged rollouts of each teacher record's problem, group by group."""
    asked = [r.problem for r in teacher for _ in range(group_size)]
    rollouts = student.rollout(asked, sampling)
    numbered = [replace(t, sample=i % group_size) for i, t in enumerate(rollouts)]
    references = as_mapping(teacher)
    return [Record(p, t.with_meta(**verdict_facts(p, t)), references.get(p.id))
            for p, t in zip(asked, numbered, strict=True)]


def as_mapping(teacher: Sequence[Record]) -> dict[str, Trajectory]:
    """Problem id -> the record's trajectory."""
    return {r.problem.id: r.trajectory for r in teacher}
