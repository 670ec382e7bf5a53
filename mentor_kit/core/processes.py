"""Child processes: they never outlive their parent, and those that answer questions are killed when
they are late."""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
START_SECONDS = 120.0


def die_with_parent(parent: int | None = None) -> None:
    """Ask Linux to kill this process when its parent ends; elsewhere ipykernel's own watch does
    within a second.

    `parent`: the process id the parent had when it started this one; if it is gone already, this
    one exits.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        sys.exit("the parent process is gone")


def name_process(name: str) -> None:
    """What `top` shows of this process on Linux: at most 15 characters."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode())


def inherited_variables() -> dict[str, str]:
    """The variables that a child which reads a model's text may have of ours: none that could hold
    a secret."""
    names = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
    return {name: os.environ[name] for name in names if name in os.environ}


class NotReady(Exception):
    """A child process that cannot answer questions; the message is its own reason."""


class LineWorker:
    """A child process that answers a line of JSON with a line of JSON.

    It starts at the first question, in an empty folder and a process group of its own. It says
    `{"ready": true}` when it can answer, or `{"error": reason}`. When it is late its whole group is
    killed, and a new one starts for the next question. Threads wait for each other; a forked
    process starts its own child, because the pipes are its parent's.
    """

    def __init__(self, command: Callable[[str], tuple[list[str], dict[str, str]]]) -> None:
        """`command`: gives the child's arguments and all its variables for the folder it works
        in."""
        self._command = command
        self.forget()
        _workers.add(self)

    def forget(self) -> None:
        """Start anew without touching the child: it belongs to another process."""
        self._lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.folder = ""
        self._ready = self.late = False

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """The child's answer, or None where it ended or, being `late`, was killed.

        Args:
            seconds: on the wall clock.

        Raises:
            NotReady: it cannot start.
        """
        with self._lock:
            try:
                self._start()
                reply = self._exchange(request, seconds)
            except BaseException:  # an interrupt leaves a reply in the pipe: it answers no question
                self.stop()
                raise
            if reply is None:
                self.stop()
                self._spawn()  # the next question finds it ready or nearly so
            return reply

    def warm(self) -> None:
        """Start the child now and wait until it is ready."""
        with self._lock:
            self._start()

    def stop(self) -> None:
        """Kill the child with its group, if there is one."""
        process, self.process = self.process, None
        if process is not None:
            _kill_group(process)
            process.wait()
            with suppress(BrokenPipeError):  # a question that it was killed before reading
                process.stdin.close()
            process.stdout.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        if self.process is None or self.process.poll() is not None:
            self.stop()
            self._spawn()
        if not self._ready:
            hello = self._exchange(None, START_SECONDS) or {}
            self._ready = hello.get("ready") is True
        if not self._ready:
            self.stop()
            raise NotReady(hello.get("error", "it ended without a word"))

    def _spawn(self) -> None:
        self.folder, self._ready = tempfile.mkdtemp(prefix="mentor-kit-"), False
        try:
            command, variables = self._command(self.folder)
            self.process = subprocess.Popen(
                command, env=variables, cwd=self.folder, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _exchange(self, request: dict[str, Any] | None, seconds: float) -> dict[str, Any] | None:
        """Write a line (unless it is None), wait for a line."""
        process, late, reply = self.process, threading.Event(), b""

        def ring() -> None:
            late.set()
            _kill_group(process)

        watchdog = threading.Timer(seconds, ring)
        watchdog.start()
        try:
            if request is not None:
                process.stdin.write((json.dumps(request) + "\n").encode())
                process.stdin.flush()
            reply = process.stdout.readline()
        except BrokenPipeError:
            pass
        finally:
            watchdog.cancel()
            watchdog.join()
        self.late = late.is_set()
        if self.late:
            self.stop()
        return json.loads(reply) if reply.endswith(b"\n") and not late.is_set() else None


class WorkerPool:
    """As many workers as there are questions at once. They keep nothing from one to the next."""

    def __init__(self, command: Callable[[str], tuple[list[str], dict[str, str]]]) -> None:
        self._command = command
        self._idle: list[LineWorker] = []

    @contextmanager
    def borrow(self) -> Iterator[LineWorker]:
        """A worker that nobody else asks."""
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = LineWorker(self._command)
        try:
            yield worker
        finally:
            self._idle.append(worker)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it is gone
        os.killpg(process.pid, signal.SIGKILL)


_workers: weakref.WeakSet[LineWorker] = weakref.WeakSet()


def _forget_all() -> None:
    for worker in list(_workers):
        worker.forget()


def _stop_all() -> None:
    for worker in list(_workers):
        worker.stop()


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_stop_all)
