"""Run a study: every job a papermill execution in its own process with its own kernel, as many as
asked at a time.

    mentor-kit batch params/demo.yaml --workers 2
    mentor-kit batch params/demo.yaml --executor ray

Jobs start when the runs they need are done, those with the longest way still ahead first. Killed
at any point and
started again, it continues: done jobs are left alone, interrupted ones continue, failed ones are
reported and run again only with --retry-failed. Kernels die with the runner. A job that is lost
with its node starts again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from mentor_kit.batch.display import Display
from mentor_kit.batch.executors import Executor, check_names, open_executor
from mentor_kit.batch.executors.process import Ended, JobSpec, no_room
from mentor_kit.batch.job import NO_ROOM, job_state
from mentor_kit.batch.plan import Job, relative, with_needed
from mentor_kit.batch.preflight import check_values
from mentor_kit.batch.study import Study
from mentor_kit.errors import UserError
from mentor_kit.runs.locks import lock_folder

POLL_SECONDS = 0.05
RESTARTS = 3  # of a job that is lost with its node, within one batch


@dataclass
class Batch:
    """The state of one invocation. `state`: job -> done, failed, waiting or running."""

    study: Study
    jobs: list[Job]
    display: Display
    state: dict[Job, str]
    causes: dict[Job, str]
    time_limit: float | None = None
    losses: Counter[Job] = field(default_factory=Counter)

    def run(self, executor: Executor) -> None:
        """Start jobs as they become ready until none is left."""
        ahead = chain_lengths(self.jobs)
        while True:
            ready = [job for job in self.jobs if self.state[job] == "waiting"
                     and all(self.state.get(needed) == "done" for needed in job.needed())]
            for job in sorted(ready, key=lambda job: -ahead[job]):
                if executor.has_room(self.study.stages[job.stage].resources):
                    self._start(job, executor)
            running = [job for job in self.jobs if self.state[job] == "running"]
            if not running:
                return
            self.display.show(running)
            time.sleep(POLL_SECONDS)
            for job, ended in executor.poll():
                self._end(job, ended)

    def _start(self, job: Job, executor: Executor) -> None:
        """Start a job; one whose folder cannot be written has failed, and the others go on."""
        try:
            executor.start(job, self._spec(job))
            self.state[job] = "running"
        except OSError as error:
            cause = no_room(job.run_dir) if error.errno in NO_ROOM else \
                f"its folder cannot be written ({error.strerror}: {error.filename})"
            self._end(job, Ended("failed", cause, 0.0))

    def waiting_stages(self) -> list[str]:
        return list(dict.fromkeys(job.stage for job in self.jobs
                                  if self.state[job] == "waiting"))

    def _spec(self, job: Job) -> JobSpec:
        request = {"study": self.study.name, "stage": job.stage, "key": job.key,
                   "label": str(job), "notebook": relative(job.notebook, self.study.root),
                   "parameters": job.given}
        return JobSpec(job.run_dir.resolve(), self.study.root, request,
                       self.study.stages[job.stage].resources, self.time_limit)

    def _end(self, job: Job, ended: Ended) -> None:
        state, cause = ended.state, ended.cause
        if state == "lost":
            self.losses[job] += 1
            again = self.losses[job] <= RESTARTS
            self.display.ended(job, "lost", cause + "; it starts again" * again, ended.seconds)
            if again:
                self.state[job] = "waiting"
                return
            state, cause = "failed", f"lost {self.losses[job]} times: {cause}"
        self.state[job], self.causes[job] = state, cause
        self.display.ended(job, state, cause, ended.seconds)


def chain_lengths(jobs: Collection[Job]) -> dict[Job, int]:
    """Job -> the number of jobs in the longest chain that waits for it. `jobs` come in
    dependency order."""
    ahead = dict.fromkeys(jobs, 0)
    for job in reversed(list(jobs)):
        for needed in job.needed():
            if needed in ahead:
                ahead[needed] = max(ahead[needed], ahead[job] + 1)
    return ahead


def choose(study: Study, only: Collection[str]) -> list[Job]:
    """The jobs of the named stages (all when none is named) and everything they need, in order."""
    for name in only:
        if name not in study.stages:
            raise UserError(f"--only {name}: the study {study.name} has no such stage; it has "
                            f"{', '.join(study.stages)}.")
        if not any(job.stage == name for job in study.jobs):
            raise UserError(f"--only {name}: no job of that stage is in this subset; leave out "
                            "--only or --subset.")
    return list(with_needed(study.jobs,
                            [job for job in study.jobs if not only or job.stage in only]))


def run_batch(study: Study, *, workers: int | None = None, only: Collection[str] = (),
              dry_run: bool = False,
              retry_failed: bool = False, time_limit: float | None = None, executor: str = "local",
              address: str | None = None) -> int:
    """Run what is not done yet.

    Args:
        workers: jobs at a time; by default 2, or 1 on a single core; on Ray as many as fit.
        only: names of stages; what they need runs too.
        dry_run: only list what would run.
        retry_failed: run failed jobs again.
        time_limit: wall seconds after which a job is killed and counted as failed.
        executor: local (processes of this machine) or ray (tasks of a cluster).
        address: HOST:PORT of the Ray cluster, where it is not the one of RAY_ADDRESS or of this
            machine.

    Returns:
        0 when every chosen job is done, else 1.

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
    jobs = choose(study, only)
    states = {job: job_state(job.run_dir) for job in jobs}
    batch = Batch(study, jobs, Display(study, jobs),
                  {job: state for job, (state, _) in states.items()},
                  {job: cause for job, (_, cause) in states.items()}, time_limit)
    if retry_failed:
        batch.state = {job: "waiting" if state == "failed" else state
                       for job, state in batch.state.items()}
    check_values(study, [job for job in jobs if batch.state[job] == "waiting"])
    if dry_run:
        return batch.display.plan(batch.state)
    if all(state == "done" for state in batch.state.values()):
        batch.display.nothing_to_do()
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
        study.reserve()
        if note:
            batch.display.note(note)
        with batch.display.live(sum(s == "done" for s in batch.state.values())):
            batch.run(executor)
    batch.display.summary(batch.state, batch.causes)
    return 0 if all(state == "done" for state in batch.state.values()) else 1
