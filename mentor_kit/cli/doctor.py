"""`mentor-kit doctor`: what this machine would run, and what is missing."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
from pathlib import Path

from mentor_kit.core.files import project_root
from mentor_kit.runs.machine import (
    cpu_model,
    git_state,
    package_versions,
    torch_facts,
    usable_cores,
)

NEEDED = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "papermill",
          "jupyterlab", "ipykernel",
          "matplotlib", "seaborn", "math_verify", "mathruler", "reasoning_gym", "pyarrow", "pandas",
          "scipy")


def facts() -> dict[str, str]:
    """What `report` prints: name -> value."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if "torch" not in missing:
        importlib.import_module("torch")  # torch_facts asks the loaded module only
    torch = torch_facts()
    unsloth = importlib.util.find_spec("unsloth") is not None
    git, free = git_state(), shutil.disk_usage(Path.cwd()).free
    return {
        "backend (auto)": "unknown without torch" if "torch" in missing else _backend(),
        "unsloth": "importable"
        if unsloth
        else "not installed (needed on a GPU only: pip install 'mentor-kit[gpu]')",
        "devices": ", ".join(torch["gpus"] or []) or "CPU only",
        "cpu": f"{cpu_model()}, {usable_cores()} cores",
        "threads": f"torch {torch['torch_threads']}; OMP_NUM_THREADS="
                   f"{os.environ.get('OMP_NUM_THREADS', 'not set')}",
        "python": f"{platform.python_version()} on {platform.system()}",
        "offline": _offline(),
        "commit": f"{git['commit'] or 'no repository'}{' + changes' if git['dirty'] else ''}",
        "project": str(project_root()),
        "free disk": f"{free / 1e9:.1f} GB",
        "missing": ", ".join(missing) or "nothing",
    }


def _backend() -> str:
    from mentor_kit.students.backends import resolve_backend

    return "{}: {}".format(*resolve_backend("auto"))


def _offline() -> str:
    names = [n for n in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
             if os.environ.get(n, "").upper() in {"1", "TRUE", "ON", "YES"}]
    return (
        f"yes, by {', '.join(names)}"
        if names
        else "no (the demo needs no network; HF_HUB_OFFLINE=1 forbids it)"
    )


def report() -> None:
    """Print the facts and the versions as one table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False)
    for name, value in {**facts(), **package_versions()}.items():
        table.add_row(name, escape(value))
    Console(highlight=False).print(table)
