"""The process of one job, on whatever machine it runs: started, watched, its end put into
words."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentor_kit.batch.forkserver import ForkedJob, ForkServer
from mentor_kit.batch.job import FULL, LOCKED, finalize, job_state
from mentor_kit.batch.resources import Resources
from mentor_kit.runs.files import write_atomic
from mentor_kit.runs.locks import acquire_lock

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                    "NUMEXPR_NUM_THREADS")
# between looks at whether another start of the same job has taken the run folder over
LOOK_SECONDS = 2.0
ROOM = 1 << 16  # bytes without which no verdict can be written


@dataclass(frozen=True)
class JobSpec:
    """What it takes to run a job; plain values, for they may travel to another machine.

    `request` becomes the run folder's cell.json; `time_limit` is in wall seconds from the job's own
    start.
    """

    run_dir: Path
    root: Path
    request: Mapping[str, Any]
    resources: Resources
    time_limit: float | None


@dataclass(frozen=True)
class Ended:
    """How a job ended: `state` is done, failed, or lost (it did not end by itself: start it
    again)."""

    state: str
    cause: str
    seconds: float


class JobProcess:
    """A running job: forked by a server where one is given, else a process started afresh.
    `devices`: the GPUs it sees, as CUDA_VISIBLE_DEVICES writes them; "" is none.

    It writes a token into the run folder's lock file. Finding another there, it ends its job: the
    batch gave this node up and started the job elsewhere.
    """

    def __init__(self, spec: JobSpec, devices: str, server: ForkServer | None = None) -> None:
        self.spec, self.started = spec, time.monotonic()
        self.environment = job_environment(spec.resources, devices)
        self.token, self.looked = secrets.token_hex(8), self.started
        spec.run_dir.mkdir(parents=True, exist_ok=True)
        _write_in_place(spec.run_dir / ".lock", self.token)
        write_atomic(spec.run_dir / "cell.json",
                     json.dumps(spec.request, indent=1, ensure_ascii=False) + "\n")
        (spec.run_dir / "cell.log").write_bytes(b"")
        self.process: subprocess.Popen[bytes] | ForkedJob = (
            server.start(spec.run_dir, spec.root, spec.request["notebook"]) if server
            else self._start_afresh())

    def _start_afresh(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "mentor_kit.batch.job", str(self.spec.run_dir),
                   str(self.spec.root), str(os.getpid())]
        with open(self.spec.run_dir / "cell.log", "ab") as log:
            return subprocess.Popen(command, cwd=self.spec.root, env=self.environment,
                                    stdin=subprocess.DEVNULL, stdout=log,
                                    stderr=subprocess.STDOUT, start_new_session=True)

    def poll(self) -> Ended | None:
        """None while it runs; at its time limit it is killed."""
        seconds, limit = time.monotonic() - self.started, self.spec.time_limit
        late = ""
        if self.process.poll() is None:
            if isinstance(self.process, ForkedJob) and self.process.lost:
                if self.process.pid:
                    return Ended("lost", "the process that forked it has ended", seconds)
                self.process = self._start_afresh()
            if self._superseded():
                self.kill()
                return Ended("lost", "it was started elsewhere meanwhile", seconds)
            if limit is None or seconds <= limit:
                return None
            self.kill()
            late = f"time limit of {limit:g} s"
        return Ended(*self._outcome(late), seconds)

    def _superseded(self) -> bool:
        if time.monotonic() - self.looked < LOOK_SECONDS:
            return False
        self.looked = time.monotonic()
        try:
            return (self.spec.run_dir / ".lock").read_text(encoding="utf-8") != self.token
        except OSError:  # the storage is gone
            return True

    def _outcome(self, late: str) -> tuple[str, str]:
        """(state, cause). A process that was killed left no verdict: it is written here, but never
        beside another."""
        code, run_dir = self.process.returncode, self.spec.run_dir
        if code == FULL:
            return "failed", no_room(run_dir)
        if late or code not in (0, 1):
            lock = acquire_lock(run_dir / ".lock", timeout=5.0) if code != LOCKED else None
            if lock is None:
                return "lost", "another process still writes into its run folder"
            with lock, suppress(OSError):  # a disk that is full keeps no verdict
                finalize(run_dir, late or f"the job's process ended with code {code}; see cell.log")
        state, cause = job_state(run_dir)
        if state == "done":
            return "done", ""
        cause = cause or late or (no_room(run_dir) if shutil.disk_usage(run_dir).free < ROOM
                                  else "its run folder changed while it ran")
        return "failed", cause

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


def no_room(folder: Path) -> str:
    return (f"no space left on the device of {str(folder)!r}: make room, then run the same command "
            "again")


def _write_in_place(path: Path, text: str) -> None:
    """Not atomic, as a lock belongs to this very file; for a text that always has the same
    length."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(file, text.encode(), 0)
    os.close(file)


def job_environment(resources: Resources, devices: str) -> dict[str, str]:
    """The machine's environment, with as many threads as the job has CPUs unless it says
    otherwise, without progress bars, and with exactly the GPUs of the job.
    """
    defaults = {**dict.fromkeys(THREAD_VARIABLES, str(resources.cpus)),
                "TOKENIZERS_PARALLELISM": "false",
                "MENTOR_KIT_QUIET": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    return {**defaults, **os.environ, "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": devices}
