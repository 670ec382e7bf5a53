"""The resumable loop of an evaluation: problems x samples, every answer on disk as soon as it is
there.

A run that was killed repeats only what was under way, and ends with the same bytes as an
undisturbed one: an answer depends on its problem and sample only, not on its batch (float ties
aside, where a device's sums depend on the batch; see `mentor_kit.students.kv_decoder`).
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentor_kit.collection.attempt_store import AttemptStore
from mentor_kit.collection.collection import TRAJECTORIES, as_references
from mentor_kit.core.environment import OWN
from mentor_kit.core.records import Record, load_records, save_records
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.evaluation.benchmarks.registry import Benchmark, load_benchmark
from mentor_kit.evaluation.benchmarks.scorers import JUDGES, load_scorer
from mentor_kit.evaluation.config import EvaluateConfig
from mentor_kit.evaluation.evaluate import EvalRequest, Scorer, answer_all, scored, teacher_accuracy
from mentor_kit.judging.verdicts import judge_answers
from mentor_kit.runs.progress import PROGRESS, ProgressBar
from mentor_kit.runs.run import Run
from mentor_kit.toolboxes.perturbed import keeps_results, perturbed_spec

if TYPE_CHECKING:
    from mentor_kit.core.problem import Problem
    from mentor_kit.students.rollout import Sampling

ANSWERS = "answers"  # the folder of a run under way; gone when it is finished


@dataclass(frozen=True)
class Task:
    """Problems that are asked and scored alike: a split of a collection or of a benchmark.

    Args:
        name: the split's name in tables; names the file of its answers.
        sampling: how each turn is sampled.
        solver: the student or teacher with this task's toolbox.
        meta: added to every trajectory's meta (benchmark, its version).
        attempts: the teacher's at these problems. The accepted ones are the references, and each
            answer's meta tells how often the teacher itself was right (`teacher_correct`).
    """

    name: str
    problems: Sequence[Problem]
    solver: Any
    sampling: Sampling
    scorer: Scorer = judge_answers
    meta: Mapping[str, Any] = field(default_factory=dict)
    attempts: Sequence[Record] = ()


def evaluate_tasks(
    tasks: Sequence[Task],
    run: Run,
    *,
    samples: int = 1,
    batch_size: int = 128,
    meta: Mapping[str, Any] | None = None,
    description: str = "evaluate",
) -> list[Record]:
    """Evaluate task by task; what an interrupted run has answers to is not asked again. Stores all
    records.

    Args:
        samples: how often each problem is asked; the samples of a problem stand together.
        batch_size: the most rollouts of a student under way, and what a killed run repeats at most.
        meta: added to every trajectory's meta (method, seed).

    Raises:
        UserError: no problem, two tasks of one name, two problems of one id in a task, or a scorer
            that lacks what it needs; said before anything is asked.
    """
    if not any(t.problems for t in tasks):
        raise UserError("There is nothing to evaluate: the collection holds only splits to learn "
                        "from, and no benchmark is named.")
    _refuse_twice("Split", [t.name for t in tasks])
    for task in tasks:
        _refuse_twice(f"In split {task.name!r} problem", [p.id for p in task.problems])
    for scorer in dict.fromkeys(t.scorer for t in tasks):
        scorer([], [])
    bar = ProgressBar(samples * sum(len(t.problems) for t in tasks), description, "item",
                      run.path(PROGRESS))
    folder, records = run.path(ANSWERS) / run.key, []
    for task in tasks:
        with run.time(f"evaluate/{task.name}"):
            answers = _answers(task, folder, samples, batch_size, bar)
            records += scored(_records(answers, task, meta or {}), task.scorer)
    bar.close()
    stored = load_records(save_records(run.path(TRAJECTORIES), records))
    shutil.rmtree(folder.parent)
    return stored


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    """Two of one name would be taken for two samples of one problem."""
    twice = next((name for name, n in Counter(names).items() if n > 1), None)
    if twice is not None:
        raise UserError(f"{what} {twice!r} is there twice: give each a name of its own.")


def _records(answers: Sequence[tuple[Problem, Trajectory]], task: Task,
             meta: Mapping[str, Any]) -> list[Record]:
    references, accuracy = as_references(task.attempts), teacher_accuracy(task.attempts)
    records = []
    for problem, answer in answers:
        teacher = {"teacher_correct": accuracy[problem.id]} if problem.id in accuracy else {}
        answer = answer.with_meta(**task.meta, **meta, **teacher)
        records.append(Record(problem, answer, references.get(problem.id)))
    return records


def _answers(task: Task, folder: Path, samples: int, batch_size: int,
             bar: ProgressBar) -> list[tuple[Problem, Trajectory]]:
    """Every problem with its answer, `samples` times, in order; those that are not on disk yet are
    asked for."""
    pairs = [(p, sample) for p in task.problems for sample in range(samples)]
    with AttemptStore(folder / f"{task.name.replace('/', '--')}.jsonl",
                      {"task": task.name}) as store:
        left = [pair for pair in pairs if not store.done(*pair)]
        bar.skip(len(pairs) - len(left))
        # stored with the next answer, or at the end: until then the solver may be broken
        waiting: list[Record] = []

        def keep(index: int, answer: Trajectory) -> None:
            waiting.append(Record(left[index][0], answer))
            if "error" not in answer.meta:
                _store(waiting, store)
            bar.update()

        request = EvalRequest(task.solver, [p for p, _ in left], [s for _, s in left],
                              task.sampling, batch_size)
        answer_all(request, keep, before=len(pairs) - len(left))
        _store(waiting, store)
        return [(p, store.record(p, s).trajectory) for p, s in pairs]


def _store(records: list[Record], store: AttemptStore) -> None:
    """Move records to the store. An attempt that a teacher did not make (no reply) is asked for
    again after a kill."""
    for record in records:
        answer = record.trajectory
        no_reply = answer.finish == "error" and "error" not in answer.meta
        store.add(record, no_reply, {})
    records.clear()


def benchmark_tasks(
    config: EvaluateConfig, solver: Any, sampling: Sampling
) -> tuple[list[Task], list[dict[str, Any]]]:
    """One task a split of every benchmark of the configuration, and what was loaded
    (`Benchmark.provenance`). Writes nothing.

    Raises:
        UserError: an unknown benchmark, or items, tools or a scorer that cannot be had.
    """
    if config.passages:
        from mentor_kit.toolboxes.search import open_index, use_index

        use_index(open_index(config.passages, config.retriever))
    tasks, provenance = [], []
    for spec in config.benchmarks:
        benchmark, splits = load_benchmark(spec)
        problems = benchmark.load(config.seed, config.benchmark_items, splits)
        provenance.append(benchmark.provenance(problems))
        tasks += _tasks(benchmark, problems, solver, sampling, config.judge)
    return tasks, provenance


def _tasks(benchmark: Benchmark, problems: Sequence[Problem], solver: Any, sampling: Sampling,
           judge: str) -> list[Task]:
    scorer = JUDGES[judge] if benchmark.scorer == "judge" else load_scorer(benchmark.scorer)
    solver = with_toolbox(solver, benchmark.toolbox)
    settings = replace(sampling, max_turns=benchmark.max_turns or sampling.max_turns)
    meta = {"benchmark": benchmark.name, "benchmark_version": benchmark.version}
    splits = dict.fromkeys(p.split for p in problems)
    return [Task(s, [p for p in problems if p.split == s], solver, settings, scorer, meta)
            for s in splits]


def perturbed_tasks(tasks: Sequence[Task], perturbations: Sequence[str]) -> list[Task]:
    """Every task again under each perturbation of its tools: the same problems, as the split
    `NAME/PERTURBATION`. The teacher's trajectories are references where its calls would still give
    the same results.

    Raises:
        UserError: a task's problems bring their own tools.
    """
    found = []
    for task in tasks if perturbations else ():
        toolbox = task.problems[0].toolbox if task.problems else OWN
        if toolbox == OWN:
            raise UserError(f"perturbations: split {task.name!r} has no tools of the kit's that "
                            "could be made harder; evaluate it by itself.")
        for how in perturbations:
            spec, name = perturbed_spec(how, toolbox), f"{task.name}/{how}"
            problems = [replace(p, split=name, toolbox=spec) for p in task.problems]
            found.append(replace(task, name=name, problems=problems,
                                 solver=with_toolbox(task.solver, spec),
                                 attempts=task.attempts if keeps_results(how) else ()))
    return found


def with_toolbox(solver: Any, toolbox: str) -> Any:
    """A student that is prompted with another toolbox; teachers find theirs by the problem."""
    if toolbox == "search":
        from mentor_kit.toolboxes.search import require_index

        require_index()
    if toolbox == OWN or not hasattr(solver, "rollout") or solver.toolbox.name == toolbox:
        return solver
    return replace(solver, toolbox=load_toolbox(toolbox))
