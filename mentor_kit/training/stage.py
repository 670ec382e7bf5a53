"""The one call of notebook 03: make or load a student, train it by a method, store everything in the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from mentor_kit.collect import TRAJECTORIES, Collection
from mentor_kit.configs import TrainConfig
from mentor_kit.errors import UserError
from mentor_kit.rewards import load_reward
from mentor_kit.runs import Run, load_run, write_atomic
from mentor_kit.store import Record, load_records, save_records
from mentor_kit.students.student import Student, load_student, model_card
from mentor_kit.students.tiny import build_model, build_tokenizer
from mentor_kit.teachers.habits import with_habits
from mentor_kit.toolbox import load_toolbox
from mentor_kit.training.checkpoints import drop_checkpoints
from mentor_kit.training.config import GRPOSettings, SFTSettings, settings_from

STUDENT = "student"  # the folder of a run that holds the trained student


@dataclass(frozen=True)
class Lessons:
    """What a student is trained on and validated with.

    Args:
        train: teacher trajectories (or imperfect demonstrations of them).
        validation: accepted teacher trajectories whose problems are asked at every validation.
    """

    train: tuple[Record, ...]
    validation: tuple[Record, ...]


def stage_name(config: TrainConfig) -> str:
    return "cold_start" if config.kind == "cold_start" else "train"


def inputs(config: TrainConfig, teacher: Run) -> dict[str, Run]:
    """The runs this run is made from: the teacher's, and the cold start (none for the cold start itself).

    `start_run="none"` trains `student_source` directly.
    """
    if config.kind == "cold_start" or config.start_run == "none":
        return {"teacher_run": teacher}
    return {"teacher_run": teacher, "start_run": load_run(config.start_run, stage="cold_start")}


def prepare_lessons(collection: Collection, config: TrainConfig) -> Lessons:
    """Training and validation records of a method: all methods train on the same accepted problems.

    Raises:
        UserError: the collection has no accepted item in `train` or `validation`.
    """
    train, validation = collection.accepted("train"), collection.accepted("validation")[:config.validation_items]
    for name, records in (("train", train), ("validation", validation)):
        if not records:
            raise UserError(f"The teacher's collection has no accepted item in split {name!r}: collect more with "
                            f"split_sizes ({name}:N).")
    if config.kind == "cold_start":
        train = demonstrations(train, config)
    return Lessons(tuple(train), tuple(validation))


def demonstrations(records: Sequence[Record], config: TrainConfig) -> list[Record]:
    """Imperfect demonstrations: each trajectory with seeded, value-preserving bad tool habits."""
    seeds = np.random.SeedSequence([config.seed, 0x4AB17]).spawn(len(records))
    return [replace(r, trajectory=with_habits(r.trajectory, r.problem, Random(int(s.generate_state(1)[0])),
                                              probability=config.habit_probability, max_turns=config.max_turns))
            for r, s in zip(records, seeds, strict=True)]


def make_student(config: TrainConfig, lessons: Lessons, start: Run | None) -> Student:
    """The student to train: the start run's, a folder or hub id, or the embedded one from scratch."""
    toolbox = lessons.train[0].problem.toolbox
    if start is not None:
        return load_student(start.path(STUDENT), toolbox, name=config.method, backend=config.student_backend)
    if config.student_source != "tiny":
        return load_student(config.student_source, toolbox, name=config.method, backend=config.student_backend)
    box = load_toolbox(toolbox)
    signatures = [f"{t.name}({', '.join(t.parameters)})" for t in box.tools.values()] * 20
    texts = [t for r in lessons.train for t in (r.problem.question, r.trajectory.to_text())]
    tokenizer = build_tokenizer(signatures + texts, config.vocab_size)
    model = build_model(tokenizer, hidden_size=config.student_hidden, layers=config.student_layers, seed=config.seed)
    return Student(model, tokenizer, box, config.method)


def train(config: TrainConfig, student: Student, lessons: Lessons, run: Run) -> dict[str, Any]:
    """Train by `config.method`, then store the student, its rollouts and its budget in the run.

    Interrupted, it continues from its last checkpoint. Returns the budget: optimizer_steps, sampled_tokens,
    teacher_tokens, parameters.
    """
    with run.time("train"):
        budget = _train_grpo(config, student, lessons, run) if config.kind == "grpo" else \
            _train_sft(config, student, lessons, run)
    budget["parameters"] = sum(p.numel() for p in student.model.parameters())
    write_atomic(run.path("budget.json"), json.dumps(budget, sort_keys=True, indent=1) + "\n")
    _keep_rollouts(run)
    facts = {"method": config.method, "seed": config.seed, **budget}
    if not run.path(STUDENT).exists():
        student.save(run.path(STUDENT), model_card(f"{config.method} student", facts))
    drop_checkpoints(run)
    return budget


def _train_sft(config: TrainConfig, student: Student, lessons: Lessons, run: Run) -> dict[str, Any]:
    from mentor_kit.training.sft import train_sft

    shared = {"seed": config.seed, "validate_every": config.validate_every, "save_every": config.save_every,
              "report_to": config.report_to}
    if config.kind == "cold_start":
        settings = SFTSettings(steps=config.cold_start_steps, batch_size=config.cold_start_batch, optimizer="muon",
                               learning_rate=config.cold_start_learning_rate,
                               muon_learning_rate=config.cold_start_muon_learning_rate,
                               target_accuracy=config.cold_start_accuracy, cooldown=config.cold_start_cooldown,
                               **shared)
    else:
        settings = SFTSettings(steps=config.steps, batch_size=config.sft_batch,
                               learning_rate=config.sft_learning_rate, **shared)
    return train_sft(student, lessons.train, lessons.validation, settings, run)


def _train_grpo(config: TrainConfig, student: Student, lessons: Lessons, run: Run) -> dict[str, Any]:
    from mentor_kit.training.grpo import train_grpo

    settings = settings_from(GRPOSettings, config.model_dump())
    return train_grpo(student, lessons.train, lessons.validation, load_reward(config.reward_spec), settings, run)


def _keep_rollouts(run: Run) -> None:
    """Join the per-step shards of sampled rollouts into the run's one trajectory file."""
    shards: list[Path] = sorted((run.dir / "rollouts").glob("step-*.parquet"))
    if not shards:
        return
    save_records(run.path(TRAJECTORIES), [r for shard in shards for r in load_records(shard)])
    for shard in shards:
        shard.unlink()
    shards[0].parent.rmdir()
