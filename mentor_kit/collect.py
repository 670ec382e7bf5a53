"""Collection: problems of a source, a teacher's attempts at each, and everything stored with its reason.

    asked = prepare(config)          # refuses what cannot be, before anything is written
    collection = collect(config, run, asked)

Attempts of a real teacher are kept one by one in `attempts.jsonl` (see `mentor_kit.attempts`), so a collection that is
killed continues; the run's outcome is `trajectories.parquet`, all attempts in the order of the problems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mentor_kit.asking import CollectionBar, Task, ask_all, run_async
from mentor_kit.attempts import ATTEMPTS, AttemptStore, take_over
from mentor_kit.configs import CollectConfig, parse_options
from mentor_kit.errors import UserError
from mentor_kit.problem import Problem
from mentor_kit.problems import load_problems
from mentor_kit.progress import progress_bar
from mentor_kit.runs import PROGRESS, STAGE_NOTEBOOKS, Run, load_run
from mentor_kit.selection import passed, select
from mentor_kit.store import Record, load_records, save_records
from mentor_kit.teachers import load_teacher
from mentor_kit.teachers.attempt import Attempt, advice
from mentor_kit.toolbox import load_toolbox
from mentor_kit.trajectory import Trajectory, Turn

if TYPE_CHECKING:
    from mentor_kit.batch.plan import Cell

TRAJECTORIES = "trajectories.parquet"


@dataclass(frozen=True)
class Collection:
    """Every attempt of a teacher, accepted or not, in the order of the problems.

    Each record's trajectory has `meta["accepted"]` and `meta["reason"]`. At most one attempt a problem is accepted.
    """

    records: tuple[Record, ...]

    def split(self, *names: str) -> list[Record]:
        """One record a problem of the named splits: its accepted attempt, else its first."""
        first: dict[str, Record] = {}
        for record in self.records:
            if record.problem.split in names and (record.problem.id not in first or record.trajectory.meta["accepted"]):
                first[record.problem.id] = record
        return list(first.values())

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
        first = {r.trajectory.meta["reason"]: r for r in reversed(self.records) if not passed(r)}
        return list(first.values())[:n]

    def summary(self) -> str:
        """How many attempts gave how many references, why the others did not; without any reference, what to do."""
        found, asked = len(self.accepted()), len({r.problem.id for r in self.records})
        reasons = Counter(r.trajectory.meta["reason"] for r in self.records if not passed(r)).most_common()
        line = "; rejected: ".join(filter(None, [
            f"{len(self.records)} attempts at {asked} problems, {found} references",
            ", ".join(f"{reason} {n}" for reason, n in reasons)]))
        return line if found else f"{line}.\nWithout a reference nothing can be trained or evaluated with this run. " \
                                  f"{advice(reasons[0][0])}"

    def counts(self) -> dict[str, int]:
        """How many problems were asked and gave a reference, by split."""
        accepted = Counter(r.problem.split for r in self.accepted())
        asked = Counter(split for _, split in dict.fromkeys((r.problem.id, r.problem.split) for r in self.records))
        return {f"{name}/{split}": counter[split] for split in self.splits
                for name, counter in (("asked", asked), ("accepted", accepted))}

    def reasons(self) -> pd.DataFrame:
        """Counts of each outcome by split."""
        counts = Counter((r.problem.split, r.trajectory.meta["reason"]) for r in self.records)
        frame = pd.Series(counts, name="items").rename_axis(["split", "outcome"]).reset_index()
        return frame.pivot_table(index="split", columns="outcome", values="items", fill_value=0, sort=False).astype(int)

    def pass_rates(self) -> pd.Series:
        """Share of each problem's attempts that were right, by problem id."""
        right = pd.Series([float(passed(r)) for r in self.records], index=[r.problem.id for r in self.records])
        return right.groupby(level=0, sort=False).mean().rename("pass_rate")

    def tokens(self) -> dict[str, int]:
        """Prompt and completion tokens over all attempts, as the teacher's server counted them (0 where it did not)."""
        return {name: sum(r.trajectory.meta.get(name, 0) for r in self.records)
                for name in ("prompt_tokens", "completion_tokens")}


@dataclass(frozen=True)
class Asked:
    """What is about to be collected: problems and teacher, both checked; `probe`: what an endpoint honours."""

    problems: tuple[Problem, ...]
    teacher: Any
    probe: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        splits = ", ".join(f"{split} {n}" for split, n in Counter(p.split for p in self.problems).items())
        lines = [f"{len(self.problems)} problems ({splits}), teacher {self.teacher.name}"]
        lines += [f"{name}: {seen}" for name, seen in self.probe.items()]
        return "\n".join(lines)


