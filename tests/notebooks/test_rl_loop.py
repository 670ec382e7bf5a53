"""`notebooks/rl_loop.py` takes the steps that the package's trainer takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from small_student import by_heart, new_run, steady_seed, teacher_records, untrained

import mentor_kit as mk
from mentor_kit.training.checkpoints import tiled_order
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.grpo import train_grpo

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "notebooks"))
import rl_loop  # noqa: E402

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(6)
STEPS, PROMPTS = 2, 2
SAME = {"group_size": 4, "temperature": 1.0, "max_new_tokens": 96, "learning_rate": 1e-4}


def uneven(problem, reference, student) -> float:
    """Differs between rollouts of a group, so that there is something to learn."""
    return len(student.to_text()) % 97 / 97


def our_steps(student, seed) -> list[dict[str, float]]:
    order = tiled_order(len(RECORDS), STEPS * PROMPTS, seed)
    batches = [[RECORDS[i] for i in order[k * PROMPTS:(k + 1) * PROMPTS]] for k in range(STEPS)]
    return list(rl_loop.train(student, batches, mk.load_reward(uneven),
                              rl_loop.Settings(**SAME, seed=seed)))


def test_two_steps_are_those_of_the_package(tmp_path):
    seed = steady_seed(rl_loop, lambda seed: our_steps(by_heart(), seed)[0]
                       ["groups_without_difference"] < 1)
    ours, theirs, run = by_heart(), by_heart(), new_run(tmp_path)
    config = TrainConfig(method="uneven", reward=f"{__name__}:uneven", steps=STEPS,
                         prompts_per_step=PROMPTS, micro_batch=8, validate_every=0, save_every=0,
                         rollout_engine="kit", **SAME, seed=seed)
    before = {n: p.detach().clone() for n, p in ours.model.named_parameters()}
    train_grpo(theirs, RECORDS, [], mk.load_reward(uneven), config, run)
    numbers = our_steps(ours, seed)
    logged = [line for line in run.metrics() if "grad_norm" in line]
    for mine, line in zip(numbers, logged, strict=True):
        assert mine["reward"] == pytest.approx(line["reward"], rel=1e-5)
        assert mine["grad_norm"] == pytest.approx(line["grad_norm"], rel=1e-3)
    moved = torch.cat([(p - before[n]).flatten() for n, p in ours.model.named_parameters()])
    their = torch.cat([(p - before[n]).flatten() for n, p in theirs.model.named_parameters()])
    assert moved.abs().max() > 1e-5
    assert torch.cosine_similarity(moved.double(), their.double(), dim=0) > 0.999


@pytest.mark.parametrize("knows", [True, False])  # its lessons; or writes nonsense
def test_rollouts_are_those_of_the_package(knows):
    student = by_heart() if knows else untrained(RECORDS)
    settings, executed = rl_loop.Settings(**SAME | {"temperature": 0.7}), 0
    seed = steady_seed(rl_loop, lambda seed: [
        rl_loop.sample_rollout(student, r.problem, n, seed, settings)
        for n, r in enumerate(RECORDS)], margin=1e-4 if knows else 1e-6)
    sampling = mk.Sampling(temperature=0.7, max_new_tokens=96, seed=seed)
    for number, record in enumerate(RECORDS):
        theirs = student.rollout([record.problem], sampling, samples=[number])[0]
        mine = rl_loop.sample_rollout(student, record.problem, number, seed, settings)
        assert mk.Trajectory(record.problem.id, tuple(mine.turns)).to_text() == theirs.to_text()
        assert len(mine.written) == len(mine.completion) and mine.written[-1]
        executed += mine.written.count(0)
    assert executed or not knows


def test_advantages_by_hand():
    values = rl_loop.group_advantages([1.0, 0.0, 0.0, 0.0])
    assert values.tolist() == pytest.approx([0.75 / 0.5001, *[-0.25 / 0.5001] * 3])
    assert rl_loop.group_advantages([0.1] * 4).abs().max() < 1e-6
