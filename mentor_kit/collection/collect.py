"""Collection: problems of a source, a teacher's attempts at each, and everything stored with its
reason.

    plan = plan_collection(config)   # refuses what cannot work, before anything is written
    collection = collect(config, run, plan)

Attempts of a real teacher are kept one by one in `attempts.jsonl` (see
`mentor_kit.collection.attempt_store`), so a collection that is killed continues; the run's outcome
is `trajectories.parquet`, all attempts in the order of the problems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mentor_kit.collection.attempt_store import ATTEMPTS, AttemptStore, take_over
from mentor_kit.collection.collection import TRAJECTORIES, Collection
from mentor_kit.collection.config import CollectConfig
from mentor_kit.collection.dispatch import CollectionBar, Task, ask_all, run_async
from mentor_kit.collection.selection import select
from mentor_kit.core.environment import OWN_FACTS
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record, paused_gc, save_records, to_json
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.problems import load_problems
from mentor_kit.runs.files import write_atomic
from mentor_kit.runs.parameters import parse_options
from mentor_kit.runs.progress import PROGRESS, ProgressBar
from mentor_kit.runs.run import Run
from mentor_kit.teachers import load_teacher
from mentor_kit.teachers.attempt import Attempt

LEFT_OUT = "rows_left_out.jsonl"


@dataclass(frozen=True)
class CollectionPlan:
    """What is about to be collected: problems and teacher, both checked.

    `probe`: what an endpoint honours, or what is used of a file of trajectories; `left_out`: the
    rows of that file that no problem asks for, each with its reason.
    """

    problems: tuple[Problem, ...]
    teacher: Any
    probe: Mapping[str, str] = field(default_factory=dict)
    left_out: Sequence[Mapping[str, Any]] = ()

    def __repr__(self) -> str:
        counts = Counter(p.split for p in self.problems)
        splits = ", ".join(f"{split} {n}" for split, n in counts.items())
        lines = [f"{len(self.problems)} problems ({splits}), teacher {self.teacher.name}"]
        lines += [f"{name}: {seen}" for name, seen in self.probe.items()]
        return "\n".join(lines)


def plan_collection(config: CollectConfig, *, probe: bool = True) -> CollectionPlan:
    """Load the problems and the teacher and see whether it answers. Writes nothing.

    Args:
        probe: also see what an endpoint honours, by a few small questions.

    Raises:
        UserError: unknown source, teacher or toolbox, bad options, no problem, no key, or no answer
            from an endpoint.
    """
    sizes = parse_options(config.split_sizes, "split_sizes")
    teacher = load_teacher(config.teacher,
                           **parse_options(config.teacher_options, "teacher_options"))
    is_probed = getattr(teacher, "probe", False)
    if is_probed:  # before the problems, which may be slow to come
        run_async(_with_session(teacher, lambda session: session.ping()))
    problems = load_problems(config.problems, config.data_seed, sizes,
                             **parse_options(config.problem_options, "problem_options"))
    if not problems:
        raise UserError(f"There is no problem to ask: the source {config.problems!r} gave none for "
                        f"split_sizes {config.split_sizes}.")
    if config.toolbox:
        problems = [_with_toolbox(p, config.toolbox) for p in problems]
    for toolbox in {p.toolbox: None for p in problems}:
        load_toolbox(toolbox)
    found, left_out = {}, []
    if is_probed and probe and load_toolbox(problems[0].toolbox).names:
        toolbox = problems[0].toolbox
        found = run_async(_with_session(teacher, lambda session: session.probe(toolbox)))
    if hasattr(teacher, "left_out"):
        left_out = teacher.left_out(problems, config.samples)
        found = teacher.review(left_out)
    return CollectionPlan(tuple(problems), teacher, found, left_out)


def _with_toolbox(problem: Problem, toolbox: str) -> Problem:
    """The problem, solved with a toolbox instead of tools of its own."""
    meta = {name: value for name, value in problem.meta.items() if name not in OWN_FACTS}
    return replace(problem, toolbox=toolbox, meta=meta)


async def _with_session(teacher: Any, ask: Callable[[Any], Awaitable[Any]]) -> Any:
    async with teacher.session() as session:
        return await ask(session)


def attempt(problem: Problem, teacher: object, sample: int = 0) -> Record:
    """One attempt as a record. An attempt without any call keeps an empty turn that finished by
    `error`."""
    return as_record(problem, sample, teacher.solve(problem, sample), teacher.name)


def as_record(problem: Problem, sample: int, made: Attempt, name: str) -> Record:
    """An attempt as a record, its outcome in the trajectory's meta."""
    trajectory = made.trajectory or Trajectory(problem.id, (Turn("", "error"),), f"teacher:{name}",
                                               sample)
    outcome = {"accepted": made.accepted, "reason": made.reason}
    if made.detail:
        outcome["detail"] = made.detail
    return Record(problem, trajectory.with_meta(**outcome))


def collect(config: CollectConfig, run: Run, plan: CollectionPlan | None = None) -> Collection:
    """Ask the teacher about each problem, `samples` times, and store all attempts in the run.

    An attempt that a killed or earlier collection in this folder made is not made again; in a
    study, nor one that a run beside it with the same teacher and sampling made.

    Raises:
        UserError: see `plan_collection`; another collector at work in this folder; a teacher that
            stopped answering.
    """
    plan = plan or plan_collection(config)
    tasks = [(p, sample) for p in plan.problems for sample in range(config.samples)]
    if getattr(plan.teacher, "instant", False):
        records = _ask_at_once(plan.teacher, tasks)
    else:
        # what all attempts of one store share: sizes, samples and selection may change
        own = getattr(plan.teacher, "identity", lambda: {"options": config.teacher_options})
        identity = {"teacher": config.teacher, **own()}
        take_over(run.path(ATTEMPTS), identity)
        with AttemptStore(run.path(ATTEMPTS), identity) as store:
            records = _ask_and_store(plan.teacher, tasks, store, run.path(PROGRESS))
    if plan.left_out:
        write_atomic(run.path(LEFT_OUT), "".join(to_json(row) + "\n" for row in plan.left_out))
    with paused_gc():
        records = select(records, config.selection)
        save_records(run.path(TRAJECTORIES), records)
    return Collection(tuple(records))


def _ask_at_once(teacher: Any, tasks: Sequence[Task]) -> list[Record]:
    bar = ProgressBar(len(tasks), f"teacher {teacher.name}", "problem")
    records = []
    for problem, sample in tasks:
        records.append(attempt(problem, teacher, sample))
        bar.update()
    bar.close()
    return records


def _ask_and_store(teacher: Any, tasks: Sequence[Task], store: AttemptStore,
                   progress: Path) -> list[Record]:
    with paused_gc():
        waiting = [task for task in tasks if not store.done(*task)]
    bar = CollectionBar(len(tasks), len(tasks) - len(waiting), teacher, progress)

    def on_result(problem: Problem, sample: int, attempt: Attempt) -> None:
        store.add(as_record(problem, sample, attempt, teacher.name), attempt.failed, attempt.log)
        bar.add(attempt)

    try:
        ask_all(teacher, waiting, on_result, answered=len(waiting) < len(tasks))
    finally:
        bar.close()
    with paused_gc():
        return [store.record(problem, sample) for problem, sample in tasks]
