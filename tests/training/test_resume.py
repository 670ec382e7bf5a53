"""Trainings killed with SIGKILL again and again end as one that was never stopped, on one kind of
CPU: weights, metrics, rollouts."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import signal
import time

import pytest
import torch
from small_student import by_heart, clone, new_run, teacher_records, untrained

from mentor_kit.core.records import save_records
from mentor_kit.rewards import load_reward
from mentor_kit.training.checkpoints import SHARDS, last_checkpoint, seal
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.grpo import train_grpo
from mentor_kit.training.sft import train_sft

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(12)
FORK = multiprocessing.get_context("fork")  # a child has the test's student and libraries at once


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """A fork has none of its parent's threads: one that waits for them waits for ever."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


@pytest.fixture(scope="module")
def student():
    return by_heart()


def steps_done(run_dir):
    """The steps of all attempts, one after another, as timing.jsonl has them."""
    file = run_dir / "timing.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [step for step in (json.loads(line).get("step") for line in lines) if step]


def train_killed(train, run_dir, rng, kills):
    """Start `train` in a child, kill it at a random moment after it made progress; `kills` times,
    then let it end."""
    for attempt in range(kills + 1):
        before = len(steps_done(run_dir))
        child = FORK.Process(target=train, args=(run_dir,))
        child.start()
        while (
            attempt < kills
            and child.is_alive()
            and len(steps_done(run_dir)) < before + rng.randint(1, 3)
        ):
            time.sleep(0.005)
        if attempt < kills:
            time.sleep(rng.uniform(0.0, 0.4))
            os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert child.exitcode == 0


def check_as_unbroken(train, folder, boundary, kills=2):
    train(folder / "whole")
    train_killed(train, folder / "killed", random.Random(1), kills)
    whole, killed = (torch.load(folder / name / "weights.pt") for name in ("whole", "killed"))
    assert all(torch.equal(whole[k], killed[k]) for k in whole)
    names = {"metrics.jsonl", "best.json", "trajectories.parquet"} & {
        p.name for p in (folder / "whole").iterdir()
    }
    for name in sorted(names):
        assert (folder / "whole" / name).read_bytes() == (folder / "killed" / name).read_bytes(), (
            name
        )
    done = steps_done(folder / "killed")
    again = [(a, b) for a, b in itertools.pairwise(done) if b <= a]
    # no more than one boundary's work
    assert len(again) <= kills and all(a - b + 1 <= boundary for a, b in again)


# 12 records and 3 prompts a batch, or 8 rows a step: an epoch ends after 4 batches, or between
# steps 1 and 2
GRPO = [
    pytest.param({"steps": 6, "save_every": 2, "micro_batch": 6},
                 id="a batch a step, two micro-batches"),
    pytest.param({"steps": 24, "save_every": 4, "updates_per_batch": 2, "num_iterations": 2,
                  "micro_batch": 3},
                 id="four steps a batch"),
    pytest.param({"steps": 6, "save_every": 1, "micro_batch": 12, "keep": "best",
                  "learning_rate": 3e-3},
                 id="the best is kept", marks=pytest.mark.slow)]


@pytest.mark.parametrize("options", GRPO)
def test_grpo_killed_anywhere(student, tmp_path, options):
    settings = TrainConfig(**{"prompts_per_step": 3, "group_size": 4, "max_new_tokens": 96,
                              "validate_every": 2,
                               "temperature": 0.7, **options})

    def train(run_dir):
        learner, run = clone(student), new_run(run_dir)
        train_grpo(learner, RECORDS, RECORDS[:2], load_reward("mentor"), settings, run)
        torch.save(learner.model.state_dict(), run.path("weights.pt"))

    check_as_unbroken(train, tmp_path, settings.save_every)
    assert (
        len(list((tmp_path / "killed" / SHARDS).glob("*.parquet")))  # a kill may leave a .tmp
        == settings.steps // settings.steps_per_batch
    )


@pytest.mark.parametrize("options",
                         [{},
                          {"method": "cold_start", "cold_start_accuracy": 0.01,
                           "cold_start_cooldown": 4}],
                         ids=["AdamW", "Muon and a cooldown"])
def test_sft_killed_anywhere(tmp_path, options):
    settings = TrainConfig(**{"method": "sft", "steps": 12, "sft_batch": 8,
                              "sft_learning_rate": 3.0e-3,
                              "cold_start_steps": 12, "cold_start_batch": 8, "save_every": 3,
                              "validate_every": 4,
                              **options})

    def train(run_dir):
        learner, run = untrained(RECORDS, width=64, layers=2), new_run(run_dir)
        train_sft(learner, RECORDS, RECORDS[:2], settings, run)
        torch.save(learner.model.state_dict(), run.path("weights.pt"))

    check_as_unbroken(train, tmp_path, settings.save_every)


def written(run, step):
    for name in ("trainer_state.json", "rng_state.pth", "model.safetensors", "part/optimizer.pt"):
        run.path(f"checkpoints/checkpoint-{step}/{name}").write_text(f"{name} of {step}")
    run.log({"step": step, "val/accuracy": 0.5})


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("damage", [
    lambda last: (last / "sizes.json").unlink(),  # killed, or crashed, while it was written
    lambda last: cut(last / "sizes.json", 5), lambda last: cut(last / "part/optimizer.pt", 0),
    lambda last: cut(last / "model.safetensors", 5), lambda last: cut(last / "rng_state.pth", 1),
    lambda last: cut(last / "trainer_state.json", 0), lambda last: (last / "rng_state.pth").unlink()
])
def test_training_goes_on_from_the_checkpoint_before_one_that_is_not_whole(tmp_path, damage):
    run = new_run(tmp_path)
    for step in (3, 6):
        written(run, step)
        seal(run, step)
    folder = run.dir / "checkpoints"
    assert last_checkpoint(run) == str(folder / "checkpoint-6")
    damage(folder / "checkpoint-6")
    assert last_checkpoint(run) == str(folder / "checkpoint-3")
    assert [p.name for p in folder.iterdir()] == ["checkpoint-3"]
    assert [line["step"] for line in run.metrics()] == [3]


def test_rollouts_that_cannot_be_read_are_sampled_again(tmp_path):
    run, records = new_run(tmp_path), teacher_records(1)
    for step in (3, 6, 9):
        written(run, step)
        seal(run, step)
    for step in (2, 5, 8):
        save_records(run.path(f"rollouts/step-{step:06d}.parquet"), records)
    cut(run.dir / "rollouts" / "step-000005.parquet", 40)
    assert last_checkpoint(run) == str(run.dir / "checkpoints" / "checkpoint-3")
