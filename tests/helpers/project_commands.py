"""Commands of the kit run in a project of their own, as a user runs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def collect_command(folder: Path, *settings: str) -> subprocess.CompletedProcess:
    """`mentor-kit collect` of the shipped endpoint study with settings, in a project of its own."""
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
    shutil.copy(ROOT / "tests" / "helpers" / "fault_server.py", folder)
    command = [sys.executable, "-m", "mentor_kit", "collect", "params/collect-endpoint.yaml"]
    for setting in ("problems=fault_server:load", 'split_sizes=["train:3", "validation:2"]',
                    "samples=1", *settings):
        command += ["--set", setting]
    return subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True,
                          timeout=280)
