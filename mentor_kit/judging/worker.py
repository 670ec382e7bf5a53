"""The worker process that runs the symbolic graders, seen from the process that asks it."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mentor_kit.errors import UserError

STARVED = 5.0  # a worker that is not running may take this many times as long on the wall clock
START_SECONDS = 120.0
PACKAGES = {"math_verify": "math-verify==0.9.0", "mathruler": "mathruler==0.1.0",
            "pylatexenc": "pylatexenc==2.11"}


# --- the worker -----------------------------------------------------------------------------------
class SymbolicWorker:
    """The grading process of this process, started on first use and replaced after a time-out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._buffer = b""

    def ask(self, request: dict[str, Any], seconds: float) -> str:
        """The worker's answer, or `timeout` where it had to be ended."""
        with self._lock:
            try:
                self._start()
                reply = self._exchange((json.dumps(request) + "\n").encode(), STARVED * seconds)
            # an interrupt would leave a reply in the pipe for the next question
            except BaseException:
                self.stop()
                raise
            if reply is None:
                self.stop()
                self._spawn()  # the next question finds it ready or nearly so
                return "timeout"
            return reply["by"]

    def warm(self) -> None:
        """Start the worker now."""
        with self._lock:
            self._start()

    def stop(self) -> None:
        """End the worker, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

    def _start(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self.stop()
            self._spawn()
        if self._ready:
            return
        hello = self._exchange(b"", START_SECONDS) or {}
        if not hello.get("ready"):
            self.stop()
            reason = hello.get("missing", "it ended without a word")
            raise UserError(f"The grading worker cannot start ({reason}); install "
                            f"{', '.join(PACKAGES.values())}.")
        self._ready = True

    def _spawn(self) -> None:
        path = os.pathsep.join(filter(None,
                                      [str(Path(__file__).parents[2]),
                                       os.environ.get("PYTHONPATH")]))
        keep = {k: os.environ[k] for k in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
                if k in os.environ}
        # a fixed hash seed: SymPy's choices follow set order; no other variable, so no secret, is
        # handed on
        environment = keep | {"PYTHONPATH": path, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        self._ready, self._buffer = False, b""
        self._process = subprocess.Popen([sys.executable, "-m",
                                          "mentor_kit.judging.grading_process"], env=environment,
                                         bufsize=0,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.DEVNULL,
                                         start_new_session=True)

    def _exchange(self, line: bytes, seconds: float) -> dict[str, Any] | None:
        """Send a line, wait for a line; None when the worker ended or the time is over."""
        deadline = time.monotonic() + seconds
        try:
            if line:
                self._process.stdin.write(line)
        except BrokenPipeError:
            return None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(deadline - time.monotonic(), 0)):
                    return None
                chunk = self._process.stdout.read(65_536)
                if not chunk:
                    return None
                self._buffer += chunk
        reply, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(reply)
