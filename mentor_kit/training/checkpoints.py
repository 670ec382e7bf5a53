"""Resuming: where a run's last checkpoint is, and an order of items that resumes exactly.

Resuming TRL's trainers at or after an epoch boundary replays the first epoch's order (the sampler's private
generator restarts). So training never leaves its first epoch: the items are tiled with a seeded shuffle for each copy.
"""

from __future__ import annotations

import shutil

import numpy as np
from transformers.trainer_utils import get_last_checkpoint

from mentor_kit.runs import Run


def tiled_order(items: int, total: int, seed: int) -> list[int]:
    """`total` indices into `items` items: shuffled copies one after another, every copy a permutation."""
    copies = -(-total // items)
    seeds = np.random.SeedSequence([seed, 0x5EED]).spawn(copies)
    order = np.concatenate([np.random.default_rng(s).permutation(items) for s in seeds])
    return order[:total].tolist()


def last_checkpoint(run: Run) -> str | None:
    """The newest whole checkpoint of a run, or None. The metrics file is cut back to its step."""
    folder = run.path("checkpoints")
    checkpoint = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    run.resume_metrics(int(checkpoint.rsplit("-", 1)[1]) if checkpoint else 0)
    return checkpoint


def drop_checkpoints(run: Run) -> None:
    """Remove a finished run's checkpoints; the student folder holds what is kept."""
    shutil.rmtree(run.path("checkpoints"), ignore_errors=True)
