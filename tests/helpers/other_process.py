"""What stands in another process, and waiting for it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable


def printed_by(code: str, *options: str, **environment: str) -> str:
    """What a new interpreter prints that runs this code. `environment` replaces that of the
    tests."""
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True,
                          timeout=250, env=environment or None)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
