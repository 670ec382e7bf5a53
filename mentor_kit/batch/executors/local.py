"""Jobs as processes of this machine, a few at a time; each GPU belongs to one job at a time."""

from __future__ import annotations

from collections.abc import Mapping

from mentor_kit.batch.executors.process import (
    THREAD_VARIABLES,
    Ended,
    JobProcess,
    JobSpec,
    job_environment,
)
from mentor_kit.batch.forkserver import ForkServer, can_fork
from mentor_kit.batch.plan import Job
from mentor_kit.batch.resources import Resources, gpu_devices, hidden_gpus
from mentor_kit.errors import UserError
from mentor_kit.runs.machine import usable_cores


class LocalExecutor:
    """`free`: the GPUs that no running job has leased."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or min(2, usable_cores())
        self.free = gpu_devices()
        self.server: ForkServer | None = None
        self.running: dict[Job, tuple[JobProcess, list[str]]] = {}

    def check(self, wanted: Mapping[str, Resources]) -> str:
        for stage, resources in wanted.items():
            if resources.gpus > len(self.free):
                raise UserError(f"Stage {stage!r} asks for {resources.gpus} "
                                f"GPU{'s' * (resources.gpus > 1)} a job and this machine has "
                                f"{len(self.free)} (CUDA_VISIBLE_DEVICES, else nvidia-smi -L); ask "
                                "for less in its `resources:`, or run where there are more.")
        return hidden_gpus(len(self.free), wanted)

    def has_room(self, resources: Resources) -> bool:
        return len(self.running) < self.workers and resources.gpus <= len(self.free)

    def start(self, job: Job, spec: JobSpec) -> None:
        count = spec.resources.gpus
        leased = self.free[:count]
        devices = ",".join(leased)
        self.running[job] = JobProcess(spec, devices, self._server(spec, devices)), leased
        self.free = self.free[count:]

    def _server(self, spec: JobSpec, devices: str) -> ForkServer | None:
        """The fork server, started with the first job that may be forked; None for other jobs, and
        once it has ended."""
        environment = job_environment(spec.resources, devices)
        if not can_fork(environment, THREAD_VARIABLES):
            return None
        if self.server is None:
            self.server = ForkServer(spec.root, environment)
        return self.server if self.server.alive else None

    def poll(self) -> list[tuple[Job, Ended]]:
        ended = [(job, end) for job, (process, _) in self.running.items()
                 if (end := process.poll())]
        for job, _ in ended:
            self.free += self.running.pop(job)[1]
        return ended

    def kill(self) -> None:
        if self.server:
            self.server.kill()
        for process, _ in self.running.values():
            process.kill()
        self.running.clear()
