"""Collection: problems of a source, a teacher's attempt at each, and everything stored with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from mentor_kit.configs import CollectConfig, parse_options
from mentor_kit.problem import Problem
from mentor_kit.problems import load_problems
from mentor_kit.progress import progress_bar
from mentor_kit.runs import Run
from mentor_kit.store import Record, load_records, save_records
from mentor_kit.teachers import load_teacher
from mentor_kit.trajectory import Trajectory, Turn

TRAJECTORIES = "trajectories.parquet"


@dataclass(frozen=True)
class Collection:
    """Every attempt of a teacher, accepted or not, in the order of the problems.

    Each record's trajectory has `meta["accepted"]` and `meta["reason"]`.
    """

    records: tuple[Record, ...]

    def split(self, *names: str) -> list[Record]:
        """All attempts of the named splits."""
        return [r for r in self.records if r.problem.split in names]

    def accepted(self, *names: str) -> list[Record]:
        """Accepted attempts, of the named splits or of all: these trajectories are references."""
        return [r for r in self.records if r.trajectory.meta["accepted"] and (not names or r.problem.split in names)]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(r.problem.split for r in self.records))

    def attempts(self) -> list[tuple[Problem, bool, str, Trajectory]]:
        """Every attempt as (problem, accepted, reason, trajectory), for figures."""
        return [(r.problem, r.trajectory.meta["accepted"], r.trajectory.meta["reason"], r.trajectory)
                for r in self.records]

    def rejected_examples(self, n: int) -> list[Record]:
        """The first rejected attempt of each reason, at most n."""
        first = {r.trajectory.meta["reason"]: r for r in reversed(self.records) if not r.trajectory.meta["accepted"]}
        return list(first.values())[:n]

    def counts(self) -> dict[str, int]:
        """How many were asked and accepted, by split."""
        accepted = Counter(r.problem.split for r in self.accepted())
        asked = Counter(r.problem.split for r in self.records)
        return {f"{name}/{split}": counter[split] for split in self.splits
                for name, counter in (("asked", asked), ("accepted", accepted))}

    def reasons(self) -> pd.DataFrame:
        """Counts of each outcome by split."""
        counts = Counter((r.problem.split, r.trajectory.meta["reason"]) for r in self.records)
        frame = pd.Series(counts, name="items").rename_axis(["split", "outcome"]).reset_index()
        return frame.pivot_table(index="split", columns="outcome", values="items", fill_value=0, sort=False).astype(int)


def attempt(problem: Problem, teacher: object, sample: int = 0) -> Record:
    """One attempt as a record. An attempt without any call keeps an empty turn that finished by `error`."""
    result = teacher.solve(problem, sample)
    trajectory = result.trajectory or Trajectory(problem.id, (Turn("", "error"),), f"teacher:{teacher.name}", sample)
    return Record(problem, trajectory.with_meta(accepted=result.accepted, reason=result.reason))


def collect(config: CollectConfig, run: Run) -> Collection:
    """Load the problems, ask the teacher about each, and store all attempts in the run.

    Raises:
        UserError: unknown source or teacher, bad options, or a teacher that solved nothing of the training split.
    """
    sizes = parse_options(config.split_sizes, "split_sizes")
    problems = load_problems(config.problems, config.data_seed, sizes,
                             **parse_options(config.problem_options, "problem_options"))
    if config.toolbox:
        problems = [replace(p, toolbox=config.toolbox) for p in problems]
    teacher = load_teacher(config.teacher, **parse_options(config.teacher_options, "teacher_options"))
    bar = progress_bar(len(problems), f"teacher {teacher.name}", "problem")
    records = []
    for problem in problems:
        records.append(attempt(problem, teacher))
        bar.update()
    bar.close()
    save_records(run.path(TRAJECTORIES), records)
    return Collection(tuple(records))


def load_collection(run: Run) -> Collection:
    """The collection that a finished collect run stored."""
    return Collection(tuple(load_records(run.path(TRAJECTORIES))))


def as_references(records: Sequence[Record]) -> dict[str, Trajectory]:
    """Problem id -> reference trajectory, of accepted attempts."""
    return {r.problem.id: r.trajectory for r in records if r.trajectory.meta["accepted"]}