def prepare(config: CollectConfig, *, quick: bool = False) -> Asked:
    """Load the problems and the teacher and see whether it answers. Writes nothing.

    Args:
        quick: only see whether an endpoint answers, not what it honours.

    Raises:
        UserError: unknown source, teacher or toolbox, bad options, no problem, no key, or no answer from an endpoint.
    """
    sizes = parse_options(config.split_sizes, "split_sizes")
    teacher = load_teacher(config.teacher, **parse_options(config.teacher_options, "teacher_options"))
    asks = getattr(teacher, "probe", False)
    if asks:  # before the problems, which may be slow to come
        run_async(_with_session(teacher, lambda session: session.knock()))
    problems = load_problems(config.problems, config.data_seed, sizes,
                             **parse_options(config.problem_options, "problem_options"))
    if not problems:
        raise UserError(f"There is no problem to ask: the source {config.problems!r} gave none for split_sizes "
                        f"{config.split_sizes}.")
    if config.toolbox:
        problems = [replace(p, toolbox=config.toolbox) for p in problems]
    for toolbox in {p.toolbox: None for p in problems}:
        load_toolbox(toolbox)
    toolbox = problems[0].toolbox
    probed = run_async(_with_session(teacher, lambda s: s.probe(toolbox))) if asks and not quick else {}
    return Asked(tuple(problems), teacher, probed)


async def _with_session(teacher: Any, ask: Callable[[Any], Awaitable[Any]]) -> Any:
    async with teacher.session() as session:
        return await ask(session)


def attempt(problem: Problem, teacher: object, sample: int = 0) -> Record:
    """One attempt as a record. An attempt without any call keeps an empty turn that finished by `error`."""
    return as_record(problem, sample, teacher.solve(problem, sample), teacher.name)


def as_record(problem: Problem, sample: int, made: Attempt, name: str) -> Record:
    """An attempt as a record, its outcome in the trajectory's meta."""
    trajectory = made.trajectory or Trajectory(problem.id, (Turn("", "error"),), f"teacher:{name}", sample)
    return Record(problem, trajectory.with_meta(accepted=made.accepted, reason=made.reason))


def collect(config: CollectConfig, run: Run, asked: Asked | None = None) -> Collection:
    """Ask the teacher about each problem, `samples` times, and store all attempts in the run.

    An attempt that a killed or earlier collection in this folder made is not made again; in a study, nor one that a run
    beside it with the same teacher and sampling made.

    Raises:
        UserError: see `prepare`; another collector at work in this folder; a teacher that stopped answering.
    """
    asked = asked or prepare(config)
    tasks = [(p, sample) for p in asked.problems for sample in range(config.samples)]
    if getattr(asked.teacher, "instant", False):
        records = _ask_at_once(asked.teacher, tasks)
    else:
        identity = _identity(config, asked.teacher)
        take_over(run.path(ATTEMPTS), identity)
        with AttemptStore(run.path(ATTEMPTS), identity) as store:
            records = _ask_and_keep(asked.teacher, tasks, store, run.path(PROGRESS))
    records = select(records, config.selection)
    save_records(run.path(TRAJECTORIES), records)
    return Collection(tuple(records))


def _ask_at_once(teacher: Any, tasks: Sequence[Task]) -> list[Record]:
    bar = progress_bar(len(tasks), f"teacher {teacher.name}", "problem")
    records = []
    for problem, sample in tasks:
        records.append(attempt(problem, teacher, sample))
        bar.update()
    bar.close()
    return records


def _identity(config: CollectConfig, teacher: Any) -> dict[str, Any]:
    """What all attempts of one store share. Sizes, samples, selection may change: more is then asked, or less used."""
    own = teacher.identity() if hasattr(teacher, "identity") else {"options": config.teacher_options}
    return {"teacher": config.teacher, **own}


def _ask_and_keep(teacher: Any, tasks: Sequence[Task], store: AttemptStore, progress: Path) -> list[Record]:
    waiting = [task for task in tasks if not store.done(*task)]
    bar = CollectionBar(len(tasks), len(tasks) - len(waiting), teacher, progress)

    def keep(problem: Problem, sample: int, made: Attempt) -> None:
        store.add(as_record(problem, sample, made, teacher.name), made.failed, made.log)
        bar.add(made)

    try:
        ask_all(teacher, waiting, keep)
    finally:
        bar.close()
    return [store.record(problem, sample) for problem, sample in tasks]


def stored(run: Run) -> Collection:
    """The collection that a finished collect run stored, whatever it holds."""
    return Collection(tuple(load_records(run.path(TRAJECTORIES))))


def outcomes(cells: Iterable[Cell]) -> list[str]:
    """What each finished collection among a study's cells gave, a text each."""
    done = [c for c in cells if c.notebook.stem == STAGE_NOTEBOOKS["collect"] and (c.run_dir / "DONE").is_file()]
    return [f"{cell}: {stored(load_run(cell.run_dir)).summary()}" for cell in done]


def load_collection(run: Run) -> Collection:
    """The collection that a finished collect run stored, to train or evaluate with.

    Raises:
        UserError: it holds no reference.
    """
    collection = stored(run)
    if not collection.accepted():
        raise UserError(f"The collection {str(run.dir)!r} is of no use: {' '.join(collection.summary().split())}")
    return collection


def as_references(records: Sequence[Record]) -> dict[str, Trajectory]:
    """Problem id -> reference trajectory, of accepted attempts."""
    return {r.problem.id: r.trajectory for r in records if r.trajectory.meta["accepted"]}
