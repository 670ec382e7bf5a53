"""What a batch shows: one bar for the study, one line a job when it ends, and at the end where to
look."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mentor_kit.batch.job import job_state
from mentor_kit.batch.params import yaml_float
from mentor_kit.batch.timeline import Timeline, by_stage, clock, stored_times
from mentor_kit.collection.collection import stored
from mentor_kit.runs.locks import acquire_lock
from mentor_kit.runs.open import load_run
from mentor_kit.runs.progress import PROGRESS
from mentor_kit.runs.run import STAGE_NOTEBOOKS

if TYPE_CHECKING:
    from mentor_kit.batch.plan import Job
    from mentor_kit.batch.study import Study

STYLES = {"done": "green", "failed": "bold red", "running": "cyan", "waiting": "dim",
          "lost": "yellow"}
SHOWN = 4  # running jobs that the bar names; a cluster runs many


class Display:
    """The runner's view. In a terminal a live bar; elsewhere plain lines."""

    def __init__(self, study: Study, jobs: Sequence[Job]) -> None:
        self.study, self.jobs = study, jobs
        self.console = Console(highlight=False, soft_wrap=True)
        self.progress: Any = None
        self.done = 0
        self.timeline = Timeline()

    @contextmanager
    def live(self, done: int) -> Iterator[None]:
        """Show the bar for the length of the block; `done` jobs were done before."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self.done = done
        self._say(f"study {self.study.name}: {len(self.jobs)} jobs, {done} done before")
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TextColumn("{task.description}"))
        self.progress = Progress(*columns, console=self.console,
                                 disable=not self.console.is_terminal)
        with self.progress:
            self.task = self.progress.add_task("", total=len(self.jobs), completed=done)
            yield

    def show(self, running: Sequence[Job]) -> None:
        """Name the running jobs, each with the step its training has reached."""
        if self.console.is_terminal:
            text = ", ".join(f"{job}{_step(job.run_dir)}" for job in running[:SHOWN])
            text += f" and {len(running) - SHOWN} more" if len(running) > SHOWN else ""
            self.progress.update(self.task, description=escape(text), completed=self.done)

    def ended(self, job: Job, state: str, cause: str, seconds: float) -> None:
        self.done += state == "done"
        self.timeline.ended(job, seconds)
        why = f": {cause}" if cause else ""
        self._say(f"{state:>6}  {clock(seconds):>6}  {job}{why}", STYLES[state])

    def note(self, text: str) -> None:
        self._say(text, "yellow")

    def plan(self, states: Mapping[Job, str]) -> int:
        """List what would run; nothing is written."""
        for job in self.jobs:
            given = ", ".join(f"{k}={yaml_float(v) if isinstance(v, float) else v}"
                              for k, v in job.given.items() if k not in ("run_dir", *job.inputs))
            self._say(f"{states[job]:>8}  {job}  -> {_short(job.run_dir)}  {given}",
                      STYLES[states[job]])
        stuck: list[Job] = []
        for job in self.jobs:  # each after those it needs
            if states[job] == "waiting" and any(states[n] == "failed" or n in stuck
                                                 for n in job.needed()):
                stuck.append(job)
        running = sum(state == "waiting" for state in states.values()) - len(stuck)
        self._say(f"dry run: {running} of {len(self.jobs)} jobs would run")
        if stuck:
            self._say(f"would not run, as what they need failed: {', '.join(map(str, stuck))}; "
                      "with --retry-failed they would")
        return 0

    def nothing_to_do(self) -> None:
        self._say(f"nothing to do: all {len(self.jobs)} jobs are done")
        self._where()

    def summary(self, states: Mapping[Job, str], causes: Mapping[Job, str]) -> None:
        failed = [job for job in self.jobs if states[job] == "failed"]
        waiting = [job for job in self.jobs if states[job] == "waiting"]
        for job in failed:
            where = job.run_dir / "notebook.ipynb"
            self._say(f"failed: {job}: {causes[job]}\n        see "
                      f"{_short(where if where.is_file() else job.run_dir)}", "red")
        if waiting:
            self._say(f"not run, as what they need failed: {', '.join(map(str, waiting))}")
        if failed:
            self._say("run the same command with --retry-failed to run the failed jobs again")
        for line in self.timeline.lines():
            self._say(line)
        self._say(f"{sum(s == 'done' for s in states.values())} of {len(states)} jobs are done")
        self._where()

    def _where(self) -> None:
        """Point at the outcome: a figures run's summary.md is printed, its figures.html named."""
        for job in (job for job in self.jobs if job.stage == "figures"
                     and job_state(job.run_dir)[0] == "done"):
            for text in sorted(job.run_dir.rglob("summary.md")):
                self._say("\n" + text.read_text(encoding="utf-8").strip() + "\n")
            for sheet in sorted(job.run_dir.rglob("figures.html")) or [job.run_dir]:
                self._say(f"figures: {_short(sheet)}")
        self._say(f"runs, with their executed notebooks: {_short(self.study.folder)}")

    def _say(self, text: str, style: str | None = None) -> None:
        self.console.print(escape(text), style=style)
        sys.stdout.flush()


def status(study: Study) -> None:
    """Print the study as a table: state of each job, last error line, and the disk it takes."""
    table = Table(title=f"{study.name}: {_short(study.folder)}", title_justify="left")
    for column in ("state", "job", "run", "note"):
        table.add_column(column, overflow="fold")
    counts: dict[str, int] = {}
    for job in study.jobs:
        state, cause = job_state(job.run_dir)
        if state == "waiting" and _is_locked(job.run_dir):
            state, cause = "running", _step(job.run_dir).strip()
        counts[state] = counts.get(state, 0) + 1
        table.add_row(f"[{STYLES[state]}]{state}[/]", escape(str(job)), f"{job.stage}/{job.key}",
                      escape(cause))
    console = Console(highlight=False)
    console.print(table)
    console.print(", ".join(f"{n} {state}" for state, n in counts.items())
                  + f"; {_size(study.folder)} on disk")
    if times := stored_times(study.jobs):
        console.print(f"time by stage: {by_stage(times)}")


def _is_locked(run_dir: Path) -> bool:
    if not (run_dir / ".lock").is_file():
        return False
    lock = acquire_lock(run_dir / ".lock")
    if lock is not None:
        lock.close()
    return lock is None


def _step(run_dir: Path) -> str:
    """How far a running job is: its progress.txt, or " (step 12)" from the last whole line of
    metrics.jsonl."""
    with suppress(OSError, ValueError):
        return f" ({(run_dir / PROGRESS).read_text(encoding='utf-8').strip()})"
    path = run_dir / "metrics.jsonl"
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        lines = file.read().split(b"\n")[:-1]
    try:
        return f" (step {json.loads(lines[-1])['step']})"
    except (IndexError, ValueError, KeyError, TypeError):
        return ""


def _size(folder: Path) -> str:
    size = float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _short(path: Path) -> str:
    """Relative to the working folder where that is shorter."""
    short = os.path.relpath(path)
    return str(path) if short.startswith("..") else short


def outcomes(jobs: Iterable[Job]) -> list[str]:
    """What each finished collection among a study's jobs gave, a text each."""
    done = [job for job in jobs if job.notebook.stem == STAGE_NOTEBOOKS["collect"]
            and (job.run_dir / "DONE").is_file()]
    return [f"{job}: {stored(load_run(job.run_dir)).summary()}" for job in done]
