"""The resumable loop of an evaluation: problems x samples, every answer on disk as soon as it is there.

A run that was killed repeats only what was under way, and ends with the same bytes as an undisturbed one: an answer
depends on its problem and sample, never on what else is asked (float ties aside, where a device's sums depend on the
batch; see `mentor_kit.students.decoding`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentor_kit.attempts import AttemptStore
from mentor_kit.collect import TRAJECTORIES, as_references
from mentor_kit.evaluation.evaluate import Asked, Scorer, ask, judge_answers, scored, teacher_facts
from mentor_kit.progress import progress_bar
from mentor_kit.runs import Run
from mentor_kit.store import Record, load_records, save_records
from mentor_kit.trajectory import Trajectory

if TYPE_CHECKING:
    from mentor_kit.problem import Problem
    from mentor_kit.students.rollout import Sampling

ANSWERS = "answers"  # the folder of a run under way; gone when it is finished


@dataclass(frozen=True)
class Task:
    """Problems that are asked and scored alike: a split of a collection or of a benchmark.

    Args:
        name: the split's name in tables; names the file of its answers.
        sampling: how each turn is sampled.
        solver: the student or teacher with this task's toolbox.
        facts: added to every trajectory's meta (benchmark, its version).
        attempts: the teacher's at these problems; the accepted ones are the references, and each answer's meta tells
            how often the teacher itself was right (`teacher_facts`).
    """

    name: str
    problems: Sequence[Problem]
    solver: Any
    sampling: Sampling
    scorer: Scorer = judge_answers
    facts: Mapping[str, Any] = field(default_factory=dict)
    attempts: Sequence[Record] = ()


def evaluate_tasks(tasks: Sequence[Task], run: Run, *, samples: int = 1, batch_size: int = 128,
                   facts: Mapping[str, Any] | None = None, description: str = "evaluate") -> list[Record]:
    """Evaluate task by task; what an interrupted run has answers to is not asked again. Stores all records.

    Args:
        samples: how often each problem is asked; the samples of a problem stand together.
        batch_size: the most rollouts of a student under way, and what a killed run repeats at most.
        facts: added to every trajectory's meta (method, seed).

    Raises:
        UserError: a scorer lacks what it needs; said before anything is asked.
    """
    for scorer in dict.fromkeys(t.scorer for t in tasks):
        scorer([], [])
    bar = progress_bar(samples * sum(len(t.problems) for t in tasks), description, "item")
    folder, records = run.path(ANSWERS) / run.key, []
    for task in tasks:
        with run.time(f"evaluate/{task.name}"):
            answers = _answers(task, folder, samples, batch_size, bar.update)
            records += scored(_with_facts(answers, task, facts or {}), task.scorer)
    bar.close()
    stored = load_records(save_records(run.path(TRAJECTORIES), records))
    shutil.rmtree(folder.parent)
    return stored


def _with_facts(answers: Sequence[tuple[Problem, Trajectory]], task: Task, facts: Mapping[str, Any]) -> list[Record]:
    references, teacher = as_references(task.attempts), teacher_facts(task.attempts)
    return [Record(p, a.with_meta(**task.facts, **facts, **teacher.get(p.id, {})), references.get(p.id))
            for p, a in answers]


def _answers(task: Task, folder: Path, samples: int, batch_size: int, progress: Callable[[int], Any]
             ) -> list[tuple[Problem, Trajectory]]:
    """Every problem with its answer, `samples` times, in order; those that are not on disk yet are asked for."""
    pairs = [(p, sample) for p in task.problems for sample in range(samples)]
    lost: dict[tuple[str, int], Trajectory] = {}
    with AttemptStore(folder / f"{task.name.replace('/', '--')}.jsonl", {"task": task.name}) as store:
        left = [pair for pair in pairs if not store.done(*pair)]
        progress(len(pairs) - len(left))

        def keep(place: int, answer: Trajectory) -> None:
            problem, sample = left[place]
            if answer.finish == "error":  # a run that is started again asks again
                lost[problem.id, sample] = answer
            else:
                store.add(Record(problem, answer), False, {})
            progress(1)

        asked = Asked(task.solver, [p for p, _ in left], [s for _, s in left], task.sampling, batch_size)
        ask(asked, keep, before=len(pairs) - len(left))
        return [(p, lost.get((p.id, s)) or store.record(p, s).trajectory) for p, s in pairs]
