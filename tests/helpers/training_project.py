"""Input runs of a real, tiny training, and trainings in processes of their own, for tests that kill
or count them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from small_student import by_heart, new_run, teacher_records

from mentor_kit.collection.collection import TRAJECTORIES
from mentor_kit.core.records import save_records
from mentor_kit.runs.open import load_run
from mentor_kit.runs.run import Run
from mentor_kit.training.stage import STUDENT

TINY = {"student_hidden": 32, "student_layers": 1, "validation_items": 2, "validate_every": 2,
        "save_every": 2,
        "steps": 4, "sft_batch": 8, "cold_start_batch": 8, "prompts_per_step": 4, "group_size": 4,
        "micro_batch": 4,
        "max_new_tokens": 96, "temperature": 0.7}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MENTOR_KIT_QUIET": "1",
               "TOKENIZERS_PARALLELISM": "false"}


def make_inputs(folder: Path) -> dict[str, Run]:
    """A teacher's run and a cold start's, whose student knows the lessons by heart."""
    lessons, validation = teacher_records(12), teacher_records(4, "validation")
    teacher = new_run(folder / "teacher", "collect")
    save_records(teacher.path(TRAJECTORIES), [*lessons, *validation])
    start = new_run(folder / "start", "cold_start")
    by_heart().save(start.path(STUDENT))
    return {"teacher_run": teacher.finish(), "start_run": start.finish()}


def parameters(inputs: dict[str, Run], **options: Any) -> dict[str, Any]:
    """Notebook 03's parameters of a tiny training."""
    return {**TINY, **{name: str(run.dir) for name, run in inputs.items()}, "method": "mentor",
            **options}


def train_command(run_dir: Path, params: dict[str, Any], *arguments: str) -> list[str]:
    """`mentor-kit train` for a file of these parameters, which is written beside the run's
    folder."""
    file = run_dir.with_suffix(".yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(params))
    return [sys.executable, *arguments, "-m", "mentor_kit", "train", str(file), "--run-dir",
            str(run_dir)]


def train_elsewhere(run_dir: Path, params: dict[str, Any], *arguments: str) -> Run:
    """Run it to its end in a process of its own."""
    command = train_command(run_dir, params, *arguments)
    done = subprocess.run(command, check=False, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_run(run_dir)
