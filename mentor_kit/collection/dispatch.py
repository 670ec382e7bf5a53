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
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from mentor_kit.core.problem import Problem
from mentor_kit.errors import UserError
from mentor_kit.runs.progress import ProgressBar
from mentor_kit.teachers import endpoint
from mentor_kit.teachers.attempt import Attempt

Task = tuple[Problem, int]
OnResult = Callable[[Problem, int, Attempt], None]
# unanswered attempts in a row after which the teacher counts as gone (or 3 x concurrency)
MAX_UNANSWERED = 50
BLOCKED = {f"http_{status}" for status in endpoint.BLOCKED}


def ask_all(teacher: Any, tasks: Iterable[Task], on_result: OnResult, *,
            answered: bool = False) -> None:
    """Have every task attempted; `on_result` is called with each attempt, one at a time, as soon as
    it is known what became of it.

    Args:
        answered: the teacher has answered attempts of this collection before.

    Raises:
        UserError: the teacher refuses, or has stopped answering. What was stored until then stays.
    """
    tasks = iter(tasks)
    if hasattr(teacher, "session"):
        limit = max(MAX_UNANSWERED, 3 * teacher.concurrency)
        run_async(_ask_many(teacher, tasks, _Watch(on_result, limit, answered)))
    elif hasattr(teacher, "solve_batch"):
        while batch := list(islice(tasks, teacher.batch_size)):
            for (problem, sample), attempt in zip(batch, teacher.solve_batch(batch), strict=True):
                on_result(problem, sample, attempt)
    else:
        for problem, sample in tasks:
            on_result(problem, sample, teacher.solve(problem, sample))


class _Watch:
    """What it means that an attempt was not answered.

    A server that is down must not fail the problems of a night: after `limit` attempts in a row
    the collection stops. A server that refuses an attempt may refuse this one alone (a flagged
    text, a dialogue longer than the context) or all of them (the key, the model, the options):
    refused attempts are held back until another one is answered, and then count as answered; where
    none is, they count as failed and are asked again at the next start.
    """

    def __init__(self, on_result: OnResult, limit: int, answered: bool) -> None:
        self.on_result, self.limit, self.answered = on_result, limit, answered
        self.held: list[tuple[Problem, int, Attempt]] = []
        self.row = 0

    def __call__(self, problem: Problem, sample: int, attempt: Attempt) -> None:
        if not (attempt.failed or attempt.refused):
            self.answered, self.row = True, 0
            self.release()
        else:
            unclear = not self.answered and attempt.reason != "context"
            self.row += attempt.failed or unclear or attempt.reason in BLOCKED
        if attempt.refused:
            self.held.append((problem, sample, attempt))
        else:
            self.on_result(problem, sample, attempt)
        if self.row >= self.limit:
            self.release(failed=True)
            raise UserError(f"The teacher has not answered {self.row} attempts in a row (the last: "
                            f"{_words(attempt)}); what was collected is safe: see to the server, "
                            "then start again to continue.")

    def release(self, failed: bool = False) -> None:
        for problem, sample, attempt in self.held:
            self.on_result(problem, sample, replace(attempt, failed=failed))
        self.held.clear()

    def end(self) -> None:
        """All tasks were attempted.

        Raises:
            UserError: the teacher refused every one of them.
        """
        last = self.held[-1][2] if self.held else None
        self.release(failed=not self.answered)
        if last and last.reason in BLOCKED and not self.answered:
            raise UserError(f"The teacher refused every attempt ({_words(last)}): check base_url, "
                            "model and the key's variable, then start again.")


def _words(attempt: Attempt) -> str:
    return f"{attempt.reason}: {attempt.detail}" if attempt.detail else attempt.reason


async def _ask_many(teacher: Any, tasks: Iterator[Task], watch: _Watch) -> None:
    async with teacher.session() as session:
        async def work() -> None:
            for problem, sample in tasks:  # shared: each worker takes the next task
                watch(problem, sample, await session.solve(problem, sample))

        # not a TaskGroup: IPython does not report an exception with a group in its context
        workers = [asyncio.create_task(work()) for _ in range(teacher.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    watch.end()


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

    def add(self, attempt: Attempt) -> None:
        meta = attempt.trajectory.meta if attempt.trajectory else {}
        self.counts.update(made=1, accepted=attempt.accepted, failed=attempt.failed,
                           prompt=meta.get("prompt_tokens", 0),
                           completion=meta.get("completion_tokens", 0))
        self.bar.update(note=self.text())

    def text(self) -> str:
        """`accepted 71%, 120k tokens, cost 0.42, failed 3`; parts without content are left out."""
        counts = self.counts
        parts = [f"accepted {counts['accepted'] / max(counts['made'], 1):.0%}"]
        if tokens := counts["prompt"] + counts["completion"]:
            parts.append(f"{tokens:,} tokens")
        if hasattr(self.teacher, "cost"):
            spent = self.teacher.cost(counts["prompt"], counts["completion"])
            parts += [f"cost {spent:.2f}"] if spent else []
        if counts["failed"]:
            parts.append(f"failed {counts['failed']}")
        return ", ".join(parts)
