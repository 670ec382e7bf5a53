"""A process that imports once what jobs need, and forks itself for each job.

    python -m mentor_kit.batch.forkserver SOCKET PARENT_PID

Imports (torch, transformers, TRL, papermill) take most of a small job's time. The server runs one
thread and computes nothing, and it sees no GPU: its copy is as good as a fresh process. The job and
its kernel are forks; they hold the same locks, end with the same parents, and write the same files
as processes that are started afresh.

Afresh is how a job starts wherever a fork would not be the same: on another system than Linux, with
a GPU, with more than one thread, with Unsloth (which must be imported before TRL), and where
MENTOR_KIT_FORKSERVER=0 says so.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mentor_kit.batch.job import run_forked
from mentor_kit.batch.params import import_papermill
from mentor_kit.core.processes import die_with_parent

BACKEND = "module://matplotlib_inline.backend_inline"  # what ipykernel chooses
RUNNER = ("nbclient", "jupyter_client", "ipykernel.kernelapp")
DRAWING = ("pandas.io.formats.style", "matplotlib.backends.backend_pdf",
           "mentor_kit.analysis.figures")
STUDENTS = ("mentor_kit.students.student", "mentor_kit.evaluation.stage")
# What the kit's notebooks import, at their top or on the way; others import for themselves.
MODULES = {
    "01_teacher_trajectories": (*DRAWING, "mentor_kit.collection.collect"),
    "02_reward_design": (*DRAWING, *STUDENTS),
    "03_rl_training": (*DRAWING, *STUDENTS, "mentor_kit.training.grpo"),
    "04_evaluation": (*DRAWING, *STUDENTS),
    "05_paper_figures": (*DRAWING, "mentor_kit.analysis.report"),
}
NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # pyarrow starts one else
LONGEST = 1 << 16  # bytes of a message


def can_fork(environment: Mapping[str, str], threads: Sequence[str]) -> bool:
    """Whether a job with this environment may be forked. `threads`: the variables that say how many
    threads libraries take."""
    return (sys.platform == "linux" and os.environ.get("MENTOR_KIT_FORKSERVER") != "0"
            and environment["CUDA_VISIBLE_DEVICES"] == ""
            and all(environment[name] == "1" for name in threads)
            and importlib.util.find_spec("unsloth") is None)


class Shell:
    """What a library finds in a kernel when it is imported: pandas and tqdm look for it. One that
    asks for more, as matplotlib.pyplot does, is left to the job."""

    kernel = None
    config: ClassVar[dict[str, Any]] = {"IPKernelApp": {}}


class ForkServer:
    """The server, as the batch sees it."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        command = [sys.executable, "-m", "mentor_kit.batch.forkserver", str(theirs.fileno()),
                   str(os.getpid())]
        with theirs:
            self.process = subprocess.Popen(
                command, cwd=root, env={**environment, **NO_THREADS}, pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True)
        self.jobs: dict[int, ForkedJob] = {}
        self.alive = True

    def start(self, run_dir: Path, root: Path, notebook: str) -> ForkedJob:
        """Have a job forked; returns at once."""
        job = ForkedJob(self, len(self.jobs))
        self.jobs[job.number] = job
        self.send(start=job.number, run_dir=str(run_dir), root=str(root),
                  modules=[*RUNNER, *MODULES.get(Path(notebook).stem, ())])
        return job

    def send(self, **message: Any) -> None:
        with contextlib.suppress(OSError):  # it is gone, which `read` finds
            self.channel.send(json.dumps(message).encode())

    def read(self) -> None:
        """Take what the server reported of its jobs: `pid`, `returncode` or `refused`."""
        try:
            while message := self.channel.recv(LONGEST):
                number, news = json.loads(message)
                vars(self.jobs[number]).update(news)
        except BlockingIOError:
            return
        except OSError:
            pass
        self.alive = False  # its jobs ended with it

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.channel.close()


class ForkedJob:
    """A job that the server forked, as subprocess.Popen shows one. `pid` is None until then."""

    def __init__(self, server: ForkServer, number: int) -> None:
        self.server, self.number = server, number
        self.pid: int | None = None
        self.returncode: int | None = None
        self.refused = False

    @property
    def lost(self) -> bool:
        """The server would not fork it, or ended and took it along."""
        return self.refused or (self.returncode is None and not self.server.alive)

    def poll(self) -> int | None:
        if self.returncode is None and self.server.alive:
            self.server.read()
        return self.returncode

    def kill(self) -> None:
        self.server.send(kill=self.number)

    def wait(self) -> int | None:
        while self.poll() is None and not self.lost:
            select.select([self.server.channel], [], [], 1.0)
        return self.returncode


class Server:
    """The server itself. `running`: a file that ends with a process -> (job's number, pid)."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.running: dict[int, tuple[int, int]] = {}

    def serve(self) -> dict[str, Any] | None:
        """Answer the batch. Returns the request in a job's process, and None in the server once the
        batch is gone."""
        while True:
            ready, _, _ = select.select([self.channel, *self.running], [], [])
            for file in set(ready) & self.running.keys():
                self._report_end(file)
            if self.channel not in ready:
                continue
            message = self.channel.recv(LONGEST)
            if not message:
                return None
            request = json.loads(message)
            if "kill" in request:
                self._kill(request["kill"])
            elif not load(request["modules"]):
                self._report(request["start"], refused=True)
            elif self._fork(request["start"]):
                return request

    def _fork(self, number: int) -> bool:
        """Whether this process is the fork."""
        parent = os.getpid()
        if pid := os.fork():
            self.running[os.pidfd_open(pid)] = (number, pid)
            self._report(number, pid=pid)
            return False
        for file in (self.channel.detach(), *self.running):
            os.close(file)
        os.setsid()
        die_with_parent(parent)
        return True

    def _kill(self, number: int) -> None:
        for running, pid in self.running.values():
            if running == number:
                os.kill(pid, signal.SIGKILL)

    def _report_end(self, file: int) -> None:
        number, pid = self.running.pop(file)
        os.close(file)
        self._report(number, returncode=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    def _report(self, number: int, **news: Any) -> None:
        self.channel.send(json.dumps([number, news]).encode())


def load(modules: Sequence[str]) -> bool:
    """Import what is not there yet; what cannot be imported is the notebook's to say. Returns
    whether this process still has one thread, as a fork needs."""
    new = [name for name in modules if name not in sys.modules]
    with _as_in_a_kernel():
        for name in new:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    if new:
        gc.collect()
        gc.freeze()  # or the collector of each job copies the pages that they share
    return len(os.listdir("/proc/self/task")) == 1


@contextlib.contextmanager
def _as_in_a_kernel() -> Iterator[None]:
    """Let libraries find a kernel's shell while they are imported."""
    import IPython

    ask, importing = IPython.get_ipython, True

    def get_ipython() -> Any:  # some keep this function
        return Shell() if importing else ask()

    IPython.get_ipython = builtins.get_ipython = get_ipython
    try:
        yield
    finally:
        importing = False
        IPython.get_ipython = ask
        del builtins.get_ipython


def main() -> None:
    os.environ.setdefault("MPLBACKEND", BACKEND)
    die_with_parent(int(sys.argv[2]))
    import_papermill()
    request = Server(socket.socket(fileno=int(sys.argv[1]))).serve()
    if request is not None:
        sys.exit(run_forked(Path(request["run_dir"]), Path(request["root"])))


if __name__ == "__main__":
    if sys.path[0] in ("", str(Path.cwd())):
        del sys.path[0]  # a file of the working folder must not shadow a library
    main()
