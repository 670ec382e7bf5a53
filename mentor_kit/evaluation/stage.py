"""The calls of notebook 04: a trained student on every evaluation split and benchmark, and what
came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mentor_kit.analysis.findings import Finding
from mentor_kit.collection.collection import TRAJECTORIES, Collection
from mentor_kit.core.problem import known_tools
from mentor_kit.core.records import Record, save_records
from mentor_kit.errors import UserError
from mentor_kit.evaluation.benchmarks.registry import write_facts
from mentor_kit.evaluation.config import DesignConfig, EvaluateConfig
from mentor_kit.evaluation.evaluate import sample_groups
from mentor_kit.evaluation.tasks import Task, benchmark_tasks, evaluate_tasks
from mentor_kit.metrics.trajectories import (
    exact_repeats_with_wrong_answer,
    is_miscopied_last_result,
    record_metrics,
    summarise,
)
from mentor_kit.runs.open import load_run
from mentor_kit.runs.run import Run

if TYPE_CHECKING:
    from mentor_kit.students.rollout import Sampling
    from mentor_kit.students.student import Student

NOT_EVALUATED = ("train", "validation")
UNTRAINED = "base"  # the row of a pretrained student as it is; the paper calls it Vanilla


def evaluation_splits(collection: Collection, asked: list[str]) -> list[str]:
    """The splits to evaluate: those asked for, or all but train and validation.

    Raises:
        UserError: a split that the collection does not hold.
    """
    missing = [s for s in asked if s not in collection.splits]
    if missing:
        raise UserError(f"splits: {missing[0]!r} is not in the collection; it holds "
                        f"{', '.join(collection.splits)}.")
    return asked or [s for s in collection.splits if s not in NOT_EVALUATED]


def method_label(trained_method: str, constrained: bool) -> str:
    """The row of this run in tables: the training method, `_constrained` where decoding was
    constrained (a control)."""
    return f"{trained_method}_constrained" if constrained else trained_method


def inputs(config: EvaluateConfig | DesignConfig) -> dict[str, Run]:
    """The runs this run is made from: the teacher's, and the student's (none for an untrained
    student)."""
    found = {"teacher_run": load_run(config.teacher_run, stage="collect")}
    if config.student_run != "none":
        latest = "cold_start" if isinstance(config, DesignConfig) else "train"
        found["student_run"] = load_run(config.student_run, stage=latest)
    return found


def load_asked(config: EvaluateConfig | DesignConfig, trained: Run | None, collection: Collection,
               constrained: bool = False) -> tuple[Student, str]:
    """The student of a training run, or the untrained one; and the row it is in tables (see
    `method_label`)."""
    from mentor_kit.students.student import load_student

    method = method_label(trained.params["method"] if trained else UNTRAINED, constrained)
    source, template = (trained.path("student"), "own") if trained else (config.student_source,
                                                                         config.student_template)
    toolbox = collection.records[0].problem.toolbox
    return load_student(source, toolbox, name=method, backend="auto", template=template), method


def sample_rollouts(
    config: DesignConfig, student: Student, collection: Collection, run: Run
) -> list[Record]:
    """Groups of sampled rollouts on training problems, judged; stored in the run."""
    from mentor_kit.students.rollout import Sampling

    teacher = collection.accepted("train")[:config.prompts]
    settings = Sampling(temperature=config.temperature, max_new_tokens=config.max_new_tokens,
                        seed=config.seed)
    rollouts = sample_groups(student, teacher, config.group_size, settings)
    save_records(run.path(TRAJECTORIES), rollouts)
    return rollouts


def evaluate_splits(config: EvaluateConfig, student: Student, collection: Collection, method: str,
                    run: Run) -> list[Record]:
    """Evaluate the collection's splits, then the benchmarks; resumes item by item. Stores all
    records."""
    asked = sampling(config)
    tasks = [Task(split, [r.problem for r in collection.split(split)], student, asked,
                  attempts=[r for r in collection.records if r.problem.split == split])
             for split in evaluation_splits(collection, config.splits)]
    if config.benchmarks:
        declared, facts = benchmark_tasks(config, student, asked)
        write_facts(facts, run)
        tasks += declared
    return evaluate_tasks(tasks, run, samples=config.samples, batch_size=config.batch_size,
                          facts={"method": method, "seed": config.seed},
                          description=f"evaluate {method}")


def sampling(config: EvaluateConfig) -> Sampling:
    """The sampling settings of a configuration, stored with every trajectory."""
    from mentor_kit.students.rollout import Sampling

    return Sampling(temperature=config.temperature, top_p=config.top_p, top_k=config.top_k,
                    seed=config.seed,
                    max_turns=config.max_turns, max_new_tokens=config.max_new_tokens,
                    constrain_tool_names=config.constrain_tool_names)


def split_summary(records: list[Record]) -> pd.DataFrame:
    """`summarise` of each split as a row, in the order of the records."""
    splits = dict.fromkeys(r.problem.split for r in records)
    rows = {s: [r for r in records if r.problem.split == s] for s in splits}
    return pd.DataFrame({s: summarise(rs) for s, rs in rows.items()}).T


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


def headline(records: list[Record]) -> dict[str, float]:
    """Judge accuracy by split, for the run's DONE file."""
    return {f"accuracy/{split}": float(value) for split,
            value in split_summary(records)["correct"].items()}
