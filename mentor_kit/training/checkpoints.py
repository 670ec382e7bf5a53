"""Resuming: where a run's last whole checkpoint is, an order of items that resumes exactly, the
best student so far.

Resuming TRL's trainers at or after an epoch boundary replays the first epoch's order (the sampler's
private generator restarts). So training never leaves its first epoch: the items are tiled with a
seeded shuffle for each copy.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from mentor_kit.core.files import atomic_path, sync
from mentor_kit.runs.files import canonical_json, read_json, write_atomic
from mentor_kit.runs.run import SCRATCH, Run
from mentor_kit.students.adapters import has_adapters
from mentor_kit.training import processes

SHARDS = "rollouts"  # a run's folder of one Parquet file a rollout batch, while it trains
# a checkpoint's file that says how many bytes its others have; written once they are on disk
SEAL = "sizes.json"
KEPT = 2  # checkpoints: where the machine crashes, the one before may be all that is whole


def tiled_order(items: int, total: int, seed: int, part: int = 0) -> list[int]:
    """`total` indices into `items` items: shuffled copies one after another, every copy a
    permutation. `part` tells several orders of one seed apart."""
    copies = max(1, -(-total // items))
    seeds = np.random.SeedSequence([seed, 0x5EED, *([part] if part else [])]).spawn(copies)
    order = np.concatenate([np.random.default_rng(s).permutation(items) for s in seeds])
    return order[:total].tolist()


def last_checkpoint(run: Run) -> str | None:
    """The newest whole checkpoint of a run, or None; what a kill left of others is removed.

    The metrics file is cut back to its step, or emptied.
    """
    checkpoint = _last_whole(run) if processes.is_first() else None
    checkpoint = processes.share(checkpoint)
    run.resume_metrics(step_of(checkpoint) if checkpoint else -1)
    return checkpoint


def step_of(checkpoint: Path | str) -> int:
    return int(str(checkpoint).rsplit("-", 1)[1])


def _last_whole(run: Run) -> str | None:
    found = sorted((run.dir / SCRATCH).glob("checkpoint-*"), key=step_of)
    before = _first_damaged_rollouts(run)
    for checkpoint in [c for c in found if not _is_whole(c) or step_of(c) >= before]:
        shutil.rmtree(checkpoint)
        found.remove(checkpoint)
    return str(found[-1]) if found else None


def _first_damaged_rollouts(run: Run) -> float:
    """The first step whose stored rollouts cannot be read: it has to be repeated."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for shard in sorted((run.dir / SHARDS).glob("step-*.parquet")):
        try:
            pq.read_metadata(shard)
        except (pa.ArrowException, OSError):
            return int(shard.stem.rpartition("-")[2])
    return float("inf")


def seal(run: Run, step: int) -> None:
    """Call once a checkpoint is written, in all processes: it counts from then on, and no crash of
    the machine takes it or the metrics up to it away."""
    processes.gather([])  # all have written their parts
    if not processes.is_first():
        return
    checkpoint = run.dir / SCRATCH / f"checkpoint-{step}"
    for path in (checkpoint, run.dir / "metrics.jsonl"):
        if path.exists():
            sync(path)
    write_atomic(checkpoint / SEAL, canonical_json(_sizes(checkpoint)))


def _sizes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size
            for path in folder.rglob("*") if path.is_file() and path.name != SEAL}


def _is_whole(checkpoint: Path) -> bool:
    """It was sealed, its files have the sizes they had then, and every process stored its random
    state."""
    return (read_json(checkpoint / SEAL) == _sizes(checkpoint)
            and len(list(checkpoint.glob("rng_state*.pth"))) == processes.count())


def drop_scratch(run: Run) -> None:
    """Remove what a finished training needs no more: checkpoints, and rollouts by the batch."""
    for name in (SCRATCH, SHARDS):
        shutil.rmtree(run.dir / name, ignore_errors=True)


def best_folder(run: Run, step: int) -> Path:
    return run.path(f"{SCRATCH}/best-{step}")


def save_best(model: Any, run: Run, step: int) -> None:
    """Keep the weights (with LoRA: the adapters) of the best validation so far, made at `step`."""
    if processes.is_first():
        with atomic_path(best_folder(run, step)) as folder:
            model.save_pretrained(folder, max_shard_size="1000GB")


def drop_older_best(run: Run, step: int) -> None:
    """Remove the best students before `step`, that of the oldest checkpoint that is kept."""
    for folder in run.path(SCRATCH).glob("best-*"):
        if step_of(folder) < step:
            shutil.rmtree(folder)


def restore_best(model: Any, run: Run, step: int) -> None:
    """Put the weights of the best validation back into the model."""
    from safetensors.torch import load_file

    folder = best_folder(run, step)
    if has_adapters(model):
        model.load_adapter(str(folder), model.active_adapters[0])
    else:
        # tied weights are stored once
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
