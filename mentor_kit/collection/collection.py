"""What a collection holds: every attempt of a teacher, accepted or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mentor_kit.collection.selection import passed
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record, load_records
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.runs.run import Run
from mentor_kit.teachers.attempt import advice

if TYPE_CHECKING:
    import pandas as pd

TRAJECTORIES = "trajectories.parquet"


@dataclass(frozen=True)
class Collection:
    """Every attempt of a teacher, accepted or not, in the order of the problems.

    Each record's trajectory has `meta["accepted"]` and `meta["reason"]`. At most one attempt a
    problem is accepted.
    """

    records: tuple[Record, ...]

    def split(self, *names: str) -> list[Record]:
        """One record a problem of the named splits: its accepted attempt, else its first."""
        first: dict[str, Record] = {}
        for record in self.records:
            if record.problem.split in names and (record.problem.id not in first
                                                  or record.trajectory.meta["accepted"]):
                first[record.problem.id] = record
        return list(first.values())

    def accepted(self, *names: str) -> list[Record]:
        """Accepted attempts, of the named splits or of all: these trajectories are references."""
        return [r for r in self.records if r.trajectory.meta["accepted"]
                and (not names or r.problem.split in names)]

    @property
    def example(self) -> Record:
        """The first reference, or the first attempt where there is none."""
        return next(iter(self.accepted()), self.records[0])

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(r.problem.split for r in self.records))

    def attempts(self) -> list[tuple[Problem, bool, str, Trajectory]]:
        """Every attempt as (problem, accepted, reason, trajectory), for figures."""
        return [(r.problem, r.trajectory.meta["accepted"], r.trajectory.meta["reason"],
                 r.trajectory)
                for r in self.records]

    def rejected_examples(self, n: int) -> list[Record]:
        """The first rejected attempt of each reason, at most n."""
        first = {r.trajectory.meta["reason"]: r for r in reversed(self.records) if not passed(r)}
        return list(first.values())[:n]

    def summary(self) -> str:
        """How many attempts became references, why the others did not; with none, what to do."""
        references, problems = len(self.accepted()), len({r.problem.id for r in self.records})
        rejected: dict[str, Counter[str]] = {}
        for record in self.records:
            if not passed(record):
                meta = record.trajectory.meta
                rejected.setdefault(meta["reason"], Counter())[meta.get("detail", "")] += 1
        line = f"{len(self.records)} attempts at {problems} problems, {references} references"
        reasons = sorted(rejected, key=lambda reason: -rejected[reason].total())
        details = {reason: rejected[reason].most_common(1)[0][0].rstrip(".") for reason in reasons}
        told = []
        for reason in reasons:
            said = f" ({details[reason]})" if details[reason] else ""
            told.append(f"{reason} {rejected[reason].total()}{said}")
        if told:
            line += f"; rejected: {', '.join(told)}"
        differ = [r for r in self.records if r.trajectory.meta.get("observations_differ")]
        if differ:
            meta = differ[0].trajectory.meta
            first = meta["observations_differ"][0]
            line += (f".\nOur tools give other results in {len(differ)} trajectories (row "
                     f"{meta['row']}: {first['tool']} gave {first['theirs']!r} there, gives "
                     f"{first['ours']!r} here)")
        if references:
            return line
        return (f"{line}.\nWithout a reference nothing can be trained or evaluated with this run. "
                f"{advice(reasons[0], details[reasons[0]], self.records[0].trajectory.producer)}")

    def counts(self) -> dict[str, int]:
        """How many problems were asked and gave a reference, by split."""
        accepted = Counter(r.problem.split for r in self.accepted())
        asked = Counter(split for _,
                        split in dict.fromkeys((r.problem.id, r.problem.split)
                                               for r in self.records))
        return {f"{name}/{split}": counter[split] for split in self.splits
                for name, counter in (("asked", asked), ("accepted", accepted))}

    def reasons(self) -> pd.DataFrame:
        """Counts of each outcome by split."""
        import pandas as pd

        counts = Counter((r.problem.split, r.trajectory.meta["reason"]) for r in self.records)
        frame = pd.Series(counts, name="items").rename_axis(["split", "outcome"]).reset_index()
        return frame.pivot_table(index="split", columns="outcome", values="items", fill_value=0,
                                 sort=False).astype(int)

    def tokens(self) -> dict[str, int]:
        """Prompt and completion tokens of all attempts, as the server counted them (or 0)."""
        return {name: sum(r.trajectory.meta.get(name, 0) for r in self.records)
                for name in ("prompt_tokens", "completion_tokens")}


def stored(run: Run) -> Collection:
    """The collection that a finished collect run stored, whatever it holds."""
    return Collection(tuple(load_records(run.path(TRAJECTORIES))))


def load_collection(run: Run) -> Collection:
    """The collection that a finished collect run stored, to train or evaluate with.

    Raises:
        UserError: it holds no reference.
    """
    collection = stored(run)
    if not collection.accepted():
        raise UserError(f"The collection {str(run.dir)!r} is of no use: "
                        f"{' '.join(collection.summary().split())}")
    return collection


def as_references(records: Sequence[Record]) -> dict[str, Trajectory]:
    """Problem id -> reference trajectory, of accepted attempts."""
    return {r.problem.id: r.trajectory for r in records if r.trajectory.meta["accepted"]}
