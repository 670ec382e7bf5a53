"""What a student is trained on: accepted trajectories, or imperfect demonstrations of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from mentor_kit.collection.collection import Collection
from mentor_kit.core.records import Record
from mentor_kit.errors import UserError
from mentor_kit.teachers.half_learned import curriculum
from mentor_kit.teachers.imperfect import with_habits
from mentor_kit.training.config import TrainConfig


@dataclass(frozen=True)
class TrainingData:
    """What a student is trained on and validated with.

    Args:
        train: teacher trajectories (or imperfect demonstrations of them).
        validation: accepted teacher trajectories whose problems are asked at every validation.
        parts: of a curriculum: how many of `train` make each part, in order, and its optimizer
            steps; empty where all are trained on alike.
    """

    train: tuple[Record, ...]
    validation: tuple[Record, ...]
    parts: tuple[tuple[int, int], ...] = ()


def load_training_data(collection: Collection, config: TrainConfig) -> TrainingData:
    """Training and validation records of a method: all methods train on the same accepted problems
    (the first `references` of them, where that is above 0). A cold start trains on `pretrain` at a
    level, and without one where the teacher collected it.

    Raises:
        UserError: the collection has no accepted item in `train` (or `pretrain`) or `validation`,
            or RL is asked for where tools cannot be carried out.
    """
    cold = config.kind == "cold_start"
    staged = cold and config.cold_start_level
    split = "pretrain" if staged or cold and "pretrain" in collection.splits else "train"
    train = collection.accepted(split)[:config.references or None]
    validation = collection.accepted("validation")[:config.validation_items]
    for name, records in ((split, train), ("validation", validation)):
        if not records:
            raise UserError(f"The teacher's collection has no accepted item in split {name!r}: "
                            f"collect more with split_sizes ({name}:N).")
    if config.kind not in ("cold_start", "sft") and any(
            "tool_schemas" in r.problem.meta and not r.problem.meta.get("environment")
            for r in train):
        raise UserError(f"method={config.method!r} carries out calls, and these problems bring "
                        "tools that nobody can carry out: collect with the parameter toolbox, or "
                        "train by sft.")
    if staged:
        parts = curriculum(train, config.cold_start_level, config.cold_start_steps, config.seed)
        return TrainingData(tuple(r for shown, _ in parts for r in shown), tuple(validation),
                            tuple((len(shown), steps) for shown, steps in parts))
    if cold:
        train = demonstrations(train, config)
    return TrainingData(tuple(train), tuple(validation))


def demonstrations(records: Sequence[Record], config: TrainConfig) -> list[Record]:
    """Imperfect demonstrations: each trajectory with seeded, value-preserving bad tool habits."""
    seeds = np.random.SeedSequence([config.seed, 0x4AB17]).spawn(len(records))
    return [replace(r,
                    trajectory=with_habits(r.trajectory, r.problem,
                                           Random(int(s.generate_state(1)[0])),
                                              probability=config.habit_probability,
                                           max_turns=config.max_turns))
            for r, s in zip(records, seeds, strict=True)]
