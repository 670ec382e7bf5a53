"""Facts about the machine and the software of a run, for manifest.json and `mentor-kit doctor`.

Never the environment's variables: secrets live there.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "unsloth",
            "unsloth_zoo", "bitsandbytes",
            "xformers", "triton", "papermill", "jupyterlab", "matplotlib", "seaborn", "math-verify",
            "mathruler",
            "reasoning-gym", "numpy", "pandas", "pyarrow", "openai", "ray", "mcp", "bm25s",
            "mentor-kit")


def package_versions() -> dict[str, str]:
    """Name -> version of the installed ones among the packages that can change a result."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_state(folder: Path | None = None) -> dict[str, Any]:
    """The commit, and whether tracked files differ from it; both None outside a repository."""
    commit = _git(["rev-parse", "HEAD"], folder)
    changes = _git(["status", "--porcelain", "--untracked-files=no"], folder)
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(arguments: list[str], folder: Path | None) -> str | None:
    folder = folder or Path(__file__).parent
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True,
                              timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
                platform.processor() or platform.machine())


def usable_cores() -> int:
    """The cores this process may use, which in a container can be fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def torch_facts() -> dict[str, Any]:
    """Threads and GPUs as torch sees them; torch is asked only where it is loaded already."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"torch_threads": None, "gpus": None}
    cuda = torch.cuda.is_available()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
    return {"torch_threads": torch.get_num_threads(), "gpus": gpus}


def host_facts() -> dict[str, Any]:
    hardware = {"cpu": cpu_model(), "cores": usable_cores(), "system": platform.system(),
                **torch_facts()}
    return {"python": platform.python_version(), "packages": package_versions(), "git": git_state(),
            "hardware": hardware, "started_at": datetime.now(UTC).isoformat(timespec="seconds")}


def cache_folder() -> Path:
    """Where what is made once and used again lies: `MENTOR_KIT_CACHE`, else ~/.cache/mentor_kit."""
    return Path(os.environ.get("MENTOR_KIT_CACHE") or Path.home() / ".cache" / "mentor_kit")
