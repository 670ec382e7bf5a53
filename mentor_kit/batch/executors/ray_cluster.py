"""Jobs as tasks of a Ray cluster that is up, whose nodes share the project's folder and its
results.

The task on a node does what the local executor does: it starts the job's process and watches it.
Ray gives it CPUs, GPUs and memory, and tells when its node or worker is lost; the batch then starts
the job again, and it continues from its last checkpoint. Ray's own retries are off, as they would
be endless where memory runs out.

What keeps a job on a node that is given up from writing beside its successor, each by itself:

- Its process holds a lock on the run folder for as long as it lives; the successor waits for it,
  and finds the job done if the orphan ends it first. On a dead machine the storage frees the lock
  (NFS 4: when the lost client's lease runs out, commonly after 90 s); where only Ray died, its
  worker takes the job along.
- A new start writes its token into the lock file; the task of an orphan that still sees the storage
  finds it within two seconds and kills its job.
- Ray on a node that learns it was given up, or finds the connection to the head broken for a
  minute, ends itself and with it its jobs.

The gap that is left: a node cut off from the storage for longer than its lock's lease writes
nothing meanwhile, but
when the network comes back before Ray ended itself, its job may write until its task has looked:
two seconds at most.

The locks are POSIX record locks. Each node proves before a job that it sees the lock which the
batch holds on the study, so storage that is not shared, or whose locks stay on one machine, is
refused. A lost head ends the batch; the same command continues it.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mentor_kit.batch.executors.process import Ended, JobProcess, JobSpec
from mentor_kit.batch.plan import Job
from mentor_kit.batch.resources import Resources, hidden_gpus
from mentor_kit.errors import UserError
from mentor_kit.runs.locks import acquire_lock

POLL_SECONDS = 0.05
LOOK_SECONDS = 2.0  # between looks at which nodes are alive


def run_job(spec: JobSpec) -> Iterator[str | Ended]:
    """The task, on a node of the cluster: yields the node's id at its start and how the job ended
    at its end."""
    import ray

    yield ray.get_runtime_context().get_node_id()
    if not sees_the_batch(spec):
        cause = (f"node {platform.node()} does not see the batch's lock on "
                 f"{spec.run_dir.parents[1]}: mount the same storage there at the same path, with "
                 "POSIX locks that reach all nodes")
        yield Ended("failed", cause, 0.0)
        return
    process = JobProcess(spec, os.environ.get("CUDA_VISIBLE_DEVICES", "") if spec.resources.gpus
                          else "")
    try:
        while (ended := process.poll()) is None:
            time.sleep(POLL_SECONDS)
        yield ended
    finally:
        process.kill()


def sees_the_batch(spec: JobSpec) -> bool:
    """Whether the study's lock is here, and held: the storage is shared, its locks are, and the
    batch is alive."""
    path = spec.run_dir.parents[1] / ".lock"
    lock = acquire_lock(path) if path.is_file() else None
    if lock is not None:
        lock.close()
    return lock is None and path.is_file()


@dataclass
class Task:
    """A submitted job. `node`: the id of its node, once it has started there."""

    job: Job
    submitted: float
    node: str = ""


class RayExecutor:
    """`running`: the stream of what a task yields -> its Task."""

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        self.ray = connect(address)
        self.workers = workers
        self.remote = self.ray.remote(run_job)
        self.running: dict[Any, Task] = {}
        self.looked = 0.0

    def check(self, wanted: Mapping[str, Resources]) -> str:
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        for stage, resources in wanted.items():
            needs = {"CPU": resources.cpus, "GPU": resources.gpus,
                     "memory": resources.memory_gb * 1e9}
            if not any(all(node.get(name, 0) >= amount for name, amount in needs.items())
                       for node in nodes):
                raise UserError(f"Stage {stage!r} asks for {{{resources}}} a job, which no node "
                                "of the Ray cluster has; ask for less in its `resources:`, or "
                                "start a node that has it first.")
        return hidden_gpus(int(sum(node.get("GPU", 0) for node in nodes)), wanted)

    def has_room(self, resources: Resources) -> bool:
        return self.workers is None or len(self.running) < self.workers

    def start(self, job: Job, spec: JobSpec) -> None:
        wants = spec.resources
        options = {"num_cpus": wants.cpus, "num_gpus": wants.gpus, "max_retries": 0,
                   "name": str(job)}
        if wants.memory_gb:
            options["memory"] = int(wants.memory_gb * 1e9)
        self.running[self.remote.options(**options).remote(spec)] = Task(job, time.monotonic())

    def poll(self) -> list[tuple[Job, Ended]]:
        if not self.running:
            return []
        ready, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
        ends = {stream: end for stream in ready if (end := self._hear(stream))}
        ends |= {stream: self._lost(stream, "NodeDied") for stream in self._on_dead_nodes()
                 if stream not in ends}
        return [(self.running.pop(stream).job, end) for stream, end in ends.items()]

    def _hear(self, stream: Any) -> Ended | None:
        """Take the next thing that a task yields, or the error it ended with."""
        errors = self.ray.exceptions
        try:
            heard = self.ray.get(next(stream))
        # raised on the node: a package or a folder is missing there
        except errors.RayTaskError as error:
            cause = (str(error.cause).strip() or type(error.cause).__name__).splitlines()[0]
            return Ended("failed", f"its node could not start it: {cause}", self._seconds(stream))
        except errors.RayError as error:
            return self._lost(stream, type(error).__name__)
        if isinstance(heard, Ended):
            return heard
        self.running[stream].node = heard
        return None

    def _on_dead_nodes(self) -> list[Any]:
        """The tasks on nodes that the cluster gave up; Ray itself would wait minutes for their
        connection to break."""
        if time.monotonic() - self.looked < LOOK_SECONDS:
            return []
        self.looked = time.monotonic()
        dead = {node["NodeID"] for node in self.ray.nodes() if not node["Alive"]}
        lost = [stream for stream, task in self.running.items() if task.node in dead]
        for stream in lost:
            self.ray.cancel(stream, force=True)
        return lost

    def _lost(self, stream: Any, why: str) -> Ended:
        return Ended("lost", f"its node or worker went away ({why})", self._seconds(stream))

    def _seconds(self, stream: Any) -> float:
        return time.monotonic() - self.running[stream].submitted

    def kill(self) -> None:
        for stream in self.running:
            self.ray.cancel(stream, force=True)
        self.running.clear()
        self.ray.shutdown()


def connect(address: str | None) -> Any:
    """The ray module, connected as a driver to a cluster that is up.

    Raises:
        UserError: Ray is not installed, the address has the wrong form, or no cluster of which this
            machine is a node answers there.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported
    # attempts of 40 s; by default Ray makes twenty
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    try:
        import ray
    except ImportError as error:
        raise UserError("--executor ray needs Ray, which is not installed: pip install "
                        "'mentor-kit[cluster]' -c constraints.txt, on every node.") from error
    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    if address != "auto":
        check_address(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        where = "on this machine" if address == "auto" else f"at {address}"
        raise UserError(f"--executor ray: no Ray cluster {where} ({reason}); start one with `ray "
                        "start --head`, and run this on one of its nodes.") from error
    return ray


def check_address(address: str) -> None:
    """Refuse at once what Ray would try for a minute.

    Raises:
        UserError: not HOST:PORT, or nobody listens there.
    """
    host, colon, port = address.rpartition(":")
    if "/" in address or not (host and colon and port.isdigit()):
        raise UserError(f"Ray's address {address}: write HOST:PORT of the cluster's head, such as "
                        "10.0.0.1:6379, and run this on one of its nodes (Ray's client, ray://, is "
                        "not used).")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"Ray's address {address}: nobody answers there ({error}); give the "
                        "HOST:PORT that `ray start --head` printed, or leave --address out on a "
                        "node of the cluster.") from error
