"""A small real student for tests: a few dozen problems, a 64-wide model that learnt them in seconds."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from mentor_kit.collect import attempt
from mentor_kit.problems import load_problems
from mentor_kit.runs import Run, start_run
from mentor_kit.store import Record
from mentor_kit.students.student import Student
from mentor_kit.students.tiny import build_model, build_tokenizer
from mentor_kit.teachers import load_teacher
from mentor_kit.toolbox import load_toolbox

BOX = load_toolbox("arithmetic")


def teacher_records(n: int, split: str = "train") -> list[Record]:
    """Accepted teacher attempts at short arithmetic stories."""
    teacher = load_teacher("worked_solution")
    problems = load_problems("arithmetic_stories", 0, {split: n})
    return [r for r in (attempt(p, teacher) for p in problems) if r.trajectory.meta["accepted"]]


def untrained(records: list[Record], width: int = 32, layers: int = 1) -> Student:
    texts = [t for r in records for t in (r.problem.question, r.trajectory.to_text())]
    tokenizer = build_tokenizer(texts, 800)
    model = build_model(tokenizer, hidden_size=width, layers=layers, heads=2, kv_heads=1, ffn_size=2 * width)
    return Student(model, tokenizer, BOX, "test")


def trained(records: list[Record], folder: Path, steps: int = 80) -> Student:
    """A student that has overfitted `records`: it calls tools and boxes answers, mostly rightly."""
    from mentor_kit.training.config import SFTSettings
    from mentor_kit.training.sft import train_sft

    torch.set_num_threads(1)
    student = untrained(records, width=64, layers=2)
    settings = SFTSettings(steps=steps, batch_size=len(records), optimizer="muon", validate_every=0)
    train_sft(student, records, [], settings, new_run(folder))
    return student


def new_run(folder: Path, stage: str = "train") -> Run:
    return start_run(folder, stage=stage, params={})


def clone(student: Student) -> Student:
    """A copy with weights of its own. `copy.deepcopy` is none after training: the trainer leaves a bound `forward`
    on the model, which would go on computing with the original's weights."""
    model = type(student.model)(copy.deepcopy(student.model.config))
    model.load_state_dict(student.model.state_dict())
    return Student(model, student.tokenizer, student.toolbox, student.name)
