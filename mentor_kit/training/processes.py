"""This process among those that train together (`torch.distributed`): its rank, and what all of
them have to agree on.

Launched by `torch.distributed.run` or `accelerate launch`, every process computes the same; only
the first one writes. With one process each function here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from mentor_kit.core.processes import die_with_parent
from mentor_kit.runs.run import Run


def count() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    return rank() == 0


def sharded() -> bool:
    """The launcher spreads the weights over the processes (FSDP, DeepSpeed ZeRO-3)."""
    return any(os.environ.get(f"ACCELERATE_USE_{engine}") == "true"
               for engine in ("FSDP", "DEEPSPEED"))


def begin() -> None:
    """Join the others. This process then ends with its launcher, and all but the first show no
    progress."""
    if count() == 1:
        return
    from accelerate import PartialState

    die_with_parent()
    if not is_first():
        os.environ["MENTOR_KIT_QUIET"] = "1"
    PartialState(cpu=not torch.cuda.is_available())
    # transformers resumes with map_location "cpu:0" there, which torch.load does not know
    torch.serialization.register_package(0, lambda storage: None,
                                         lambda storage, place: storage if place.startswith("cpu:")
                                         else None)


def share(value: Any) -> Any:
    """The first process's value, in all processes."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def gather(items: list[Any]) -> list[Any]:
    """The lists of all processes joined, in the order of their ranks."""
    if count() == 1:
        return items
    from accelerate.utils import gather_object

    return gather_object(items)


class SilentRun(Run):
    """The run as all but the first process see it: they read, and write nothing."""

    def log(self, metrics: Mapping[str, Any]) -> None:
        pass

    def log_time(self, name: str, seconds: float, **facts: Any) -> None:
        pass

    def resume_metrics(self, step: int) -> None:
        pass
