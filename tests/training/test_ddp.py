"""Two processes on the CPU (torch.distributed.run): the same gradients as one, and one set of
artefacts."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from other_process import wait_for
from small_student import by_heart, new_run
from training_project import ENVIRONMENT, make_inputs, parameters, train_command, train_elsewhere

from mentor_kit.core.records import load_records
from mentor_kit.errors import UserError
from mentor_kit.runs.locks import lock_folder
from mentor_kit.runs.open import init_run, load_run
from mentor_kit.runs.parameters import configure
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.stage import STUDENT

pytestmark = pytest.mark.numeric
TESTS = Path(__file__).parents[1]
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def gradients(out, *launcher):
    out.mkdir()
    command = [sys.executable, *launcher, str(TESTS / "helpers" / "ddp_gradients.py"),
               str(out.parent / "rollouts"), str(out)]
    done = subprocess.run(command, check=False, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out / "gradients.pt")


def test_first_gradients_of_two_processes_are_those_of_one(tmp_path):
    one, two = gradients(tmp_path / "one"), gradients(tmp_path / "two", *TWO)
    for kind in ("sft", "kit", "trl"):
        assert one[kind].norm() > 1e-3
        assert (one[kind] - two[kind]).norm() / one[kind].norm() < 1e-5, kind


def test_a_second_training_and_other_parameters_are_refused_in_a_runs_folder(inputs, tmp_path):
    run_dir = tmp_path / "run"
    init_run(run_dir, stage="train",
              params=configure(TrainConfig, **parameters(inputs)).model_dump(), inputs=inputs)
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    with lock_folder(run_dir, "busy"):
        second = subprocess.run(train_command(run_dir, parameters(inputs)), check=False,
                                env=ENVIRONMENT,
                                capture_output=True, text=True)
    assert second.stderr.strip() == (f"error: Another training is at work in {str(run_dir)!r}: "
                                     "wait for it, or give --run-dir another "
                                     "folder.") and second.returncode == 2
    other = subprocess.run([*train_command(run_dir, parameters(inputs)), "--set", "steps=3"],
                           check=False,
                           env=ENVIRONMENT, capture_output=True, text=True)
    assert other.stderr.strip() == (f"error: {str(run_dir)!r} holds a run with other parameters "
                                    "(steps: 3 asked, 4 stored): give another folder, or delete "
                                    "this one.") and other.returncode == 2
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")
            if path.name != ".lock"} == before


@pytest.mark.slow
def test_grpo_in_two_processes_leaves_what_one_leaves(inputs, tmp_path):
    """So cold, what the student knows by heart is all that it samples: which terms are logged
    depends on that."""
    one = train_elsewhere(tmp_path / "one", parameters(inputs, temperature=0.1))
    two = train_elsewhere(tmp_path / "two", parameters(inputs, temperature=0.1, num_processes=2))
    assert one.artefacts() == two.artefacts() and not (two.dir / "checkpoints").exists()
    assert [line.keys() for line in one.metrics()] == [line.keys() for line in two.metrics()]
    rollouts = [load_records(run.path("trajectories.parquet")) for run in (one, two)]
    asked = [collections.Counter((r.trajectory.meta["step"], r.problem.id) for r in records)
             for records in rollouts]
    # every item once a step, by a whole group
    assert asked[0] == asked[1] and set(asked[1].values()) == {4}
    for step in range(1, 5):
        numbers = [r.trajectory.sample for r in rollouts[1] if r.trajectory.meta["step"] == step]
        assert sorted(numbers) == list(range(16))
    steps = [line["step"] for line in two.metrics() if "loss" in line]
    assert steps == [1, 2, 3, 4]  # one process writes, each step once


@pytest.mark.slow
@pytest.mark.timeout(900)  # six starts of several processes
def test_a_kill_of_a_process_or_of_their_parent_resumes(inputs, tmp_path):
    params = parameters(inputs, num_processes=2, steps=6, save_every=1, validate_every=0)
    run_dir = tmp_path / "run"
    for victim in ("child", "parent"):
        parent = subprocess.Popen(train_command(run_dir, params), env=ENVIRONMENT,
                                  stderr=subprocess.PIPE, text=True)
        wait_for_checkpoint(run_dir, newer_than=2 if victim == "parent" else 0)
        ranks = processes_of(run_dir)
        assert len(ranks) == 2
        os.kill(parent.pid if victim == "parent" else ranks[0], signal.SIGKILL)
        error = parent.communicate(timeout=60)[1]
        if victim == "child":
            assert (
                "a training process was killed" in error
                and "continues from its last checkpoint" in error
            )
        deadline = time.monotonic() + 30
        while processes_of(run_dir) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not processes_of(run_dir)  # nobody goes on behind a dead parent
    train_elsewhere(run_dir, params)
    # one unbroken file
    assert [line["step"] for line in load_run(run_dir).metrics()] == list(range(7))


def wait_for_checkpoint(run_dir, newer_than):
    wait_for(lambda: any(
        int(p.parent.name.rsplit("-", 1)[1]) > newer_than
        for p in run_dir.glob("checkpoints/checkpoint-*/trainer_state.json")), 240)


def processes_of(run_dir):
    """Ids of the training processes of a run that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().decode().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if (
            "--part-of-notebook" in command
            and str(run_dir) in command
            and "torch.distributed.run" not in command
        ):
            found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_the_notebook_gets_a_process_s_last_error_line(inputs, tmp_path):
    start, student, run_dir = (
        new_run(tmp_path / "start", "cold_start"),
        by_heart(),
        tmp_path / "run",
    )
    torch.nn.init.constant_(student.model.model.norm.weight, float("nan"))
    student.save(start.path(STUDENT))
    params = parameters({**inputs, "start_run": start.finish()}, num_processes=2, validate_every=0)
    done = subprocess.run(train_command(run_dir, params), check=False, env=ENVIRONMENT,
                          capture_output=True,
                          text=True)
    assert done.returncode == 2 and done.stderr.strip().startswith("error: training stopped at "
                                                                   "step 1: ")
    assert not (run_dir / "student").exists() and not (run_dir / "DONE").exists()


def test_an_accelerate_configuration_needs_a_gpu(tmp_path):
    from mentor_kit.runs.parameters import configure
    from mentor_kit.training.config import TrainConfig
    from mentor_kit.training.launch import accelerate_file, launcher

    asked = configure(TrainConfig, method="sft", num_processes=2, accelerate_config="ddp")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="accelerate_config='ddp' is for GPUs"):
            launcher(asked)
    assert {accelerate_file(n).name for n in ("", "ddp", "fsdp", "zero3")} == {"ddp.yaml",
                                                                               "fsdp.yaml",
                                                                               "zero3.yaml"}
    with pytest.raises(UserError, match="use one of ddp, fsdp, zero3"):
        accelerate_file("fsdp3")


@pytest.mark.parametrize("name", ["ddp", "fsdp", "zero3"])
def test_accelerate_reads_our_configurations(name):
    from accelerate.commands.config.config_args import load_config_from_file

    from mentor_kit.training.launch import accelerate_file

    config = load_config_from_file(str(accelerate_file(name)))
    assert str(config.distributed_type).endswith({"ddp": "MULTI_GPU", "fsdp": "FSDP",
                                                  "zero3": "DEEPSPEED"}[name])
