"""Asking a teacher many things at once: plain, in batches, or with many dialogues in flight.

A teacher has `name` and one of

- `solve(problem, sample) -> Attempt`: asked one after another;
- `solve_batch([(problem, sample), ...]) -> list[Attempt]` and `batch_size`: asked batch after
  batch;
- `session()`, an async context manager whose value has `async solve(problem, sample) -> Attempt`,
  and `concurrency`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from mentor_kit.core.problem import Problem
from mentor_kit.errors import UserError
from mentor_kit.runs.progress import ProgressBar
from mentor_kit.teachers.attempt import Attempt

Task = tuple[Problem, int]
Keep = Callable[[Problem, int, Attempt], None]
# unanswered attempts in a row after which the teacher counts as gone (or 3 x concurrency)
PATIENCE = 50


def ask_all(teacher: Any, tasks: Iterable[Task], keep: Keep) -> None:
    """Have every task attempted; `keep` is called with each attempt as soon as it is made, one at a
    time.

    Raises:
        UserError: the teacher refuses, or has stopped answering. What was kept until then stays.
    """
    tasks = iter(tasks)
    if hasattr(teacher, "session"):
        run_async(_ask_many(teacher, tasks, _watched(keep, max(PATIENCE, 3 * teacher.concurrency))))
    elif hasattr(teacher, "solve_batch"):
        while batch := list(islice(tasks, teacher.batch_size)):
            for (problem, sample), attempt in zip(batch, teacher.solve_batch(batch), strict=True):
                keep(problem, sample, attempt)
    else:
        for problem, sample in tasks:
            keep(problem, sample, teacher.solve(problem, sample))


def _watched(keep: Keep, limit: int) -> Keep:
    """`keep`, and a stop when attempt after attempt fails: a server that is down must not fail a
    night's problems."""
    row = 0

    def watch(problem: Problem, sample: int, attempt: Attempt) -> None:
        nonlocal row
        keep(problem, sample, attempt)
        row = row + 1 if attempt.failed else 0
        if row >= limit:
            raise UserError(f"The teacher has not answered {row} attempts in a row (the last: "
                            f"{attempt.reason}); what was collected is safe: see to the server, "
                            "then start again to continue.")

    return watch


async def _ask_many(teacher: Any, tasks: Iterator[Task], keep: Keep) -> None:
    async with teacher.session() as session:
        async def work() -> None:
            for problem, sample in tasks:  # shared: each worker takes the next task
                keep(problem, sample, await session.solve(problem, sample))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(teacher.concurrency):
                    group.create_task(work())
        except* UserError as refusals:
            raise refusals.exceptions[0] from None


def run_async(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end in a thread of its own: a notebook's kernel already runs a loop in
    this one."""
    loop = asyncio.new_event_loop()

    def run() -> Any:
        asyncio.set_event_loop(loop)
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(main)

    with ThreadPoolExecutor(1, thread_name_prefix="teacher") as thread:
        future = thread.submit(run)
        try:
            return future.result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
            raise


class CollectionBar:
    """The progress of a collection: share accepted, tokens, estimated cost, attempts that failed.

    Args:
        total, before: attempts asked for, and those of them that are there already.
        file: also holds the progress as one line.
    """

    def __init__(self, total: int, before: int, teacher: Any, file: Path) -> None:
        self.teacher, self.counts = teacher, Counter()
        self.bar = ProgressBar(total, f"teacher {teacher.name}", "attempt", file)
        self.bar.skip(before)
        self.close = self.bar.close

    def add(self, made: Attempt) -> None:
        meta = made.trajectory.meta if made.trajectory else {}
        self.counts.update(made=1, accepted=made.accepted, failed=made.failed,
                           prompt=meta.get("prompt_tokens", 0),
                           completion=meta.get("completion_tokens", 0))
        self.bar.update(note=self.text())

    def text(self) -> str:
        """`accepted 71%, 120k tokens, cost 0.42, failed 3`; parts without content are left out."""
        counts = self.counts
        tokens, cost = counts["prompt"] + counts["completion"], getattr(self.teacher, "cost", None)
        spent = cost(counts["prompt"], counts["completion"]) if cost else 0
        parts = [f"accepted {counts['accepted'] / max(counts['made'], 1):.0%}", tokens
                 and f"{tokens:,} tokens",
                 spent and f"cost {spent:.2f}", counts["failed"] and f"failed {counts['failed']}"]
        return ", ".join(part for part in parts if part)
