"""What a job is given to run with: GPUs, CPUs, memory. A stage of a study says so, see
study.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mentor_kit.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Resources:
    """Of one job. `gpus`: whole devices, none by default; `cpus`: also its threads, unless
    OMP_NUM_THREADS and the like are set; `memory_gb`: 10^9 bytes, 0 where not stated; a Ray cluster
    reserves it, this machine does not.
    """

    gpus: int = 0
    cpus: int = 1
    memory_gb: float = 0.0

    def __str__(self) -> str:
        return ", ".join(f"{name}: {value:g}" for name, value in asdict(self).items() if value)


def read_resources(entry: Mapping[str, Any], where: Callable[[str], str]) -> Resources:
    """A stage's `resources`. `where`: name -> file:line, for the message.

    Raises:
        UserError: an unknown name, no number, or one that is too small.
    """
    least = {"gpus": 0, "cpus": 1, "memory_gb": 0}
    for name, value in entry.items():
        if name not in least:
            raise UserError(f"{where(name)}: resources know no {name!r}{did_you_mean(name, least)}")
        whole = name != "memory_gb"
        if type(value) not in ((int,) if whole else (int, float)) or not least[
            name
        ] <= value < float("inf"):
            raise UserError(f"{where(name)}: {name} = {value!r} must be a "
                            f"{'whole ' * whole}number, at least {least[name]}; write {name}: 1.")
    return Resources(**entry)


def gpu_devices() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; found without torch.

    CUDA_VISIBLE_DEVICES where it is set (empty or -1: none), else what `nvidia-smi -L` lists; a GPU
    that is split by MIG counts as its parts.
    """
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        names = [name.strip() for name in allowed.split(",")]
        return names[:next((i for i, name in enumerate(names) if name in ("", "-1", "NoDevFiles")),
                           len(names))]
    if not shutil.which("nvidia-smi"):
        return []
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60,
                              check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_listing(done.stdout) if done.returncode == 0 else []


def parse_listing(text: str) -> list[str]:
    """The UUIDs in the output of `nvidia-smi -L`."""
    devices: list[str] = []
    for line in text.splitlines():
        if line.strip().startswith("MIG") and devices and not devices[-1].startswith("MIG"):
            devices.pop()  # the whole of which these are the parts
        devices += re.findall(r"\(UUID: ([^)\s]+)\)", line)
    return devices


def hidden_gpus(count: int, wanted: Mapping[str, Resources]) -> str:
    """A line for the user where there are GPUs and no stage of the study asks for one; else
    empty."""
    if not count or any(r.gpus for r in wanted.values()):
        return ""
    gpus = "1 GPU is" if count == 1 else f"{count} GPUs are"
    return f"{gpus} hidden from every job: no stage says `resources: {{gpus: 1}}`"
