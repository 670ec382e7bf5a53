"""The process that executes what a model wrote for BFCL's multi-turn items: `worker.py PACKAGES
serve`.

Never ours: it sees the standard library and the checker's packages only, inherits no variable that
could hold a secret, works in a folder of its own and leads a process group of its own. Each request
runs in a forked child of it with limits on CPU time, memory and files (`mentor_kit.bfcl.worker`);
where the process itself does not answer in time, its whole group is killed and the next request
starts a new one. Nothing is lost by that: requests carry all that they need.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from functools import cache
from typing import Any

from mentor_kit.bfcl.checker import WORKER, environment, worker_variables
from mentor_kit.errors import UserError

SECONDS = 5  # CPU seconds a request may take; the gold answers take milliseconds
STUCK = 60.0  # seconds on the wall clock after which the process itself is given up


class Sandbox:
    """A serving worker, started at the first request."""

    def __init__(self, seconds: int = SECONDS, stuck: float = STUCK) -> None:
        self.seconds, self.stuck = seconds, stuck
        self._lock, self._process, self._folder = threading.Lock(), None, ""

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """The reply to one request (`execute` or `check`, see the worker).

        Returns:
            The worker's answer, or `{"failure": kind}` with kind timeout, memory, crash or long (a
            reply above 4 MB).

        Raises:
            UserError: the environment cannot be made or does not work, or it has no such item.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            reply = self._exchange({"operation": operation, "seconds": self.seconds, **request})
        if reply is not None and "error" in reply:
            raise _broken(reply["error"])
        return reply or {"failure": "timeout"}

    def _start(self) -> None:
        self._stop()
        packages = environment()
        self._folder = tempfile.mkdtemp(prefix="mentor-kit-")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(WORKER), str(packages), "serve"],
            stdin=subprocess.PIPE, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            cwd=self._folder,
            env=worker_variables(self._folder))
        hello = self._exchange({"operation": "hello"}) or {}
        if not hello.get("ready"):
            self._stop()
            raise _broken(hello.get("error", "it does not start"))

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Send a line, wait for a line; None where the process ended or had to be killed."""
        process, reply = self._process, ""
        watchdog = threading.Timer(self.stuck, _kill, [process])
        watchdog.start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            reply = process.stdout.readline()
        except BrokenPipeError:
            pass
        finally:
            watchdog.cancel()
            # killed, or we were interrupted: what it may still say answers no question
            if not reply.endswith("\n"):
                self._stop()
        return json.loads(reply) if reply.endswith("\n") else None

    def stop(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _kill(process)
            process.wait()
            process.stdin.close()
            process.stdout.close()
            shutil.rmtree(self._folder, ignore_errors=True)


def _broken(reason: str) -> UserError:
    return UserError(f"BFCL's executor failed ({reason}); delete {str(environment())!r} and try "
                     "again.")


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill the process and its children."""
    with suppress(ProcessLookupError):  # it is gone
        os.killpg(process.pid, signal.SIGKILL)


@cache
def sandbox() -> Sandbox:
    """The sandbox of this process."""
    started = Sandbox()
    atexit.register(started.stop)
    return started


# a forked child starts its own: these pipes are not its own
os.register_at_fork(after_in_child=sandbox.cache_clear)
