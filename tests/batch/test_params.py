"""params/: the paper's recipes and the student fragments pass every check that comes before the
first kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mentor_kit.batch.preflight import check_values
from mentor_kit.batch.study import load_study
from mentor_kit.runs.parameters import configure
from mentor_kit.training.config import TrainConfig

ROOT = Path(__file__).parents[2]
PAPER = sorted((ROOT / "params").glob("paper-*.yaml"))
STUDENTS = sorted((ROOT / "params" / "students").glob("*.yaml"))
# PAPER: hyper-parameters in the released scripts, the same for all three.
RELEASED = {"learning_rate": 1e-6, "kl_beta": 0.001, "epsilon": 0.2, "entropy_coef": 0.001,
            "loss_type": "dapo",
            "temperature": 0.6, "top_k": 20, "top_p": 0.99, "max_turns": 5, "num_iterations": 1}
# batch, mini-batch, group, response, GPUs
SIZES = {"paper-qwen2.5-7b": (32, 8, 10, 8192, 8), "paper-qwen3-8b": (32, 8, 10, 8192, 8),
         "paper-qwen3-1.7b": (8, 4, 5, 12000, 4)}


def training(file: Path) -> dict[str, TrainConfig]:
    """The settings of each method that the study trains."""
    study = load_study(file)
    check_values(study, study.jobs)
    jobs = [c for c in study.jobs if c.stage == "train"]
    configs = [configure(TrainConfig,
                         **{n: v for n, v in c.params.items() if n in TrainConfig.model_fields})
               for c in jobs]
    return {c.method: c for c in configs}


def test_the_recipes_and_the_students_are_these():
    assert {f.stem for f in PAPER} == set(SIZES)
    assert {f.stem for f in STUDENTS} == {"tiny", "smollm2-135m", "qwen2.5-1.5b", "qwen3-0.6b",
                                          "qwen3-1.7b", "qwen3-4b"}


@pytest.mark.parametrize("file", PAPER, ids=lambda f: f.stem)
def test_the_paper_recipes_hold_the_released_values(file):
    batch, mini, group, response, gpus = SIZES[file.stem]
    settings = training(file)
    assert set(settings) == {"mentor", "sparse", "any_overlap", "no_tool_match", "set_f1"}
    for asked in settings.values():
        assert {n: getattr(asked, n) for n in RELEASED} == RELEASED
        assert (asked.prompts_per_step, asked.group_size, asked.max_new_tokens,
                asked.num_processes) == \
            (batch, group, response, gpus)
        assert asked.updates_per_batch == batch // mini
        assert asked.steps == 2 * 2560 // batch * asked.updates_per_batch  # two epochs


@pytest.mark.parametrize("file", [*PAPER, ROOT / "params" / "gpu-gsm.yaml"], ids=lambda f: f.stem)
def test_the_command_lists_what_would_run(file):
    done = subprocess.run([sys.executable, "-m", "mentor_kit", "batch", str(file), "--dry-run"],
                          capture_output=True,
                          text=True, cwd=ROOT, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "dry run:" in done.stdout and "train method=mentor" in done.stdout


@pytest.mark.parametrize("file", STUDENTS, ids=lambda f: f.stem)
def test_every_student_fits_a_study(file):
    fragment = yaml.safe_load(file.read_text())
    study = load_study(ROOT / "params" / "gpu-gsm.yaml",
                       overrides=[f"{n}={v}" for n, v in fragment.items()])
    # from scratch: no base model
    asked = [c for c in study.jobs if c.stage != "evaluate_base" or file.stem != "tiny"]
    check_values(study, asked)
    job = next(c for c in study.jobs if c.stage == "train")
    assert fragment.items() <= job.params.items()
