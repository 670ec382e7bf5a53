"""The GPU check's own arithmetic and table, and what it says without a GPU. That it runs:
tests/students/test_unsloth.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import gpu_check
import pytest
import torch
from safetensors.torch import save_file

from mentor_kit.training.trainer_config import FILE

TESTS = Path(__file__).parents[1]


def store(work: Path, case: str, gradient: list[float], **arguments: object) -> None:
    save_file({"a": torch.tensor(gradient[:2]), "b": torch.tensor(gradient[2:])},
              work / f"gradient-s-gradient-{case}.safetensors")
    (work / f"run-s-gradient-{case}").mkdir()
    (work / f"run-s-gradient-{case}" / FILE).write_text(
        json.dumps({"arguments": {"num_generations": 8, **arguments}})
    )


@pytest.fixture
def found(tmp_path) -> dict:
    store(tmp_path, "trl", [3.0, 4.0, 0.0, 0.0], loss_type="dapo", epsilon_high=0.2)
    store(tmp_path, "unsloth", [3.0, 4.0, 0.0, 0.05], loss_type="dapo", epsilon_high=0.2,
          unsloth_num_chunks=-1)
    store(tmp_path, "unsloth-packed", [4.0, 3.0, 0.0, 0.0], loss_type="dapo", epsilon_high=0.28)
    store(tmp_path, "trl-split", [6.0, 8.0, 0.0, 0.0], loss_type="dapo", epsilon_high=0.2,
          steps_per_generation=4)
    return gpu_check.compare(tmp_path, "s")


def test_gradients_are_compared_by_cosine_and_norm(found):
    assert (
        found["unsloth"]["cosine"] == pytest.approx(5 / (25 + 0.0025) ** 0.5)
        and found["unsloth"]["agrees"]
    )
    assert (
        found["unsloth-packed"]["cosine"] == pytest.approx(24 / 25)
        and not found["unsloth-packed"]["agrees"]
    )
    split = found["trl-split"]
    assert split["cosine"] == pytest.approx(1) and split["norm_ratio"] == 2 and not split["agrees"]


def test_only_undocumented_differences_of_the_trainers_configs_are_told(found):
    assert {n: row["undocumented_config_differences"] for n, row in found.items()} == {
        "unsloth": [], "unsloth-packed": ["epsilon_high"], "trl-split": []}


def test_the_table_says_which_option_stays_off_and_what_failed(found):
    timed = {"median_step_seconds": 2.0, "tokens_a_step": 1000, "peak_allocated_gib": 10.0}
    parts = {"s/steps/trl": timed,
             "s/steps/unsloth": timed | {"median_step_seconds": 0.5, "tokens_a_step": 500},
             "s/steps/unsloth-packed": {"error": "out of memory"}}
    result = {"parts": parts, "gradients": {"s": found}, "tiny": False, "left": ["s/update/trl"],
              "machine": {"gpu": "A GPU", "cpu": "", "packages": {"torch": "2.13.0"}}}
    text = gpu_check.table(result)
    assert (
        "| s | unsloth-packed | 0.960000 | 1.0000 | NO | epsilon_high | grpo_packing stays off |"
        in text
    )
    assert "| s | unsloth | 0.500 | 1,000 | 10.00 | 2.00 |" in text
    assert "- s/steps/unsloth-packed: out of memory" in text and "Not done: s/update/trl." in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path):
    done = subprocess.run([sys.executable, str(TESTS / "tools" / "gpu_check.py"), "--out",
                           str(tmp_path)], capture_output=True,
                          text=True, timeout=200, check=False,
                          env={**os.environ, "PYTHONPATH": str(TESTS.parent)})
    assert done.returncode == 2 and "no CUDA device; --device cpu --tiny shows" in done.stderr
