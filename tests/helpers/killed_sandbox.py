"""The Python tool's sandbox, killed while a call is under way."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.toolboxes import python


@contextmanager
def killed_sandbox() -> Iterator[None]:
    """Within, the first call of `python` finds a process that does not answer, and is killed."""
    load_toolbox("python").execute("python", {"code": "1"})
    process = python.sandbox().worker.process.pid
    os.kill(process, signal.SIGSTOP)
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {process}"])
    try:
        yield
    finally:
        killer.wait()
    assert python.sandbox().worker.process.pid != process
