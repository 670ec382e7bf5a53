"""`notebooks/rl_loop.py` takes the steps that the package's trainer takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from small_student import by_heart, clone, new_run, teacher_records

import mentor_kit as mk
from mentor_kit.training.checkpoints import tiled_order
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.grpo import train_grpo

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "notebooks"))
import rl_loop  # noqa: E402

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(6)
STEPS, PROMPTS = 2, 3
SAME = {"group_size": 4, "temperature": 2.0, "max_new_tokens": 96, "learning_rate": 1e-4, "seed": 3}


def uneven(problem, reference, student) -> float:
    """Differs between rollouts of a group, so that there is something to learn."""
    return len(student.to_text()) % 97 / 97


def test_two_steps_are_those_of_the_package(tmp_path):
    reward, ours = mk.load_reward(uneven), by_heart()
    theirs, run = clone(ours), new_run(tmp_path)
    config = TrainConfig(method="uneven", reward=f"{__name__}:uneven", steps=STEPS,
                         prompts_per_step=PROMPTS, micro_batch=12, validate_every=0, save_every=0,
                         rollout_engine="kit", **SAME)
    before = {n: p.detach().clone() for n, p in ours.model.named_parameters()}
    train_grpo(theirs, RECORDS, [], reward, config, run)

    order = tiled_order(len(RECORDS), STEPS * PROMPTS, SAME["seed"])
    batches = [[RECORDS[i] for i in order[k * PROMPTS:(k + 1) * PROMPTS]] for k in range(STEPS)]
    numbers = list(rl_loop.train(ours, batches, reward, rl_loop.Settings(**SAME)))

    logged = [line for line in run.metrics() if "grad_norm" in line]
    for mine, line in zip(numbers, logged, strict=True):
        assert mine["reward"] == pytest.approx(line["reward"], rel=1e-5)
        assert mine["grad_norm"] == pytest.approx(line["grad_norm"], rel=1e-3)
    moved = torch.cat([(p - before[n]).flatten() for n, p in ours.model.named_parameters()])
    their = torch.cat([(p - before[n]).flatten() for n, p in theirs.model.named_parameters()])
    assert moved.abs().max() > 1e-5 and numbers[0]["groups_without_difference"] < 1
    assert torch.cosine_similarity(moved.double(), their.double(), dim=0) > 0.999


@pytest.mark.parametrize("temperature", [0.7, 2.0])  # knows its lessons; writes nonsense
def test_rollouts_are_those_of_the_package(temperature):
    student, settings = by_heart(), rl_loop.Settings(**SAME | {"temperature": temperature})
    sampling = mk.Sampling(temperature=temperature, max_new_tokens=96, seed=11)
    executed = 0
    for number, record in enumerate(RECORDS):
        theirs = student.rollout([record.problem], sampling, samples=[number])[0]
        mine = rl_loop.sample_rollout(student, record.problem, number, 11, settings)
        assert mk.Trajectory(record.problem.id, tuple(mine.turns)).to_text() == theirs.to_text()
        assert len(mine.written) == len(mine.completion) and mine.written[-1]
        executed += mine.written.count(0)
    assert executed or temperature > 1


def test_advantages_by_hand():
    values = rl_loop.group_advantages([1.0, 0.0, 0.0, 0.0])
    assert values.tolist() == pytest.approx([0.75 / 0.5001, *[-0.25 / 0.5001] * 3])
    assert rl_loop.group_advantages([0.1] * 4).abs().max() < 1e-6
