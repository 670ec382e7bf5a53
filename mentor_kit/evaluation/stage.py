"""The calls of notebook 04: a student on every evaluation split and benchmark, and what came of
it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mentor_kit.analysis.sentences import Finding
from mentor_kit.bfcl.items import scenario
from mentor_kit.collection.collection import Collection
from mentor_kit.core.problem import LEARNT_FROM, known_tools
from mentor_kit.core.records import Record
from mentor_kit.errors import UserError
from mentor_kit.evaluation.benchmarks.registry import write_provenance
from mentor_kit.evaluation.benchmarks.scorers import JUDGES
from mentor_kit.evaluation.config import EvaluateConfig
from mentor_kit.evaluation.students import sampling
from mentor_kit.evaluation.tasks import Task, benchmark_tasks, evaluate_tasks, perturbed_tasks
from mentor_kit.metrics.trajectories import (
    by_split,
    exact_repeats_with_wrong_answer,
    is_miscopied_last_result,
    record_metrics,
    summarise,
)
from mentor_kit.runs.run import Run

if TYPE_CHECKING:
    from mentor_kit.students.student import Student


def evaluation_splits(collection: Collection, wanted: list[str]) -> list[str]:
    """The splits to evaluate: the wanted ones, each once, or all but those to learn from.

    Raises:
        UserError: a split that the collection does not hold.
    """
    missing = [s for s in wanted if s not in collection.splits]
    if missing:
        raise UserError(f"splits: {missing[0]!r} is not in the collection; it holds "
                        f"{', '.join(collection.splits)}.")
    every = [s for s in collection.splits if s not in LEARNT_FROM]
    return list(dict.fromkeys(wanted)) or every


def evaluate_splits(config: EvaluateConfig, student: Student, collection: Collection, method: str,
                    run: Run) -> list[Record]:
    """Evaluate the collection's splits, then the benchmarks; resumes item by item. Stores all
    records."""
    settings, tasks = sampling(config), []
    for split in evaluation_splits(collection, config.splits):
        attempts = [r for r in collection.records if r.problem.split == split]
        tasks.append(Task(split, [r.problem for r in collection.split(split)], student, settings,
                          JUDGES[config.judge], attempts=attempts))
    if config.benchmarks:
        declared, provenance = benchmark_tasks(config, student, settings)
        _refuse_learnt(declared, collection)
        write_provenance(provenance, run)
        tasks += declared
    tasks += perturbed_tasks(tasks, config.perturbations)
    return evaluate_tasks(tasks, run, samples=config.samples, batch_size=config.batch_size,
                          meta={"method": method, "seed": config.seed},
                          description=f"evaluate {method}")


def _refuse_learnt(tasks: list[Task], collection: Collection) -> None:
    """Raise UserError where a benchmark asks what the collection teaches: a student trained on
    BFCL's dialogues may know them."""
    learnt = {scenario(r.problem) for r in collection.records if r.problem.split in LEARNT_FROM}
    for task in tasks:
        seen = sum(scenario(p) in learnt - {None} for p in task.problems)
        if seen:
            raise UserError(f"{seen} of the {len(task.problems)} items of benchmark {task.name!r} "
                            "are of scenarios that the teacher's collection trains on: leave it "
                            "out of benchmarks and evaluate the collection's held-out splits.")


def split_summary(records: list[Record]) -> pd.DataFrame:
    """`summarise` of each split as a row, in the order of the records."""
    return pd.DataFrame({s: summarise(group) for s, group in by_split(records).items()}).T


def repeat_check(records: list[Record]) -> pd.Series:
    """Rollouts that repeat the teacher's calls exactly, those of them that are wrong, and why.

    `unexplained` must be 0: a repeated sequence of calls ends in the right result, so a wrong
    answer can only be a last result that was mis-copied into the box, or a box that was never
    opened or closed.
    """
    wrong = exact_repeats_with_wrong_answer(records)
    miscopied = sum(is_miscopied_last_result(r) for r in wrong)
    never_boxed = sum(r.trajectory.meta["failure"] in ("length", "no_answer") for r in wrong)
    metrics = [record_metrics(r, known_tools(r.problem)) for r in records]
    return pd.Series({"rollouts": len(records),
                      "executed_calls": sum(m["n_executed"] for m in metrics),
                      "exact_repeats": sum(m["repeats_teacher_exactly"] for m in metrics),
                      "of_these_wrong": len(wrong),
                      "miscopied": miscopied, "never_boxed": never_boxed,
                      "unexplained": len(wrong) - miscopied - never_boxed}, name="count", dtype=int)


def repeat_finding(records: list[Record]) -> Finding:
    """`repeat_check` in a sentence: all is well, or how many wrong repeats nothing explains."""
    counts = repeat_check(records)
    text = (f"{counts['exact_repeats']:,} of {counts['rollouts']:,} answers repeat the teacher's "
            f"calls exactly; {counts['of_these_wrong']:,} of these are wrong")
    if not counts["unexplained"]:
        return Finding(f"{text}, each explained by its last step: our rollouts pass the check."
                       if counts["of_these_wrong"] else f"{text}: our rollouts pass the check.")
    return Finding(f"{text}, and nothing explains {counts['unexplained']:,} of them: look for a "
                   "bug in the rollouts.")


def accuracy_summary(records: list[Record]) -> dict[str, float]:
    """Judge accuracy by split, for the run's DONE file."""
    return {f"accuracy/{split}": float(value)
            for split, value in split_summary(records)["correct"].items()}
