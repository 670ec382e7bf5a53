"""The resumable loop of an evaluation: problems x samples, a batch at a time, every finished batch on disk.

A run that was killed repeats at most the batch it was in, and ends with the same bytes as an undisturbed one: a
batch's sampling seed depends on its number, never on what ran before it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mentor_kit.collect import TRAJECTORIES
from mentor_kit.evaluation.evaluate import Scorer, batch_sampling, evaluate, judge_answers
from mentor_kit.progress import progress_bar
from mentor_kit.runs import Run
from mentor_kit.store import Record, load_records, save_records
from mentor_kit.trajectory import Trajectory

if TYPE_CHECKING:
    from mentor_kit.problem import Problem
    from mentor_kit.students.rollout import Sampling


@dataclass(frozen=True)
class Task:
    """Problems that are asked and scored alike: a split of a collection or of a benchmark.

    Args:
        name: the split's name in tables; names the files of its finished batches.
        sampling: how each turn is sampled.
        solver: the student or teacher with this task's toolbox.
        facts: added to every trajectory's meta (benchmark, its version).
    """

    name: str
    problems: Sequence[Problem]
    solver: Any
    sampling: Sampling
    scorer: Scorer = judge_answers
    facts: Mapping[str, Any] = field(default_factory=dict)


def evaluate_tasks(tasks: Sequence[Task], run: Run, *, samples: int = 1, batch_size: int = 128,
                   references: Mapping[str, Trajectory] | None = None, facts: Mapping[str, Any] | None = None,
                   description: str = "evaluate") -> list[Record]:
    """Evaluate task by task, batch by batch; what an interrupted run finished is not repeated. Stores all records.

    Args:
        samples: how often each problem is asked; the samples of a problem stand together.
        batch_size: rollouts generated at once, and what a killed run repeats at most.
        facts: added to every trajectory's meta (method, seed).
    """
    bar = progress_bar(samples * sum(len(t.problems) for t in tasks), description, "item")
    shards, records = run.path("shards") / run.key, []
    for task in tasks:
        with run.time(f"evaluate/{task.name}"):
            records += _evaluate_task(task, shards, samples, batch_size, references or {}, facts or {}, bar.update)
    bar.close()
    save_records(run.path(TRAJECTORIES), records)
    shutil.rmtree(shards.parent)
    return records


def _evaluate_task(task: Task, shards: Any, samples: int, batch_size: int, references: Mapping[str, Trajectory],
                   facts: Mapping[str, Any], progress: Callable[[int], Any]) -> list[Record]:
    asked = [(p, s) for p in task.problems for s in range(samples)]
    records: list[Record] = []
    for number, start in enumerate(range(0, len(asked), batch_size)):
        batch = asked[start:start + batch_size]
        shard = shards / task.name.replace("/", "--") / f"{number:05d}.parquet"
        if not shard.is_file():
            problems, numbers = zip(*batch, strict=True)
            found = evaluate(task.solver, problems, references, batch_sampling(task.sampling, number),
                             facts={**task.facts, **facts}, batch_size=batch_size, scorer=task.scorer, samples=numbers)
            save_records(shard, found)
        records += load_records(shard)
        progress(len(batch))
    return records
