"""Where the jobs of a batch run. An executor starts jobs, says which have ended, and kills them.

`local`: processes of this machine. `ray`: tasks of a Ray cluster. Both run the same process for a
job (`executors/process.py`), so a run folder is the same wherever it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from mentor_kit.errors import UserError

if TYPE_CHECKING:
    from mentor_kit.batch.executors.process import Ended, JobSpec
    from mentor_kit.batch.plan import Job
    from mentor_kit.batch.resources import Resources

NAMES = ("local", "ray")


class Executor(Protocol):
    def check(self, wanted: Mapping[str, Resources]) -> str:
        """`wanted`: stage -> what its jobs need. Returns what the user should know first, or "".

        Raises:
            UserError: a stage that could never run here.
        """

    def has_room(self, resources: Resources) -> bool:
        """Whether a job that needs this may be started now."""

    def start(self, job: Job, spec: JobSpec) -> None:
        """Start a job; returns at once."""

    def poll(self) -> list[tuple[Job, Ended]]:
        """The jobs that ended since the last call."""

    def kill(self) -> None:
        """End every job that still runs, and let go of what the executor holds."""


def check_names(executor: str, address: str | None) -> None:
    """Refuse what `open_executor` would not take.

    Raises:
        UserError: no such executor, or an address where none is used.
    """
    if executor not in NAMES:
        raise UserError(f"--executor {executor}: there is none of that name; write --executor "
                        "local or --executor ray.")
    if executor == "local" and address is not None:
        raise UserError(f"--address {address}: only a Ray cluster has an address; add --executor "
                        "ray.")


def open_executor(executor: str, workers: int | None, address: str | None) -> Executor:
    """Make the executor, connected.

    Args:
        executor: local or ray.
        workers: jobs at a time; None is 2 (on one core 1) locally, and as many as fit on Ray.
        address: HOST:PORT of the Ray cluster; None is the one of RAY_ADDRESS, else the one of this
            machine.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    if executor == "local":
        from mentor_kit.batch.executors.local import LocalExecutor

        return LocalExecutor(workers)
    from mentor_kit.batch.executors.ray_cluster import RayExecutor

    return RayExecutor(workers, address)
