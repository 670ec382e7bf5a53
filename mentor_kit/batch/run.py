"""Run a study: every cell a papermill execution in its own process with its own kernel, as many as
asked at a time.

    mentor-kit batch params/demo.yaml --workers 2
    mentor-kit batch params/demo.yaml --executor ray

Cells start when the runs they need are done, those with the longest way still ahead first. Killed
at any point and
started again, it continues: done cells are left alone, interrupted ones continue, failed ones are
reported and run again only with --retry-failed. Kernels die with the runner. A cell that is lost
with its node starts again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from mentor_kit.batch.display import Board
from mentor_kit.batch.executors import Executor, check_names, open_executor
from mentor_kit.batch.executors.process import Ended, Job
from mentor_kit.batch.job import cell_state
from mentor_kit.batch.plan import Cell, relative, with_needed
from mentor_kit.batch.preflight import check_values
from mentor_kit.batch.study import Study
from mentor_kit.errors import UserError
from mentor_kit.runs.locks import lock_folder

POLL_SECONDS = 0.05
RESTARTS = 3  # of a cell that is lost with its node, within one batch


@dataclass
class Batch:
    """The state of one invocation. `state`: cell -> done, failed, waiting or running."""

    study: Study
    cells: list[Cell]
    board: Board
    state: dict[Cell, str]
    causes: dict[Cell, str]
    time_limit: float | None = None
    losses: Counter[Cell] = field(default_factory=Counter)

    def run(self, executor: Executor) -> None:
        """Start cells as they become ready until none is left."""
        ahead = chain_lengths(self.cells)
        while True:
            ready = [c for c in self.cells if self.state[c] == "waiting"
                     and all(map(self._done, c.needed()))]
            for cell in sorted(ready, key=lambda c: -ahead[c]):
                if executor.has_room(self.study.stages[cell.stage].resources):
                    executor.start(cell, self._job(cell))
                    self.state[cell] = "running"
            running = [c for c in self.cells if self.state[c] == "running"]
            if not running:
                return
            self.board.show(running)
            time.sleep(POLL_SECONDS)
            for cell, ended in executor.poll():
                self._end(cell, ended)

    def waiting_stages(self) -> list[str]:
        return list(dict.fromkeys(cell.stage for cell in self.cells
                                  if self.state[cell] == "waiting"))

    def _done(self, cell: Cell) -> bool:
        return self.state.get(cell) == "done"

    def _job(self, cell: Cell) -> Job:
        asked = {"study": self.study.name, "stage": cell.stage, "key": cell.key, "label": str(cell),
                 "notebook": relative(cell.notebook, self.study.root), "parameters": cell.given}
        return Job(cell.run_dir.resolve(), self.study.root, asked,
                   self.study.stages[cell.stage].resources,
                   self.time_limit)

    def _end(self, cell: Cell, ended: Ended) -> None:
        state, cause = ended.state, ended.cause
        if state == "lost":
            self.losses[cell] += 1
            again = self.losses[cell] <= RESTARTS
            self.board.ended(cell, "lost", cause + "; it starts again" * again, ended.seconds)
            if again:
                self.state[cell] = "waiting"
                return
            state, cause = "failed", f"lost {self.losses[cell]} times: {cause}"
        self.state[cell], self.causes[cell] = state, cause
        self.board.ended(cell, state, cause, ended.seconds)


def chain_lengths(cells: Collection[Cell]) -> dict[Cell, int]:
    """Cell -> the number of cells in the longest chain that waits for it. `cells` come in
    dependency order."""
    ahead = dict.fromkeys(cells, 0)
    for cell in reversed(list(cells)):
        for needed in cell.needed():
            if needed in ahead:
                ahead[needed] = max(ahead[needed], ahead[cell] + 1)
    return ahead


def choose(study: Study, only: Collection[str]) -> list[Cell]:
    """The cells of the named stages (all when none is named) and everything they need, in order."""
    for name in only:
        if name not in study.stages:
            raise UserError(f"--only {name}: the study {study.name} has no such stage; it has "
                            f"{', '.join(study.stages)}.")
        if not any(cell.stage == name for cell in study.cells):
            raise UserError(f"--only {name}: no cell of that stage is in this subset; leave out "
                            "--only or --subset.")
    return list(with_needed(study.cells,
                            [cell for cell in study.cells if not only or cell.stage in only]))


def run_batch(study: Study, *, workers: int | None = None, only: Collection[str] = (),
              dry_run: bool = False,
              retry_failed: bool = False, time_limit: float | None = None, executor: str = "local",
              address: str | None = None) -> int:
    """Run what is not done yet.

    Args:
        workers: cells at a time; by default 2, or 1 on a single core; on Ray as many as fit.
        only: names of stages; what they need runs too.
        dry_run: only list what would run.
        retry_failed: run failed cells again.
        time_limit: wall seconds after which a cell is killed and counted as failed.
        executor: local (processes of this machine) or ray (tasks of a cluster).
        address: HOST:PORT of the Ray cluster, where it is not the one of RAY_ADDRESS or of this
            machine.

    Returns:
        0 when every chosen cell is done, else 1.

    Raises:
        UserError: a value that a notebook would refuse, a results folder of another study, another
            batch at work on it, one that cannot be written, no such executor or cluster, or a stage
            that asks for more than there is.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: give at least 1.")
    if time_limit is not None and not time_limit > 0:
        raise UserError(f"--time-limit {time_limit:g}: give a number of seconds above 0.")
    check_names(executor, address)
    cells = choose(study, only)
    states = {cell: cell_state(cell.run_dir) for cell in cells}
    batch = Batch(study, cells, Board(study, cells), {c: s for c, (s, _) in states.items()},
                  {c: cause for c, (_, cause) in states.items()}, time_limit)
    if retry_failed:
        batch.state = {c: "waiting" if s == "failed" else s for c, s in batch.state.items()}
    check_values(study, [cell for cell in cells if batch.state[cell] == "waiting"])
    if dry_run:
        return batch.board.plan(batch.state)
    if all(state == "done" for state in batch.state.values()):
        batch.board.nothing_to_do()
        return 0
    place = open_executor(executor, workers, address)
    try:
        return _run_locked(batch, place)
    finally:
        place.kill()


def _run_locked(batch: Batch, executor: Executor) -> int:
    study = batch.study
    note = executor.check({stage: study.stages[stage].resources
                           for stage in batch.waiting_stages()})
    with lock_folder(study.folder, f"Another batch is at work on {study.folder}; wait for it, or "
                                   f"follow it with `mentor-kit status {study.file}`."):
        study.claim()
        if note:
            batch.board.note(note)
        with batch.board.live(sum(s == "done" for s in batch.state.values())):
            batch.run(executor)
    batch.board.summary(batch.state, batch.causes)
    return 0 if all(state == "done" for state in batch.state.values()) else 1
