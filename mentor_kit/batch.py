"""Run a study: every cell a papermill execution in its own process with its own kernel, as many as asked at a time.

    mentor-kit batch params/demo.yaml --workers 2

Cells start when the runs they need are done, those with the longest way still ahead first. Killed at any point and
started again, it continues: done cells are left alone, interrupted ones continue, failed ones are reported and run
again only with --retry-failed. Kernels die with the runner.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from mentor_kit.board import Board
from mentor_kit.cell import cell_state, clear_outcome, settle
from mentor_kit.errors import UserError
from mentor_kit.host import usable_cores
from mentor_kit.kernel import hold_lock
from mentor_kit.plan import Cell, relative
from mentor_kit.runs import write_atomic
from mentor_kit.study import Study

POLL_SECONDS = 0.05
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass
class Running:
    cell: Cell
    process: subprocess.Popen
    started: float
    log: IO[bytes]


@dataclass
class Batch:
    """The state of one invocation. `state`: run folder -> done, failed, waiting or running."""

    study: Study
    cells: list[Cell]
    workers: int
    time_limit: float | None
    board: Board
    state: dict[Cell, str] = field(default_factory=dict)
    causes: dict[Cell, str] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)

    def run(self) -> None:
        """Start cells as they become ready until none is left; on any exception the running ones are killed."""
        ahead = chain_lengths(self.cells)
        try:
            while True:
                ready = [c for c in self.cells if self.state[c] == "waiting" and all(map(self._done, c.needed()))]
                ready.sort(key=lambda c: -ahead[c])
                for cell in ready[:self.workers - len(self.running)]:
                    self._start(cell)
                if not self.running:
                    return
                time.sleep(POLL_SECONDS)
                self._collect()
        finally:
            for running in self.running:
                _kill(running)

    def _done(self, cell: Cell) -> bool:
        return self.state.get(cell) == "done"

    def _start(self, cell: Cell) -> None:
        cell.run_dir.mkdir(parents=True, exist_ok=True)
        clear_outcome(cell.run_dir)
        asked = {"study": self.study.name, "stage": cell.stage, "key": cell.key, "label": str(cell),
                 "notebook": relative(cell.notebook, self.study.root), "parameters": cell.given}
        write_atomic(cell.run_dir / "cell.json", json.dumps(asked, indent=1, ensure_ascii=False) + "\n")
        log = open(cell.run_dir / "cell.log", "wb")  # noqa: SIM115 - closed when the cell ends
        command = [sys.executable, "-m", "mentor_kit.cell", str(cell.run_dir.resolve()), str(self.study.root),
                   str(os.getpid())]
        process = subprocess.Popen(command, cwd=self.study.root, env=cell_environment(), stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self.running.append(Running(cell, process, time.monotonic(), log))
        self.state[cell] = "running"
        self.board.show([r.cell for r in self.running])

    def _collect(self) -> None:
        for running in list(self.running):
            seconds = time.monotonic() - running.started
            late = self.time_limit is not None and seconds > self.time_limit
            if running.process.poll() is None and not late:
                continue
            self._end(running, seconds, f"time limit of {self.time_limit:g} s" if late else None)
        self.board.show([r.cell for r in self.running])

    def _end(self, running: Running, seconds: float, cause: str | None) -> None:
        _kill(running)
        self.running.remove(running)
        cell, code = running.cell, running.process.returncode
        if cause or code not in (0, 1):
            settle(cell.run_dir, cause or f"the cell's process ended with code {code}; see cell.log")
        state, cause = cell_state(cell.run_dir)
        self.state[cell] = state if state == "done" else "failed"
        self.causes[cell] = cause or "its run folder changed while it ran"
        self.board.ended(cell, self.state[cell], self.causes[cell], seconds)


def _kill(running: Running) -> None:
    with suppress(ProcessLookupError):
        running.process.kill()
    running.process.wait()
    running.log.close()


def cell_environment() -> dict[str, str]:
    """The user's environment, with one thread a cell unless it says otherwise, and without progress bars."""
    defaults = {**dict.fromkeys(THREAD_VARIABLES, "1"), "PYTHONHASHSEED": "0", "TOKENIZERS_PARALLELISM": "false",
                "MENTOR_KIT_QUIET": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    return {**defaults, **os.environ, "PYTHONHASHSEED": "0"}


def chain_lengths(cells: Collection[Cell]) -> dict[Cell, int]:
    """Cell -> the number of cells in the longest chain that waits for it. `cells` come in dependency order."""
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
            raise UserError(f"--only {name}: the study {study.name} has no such stage; it has {', '.join(study.stages)}.")
    chosen = {cell for cell in study.cells if not only or cell.stage in only}
    for cell in reversed(study.cells):
        if cell in chosen:
            chosen.update(cell.needed())
    return [cell for cell in study.cells if cell in chosen]


def run_batch(study: Study, *, workers: int | None = None, only: Collection[str] = (), dry_run: bool = False,
              retry_failed: bool = False, time_limit: float | None = None) -> int:
    """Run what is not done yet.

    Args:
        workers: cells at a time; by default 2, or 1 on a single core.
        only: names of stages; what they need runs too.
        dry_run: only list what would run.
        retry_failed: run failed cells again.
        time_limit: wall seconds after which a cell is killed and counted as failed.

    Returns:
        0 when every chosen cell is done, else 1.

    Raises:
        UserError: a results folder of another study, or another batch at work on it.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: give at least 1.")
    cells = choose(study, only)
    board = Board(study, cells)
    states = {cell: cell_state(cell.run_dir) for cell in cells}
    batch = Batch(study, cells, workers or min(2, usable_cores()), time_limit, board,
                  {c: s for c, (s, _) in states.items()}, {c: cause for c, (_, cause) in states.items()})
    if retry_failed:
        batch.state = {c: "waiting" if s == "failed" else s for c, s in batch.state.items()}
    if dry_run:
        return board.plan(batch.state)
    study.folder.mkdir(parents=True, exist_ok=True)
    lock = hold_lock(study.folder / ".lock")
    if lock is None:
        raise UserError(f"Another batch is at work on {study.folder}; wait for it, or follow it with `mentor-kit status "
                        f"{study.file}`.")
    with lock:
        study.claim()
        return _run_locked(batch)


def _run_locked(batch: Batch) -> int:
    todo = sum(state == "waiting" for state in batch.state.values())
    if not todo and all(state == "done" for state in batch.state.values()):
        batch.board.nothing_to_do()
        return 0
    with batch.board.live(sum(s == "done" for s in batch.state.values())):
        batch.run()
    batch.board.summary(batch.state, batch.causes)
    return 0 if all(state == "done" for state in batch.state.values()) else 1
