"""An MCP server as the toolbox of a whole study, killed again and again; of its collection, the
same bytes as with nobody killing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mentor_kit.core.records import load_records
from mentor_kit.core.toolbox import load_toolbox

pytest.importorskip("mcp")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
STUDY = """
name: served
extends: smoke.yaml
fixed:
  toolbox: "mcp:{command} arithmetic"
  perturb: failing=0.3
  perturbations: [reordered]
grid: {{method: [mentor]}}
"""


def kill_servers(served: Path, killed: list[int], stop: threading.Event) -> None:
    """Kill each server some seconds after its first call."""
    draw = random.Random(0)
    while not stop.wait(draw.uniform(2, 6)):
        for pid in {int(f.name) for f in served.iterdir()} - set(killed):
            try:
                ours = b"server_of_this_test" in Path(f"/proc/{pid}/cmdline").read_bytes()
                os.kill(pid, signal.SIGKILL if ours else 0)
                killed.append(pid)
            except OSError:  # its study has ended it
                (served / str(pid)).unlink()


def batch(folder: Path, served: Path) -> str:
    command = [sys.executable, "-m", "mentor_kit", "batch", "params/served.yaml", "--workers", "1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                          env={**os.environ, "SERVED": str(served)})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.timeout(1800)
def test_a_study_with_an_mcp_server_that_is_killed(tmp_path):
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, tmp_path / name)
    file = shutil.copy(ROOT / "tests/helpers/mcp_server.py", tmp_path / "server_of_this_test.py")
    command = f"{sys.executable} {file}"
    (tmp_path / "params/served.yaml").write_text(STUDY.format(command=command))
    killed, stop, served = [], threading.Event(), tmp_path / "served"
    served.mkdir()
    killer = threading.Thread(target=kill_servers, args=(served, killed, stop))
    killer.start()
    started = time.monotonic()
    try:
        batch(tmp_path, served)
    finally:
        stop.set()
        killer.join()
    print(f"{len(killed)} kills in {time.monotonic() - started:.0f} s")
    assert len(killed) >= 3
    (collected,) = (tmp_path / "results/served/collect").glob("*/trajectories.parquet")
    records = load_records(collected)
    plain = load_toolbox("arithmetic")
    assert all(r.trajectory.meta["accepted"] for r in records if r.trajectory.calls)
    calls = [c for r in records for c in r.trajectory.calls]
    assert len(calls) > 100 and all(
        c.observation.content == plain.execute(c.name, c.arguments).content for c in calls)
    evaluated = [load_records(f) for f in
                 (tmp_path / "results/served/evaluate").glob("*/trajectories.parquet")]
    assert len(evaluated) == 2 and all(
        {r.problem.split for r in found} >= {"in_domain", "in_domain/reordered"}
        for found in evaluated)
