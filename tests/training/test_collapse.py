"""Collapse stops a training with a diagnosis and stores nothing; the best student by validation can
be kept."""

from __future__ import annotations

import json

import pytest
import torch
from small_student import by_heart, clone, new_run, scripted, teacher_records, varied

from mentor_kit.collection.collection import Collection
from mentor_kit.errors import UserError
from mentor_kit.rewards import load_reward
from mentor_kit.runs.parameters import configure
from mentor_kit.students.student import load_student
from mentor_kit.training import grpo, stage
from mentor_kit.training.collapse import BestValidation, CollapseDetector, TrainingCollapsed
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.grpo import train_grpo
from mentor_kit.training.sft import train_sft

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(12)
SMALL = {"prompts_per_step": 3, "group_size": 4, "micro_batch": 12, "max_new_tokens": 96,
         "temperature": 0.7}


@pytest.fixture(scope="module")
def student():
    return by_heart()


def detector(patience=0):
    """A detector, and a function that gives it and its validations lines of metrics."""
    found = CollapseDetector(patience, BestValidation())

    def update(*lines):
        for line in lines:
            found.validations.update(line)
            found.update(line)

    return found, update


def test_the_first_of_equal_validations_is_best():
    found, update = detector()
    update({"step": 0, "val/accuracy": 0.4}, {"step": 2, "val/accuracy": 0.6},
        {"step": 4, "val/accuracy": 0.6},
        {"step": 6, "val/accuracy": 0.5})
    assert found.validations.best == (2, 0.6) and found.validations.last == 0.5


def test_no_executed_call_for_patience_steps():
    _, update = detector(patience=3)
    calls = [(1, 0), (2, 0), (3, 0.5), (4, 0), (5, 0)]
    update(*({"step": s, "executed_calls": c} for s, c in calls))
    with pytest.raises(TrainingCollapsed, match="step 6: no rollout executed a tool call since "
                                                "step 4; .*try"):
        update({"step": 6, "executed_calls": 0})
    detector(patience=0)[1](*({"step": s, "executed_calls": 0} for s in range(99)))


@pytest.mark.parametrize(("best", "now", "stops"),
                         [(0.5, 0.4, True), (0.5, 0.5, False), (0.98, 0.92, False),
                                                    (0.98, 0.89, True)])
def test_equal_rewards_are_collapse_only_while_validation_is_worse_than_its_best_and_than_good(
    best, now, stops
):
    _, update = detector(patience=2)
    update({"step": 0, "val/accuracy": best}, {"step": 1, "val/accuracy": now},
        {"step": 1, "frac_reward_zero_std": 1.0}, {"step": 2, "frac_reward_zero_std": 0.9},
        {"step": 3, "frac_reward_zero_std": 1.0})
    if stops:
        with pytest.raises(TrainingCollapsed, match="step 4: all rewards were equal in every group "
                                                    ".* since step 3"):
            update({"step": 4, "frac_reward_zero_std": 1.0})
    else:
        update({"step": 4, "frac_reward_zero_std": 1.0})


@pytest.mark.parametrize(("line", "match"), [
    ({"loss": float("nan")}, "the loss is not a finite number .nan. since step 7"),
    ({"reward": None}, "the reward is not a finite number since step 7")])
def test_numbers_that_are_none(line, match):
    with pytest.raises(TrainingCollapsed, match=match):
        detector()[1]({"step": 7, **line})


def nothing_stored(run):
    names = {p.name for p in run.dir.iterdir()}
    return not names & {"student", "budget.json", "best.json",
                        "trajectories.parquet", "DONE"}


def collapse(learner, folder, match, validation=RECORDS[:2]):
    settings = TrainConfig(**SMALL, steps=9, save_every=1, validate_every=2, collapse_patience=4)
    run = new_run(folder)
    with pytest.raises(TrainingCollapsed, match=match):
        train_grpo(learner, RECORDS, validation, load_reward("mentor"), settings, run)
    assert nothing_stored(run) and all("step" in line for line in run.metrics())


def test_grpo_that_unlearns_tool_calls_stops(student, tmp_path, monkeypatch):
    """From the second step on no rollout calls a tool; their rewards still differ."""
    def unlearnt(record, number, step):
        if step < 1:
            return varied(record, number)
        return varied(record, 3) if number % 2 else [record.trajectory.turns[-1].text]

    monkeypatch.setattr(grpo, "KitRollouts", scripted(RECORDS, unlearnt))
    collapse(clone(student), tmp_path, "step 5: no rollout executed a tool call since step 2; "
                                       ".*lower learning_rate")


@pytest.mark.parametrize(("samples", "match"), [
    (False, "the loss is not a finite number .nan. since step 1"),
    (True, "a token's probability is not a finite number since step 1")])
def test_grpo_on_weights_that_are_no_number_stops(student, tmp_path, monkeypatch, samples, match):
    learner = clone(student)
    torch.nn.init.constant_(learner.model.model.norm.weight, float("nan"))
    if not samples:
        monkeypatch.setattr(grpo, "KitRollouts",
                            scripted(RECORDS, lambda record, number, step: varied(record, number)))
    collapse(learner, tmp_path, f"{match}; try a lower learning_rate", validation=[])


def test_validation_of_weights_that_are_no_number_stops(student, tmp_path):
    learner = clone(student)
    torch.nn.init.constant_(learner.model.model.norm.weight, float("nan"))
    collapse(learner, tmp_path, "a token's probability is not a finite number since step 0")


def test_sft_on_weights_that_are_no_number_stops(student, tmp_path):
    run, settings = new_run(tmp_path), TrainConfig(method="sft", steps=9, sft_batch=6,
                                                   sft_learning_rate=1.0e30, validate_every=2,
                                                   save_every=0)
    with pytest.raises(TrainingCollapsed, match="at step 2: .* not a finite number"):
        train_sft(clone(student), RECORDS, RECORDS[:2], settings, run)
    assert nothing_stored(run)


def config_of(**options):
    return configure(TrainConfig, method="sft", validation_items=12, validate_every=2, **options)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_the_kept_student_is_stored(student, tmp_path, keep):
    """A learning rate that ruins a good student: the best validation is the one before the first
    step."""
    lessons = stage.load_training_data(Collection(tuple(RECORDS
                                                     + [r
                                                        for r in teacher_records(12,
                                                                                 "validation")])),
                                    config_of())
    # it has overfitted these, so it is good at them
    lessons = stage.TrainingData(lessons.train, lessons.train)
    config = config_of(keep=keep, steps=4, sft_batch=6, sft_learning_rate=1.0)
    learner, run = clone(student), new_run(tmp_path)
    stage.train(config, learner, lessons, run)
    best = json.loads(run.path("best.json").read_text())
    assert (
        best["step"] == 0
        and best["accuracy"] > 0.5 > best["last_accuracy"]
        and best["kept"] == keep
    )
    stored = load_student(run.path("student")).model.state_dict()
    start = student.model.state_dict()
    assert all(torch.equal(stored[k], start[k]) for k in start) == (keep == "best")
    assert all(torch.equal(stored[k], v) for k, v in learner.model.state_dict().items())
    assert not (run.dir / "checkpoints").exists()


def test_a_run_that_is_trained_is_not_trained_again(student, tmp_path):
    lessons = stage.TrainingData(tuple(RECORDS), tuple(RECORDS[:2]))
    config, run = config_of(steps=2, sft_batch=6), new_run(tmp_path)
    learner = clone(student)
    budget = stage.train(config, learner, lessons, run)
    metrics, again = run.metrics(), clone(student)
    assert stage.train(config, again, lessons, run) == budget and run.metrics() == metrics
    assert all(torch.equal(v, again.model.state_dict()[k]) for k,
               v in learner.model.state_dict().items())


@pytest.mark.parametrize(("options", "match"), [
    ({"keep": "best", "validate_every": 0}, "keep='best' is the best at a validation"),
    ({"method": "mentor", "steps": 4, "save_every": 3, "num_iterations": 2},
     "multiples of updates_per_batch x num_it"),
    ({"method": "mentor", "advantage": "gdpo", "scale_rewards": "none"}, "would be ignored"),
    ({"accelerate_config": "fsdp"}, "would be ignored by num_processes=1"),
    ({"accelerate_config": "zero3", "num_processes": 2, "keep": "best"}, "shards the weights"),
    ({"accelerate_config": "fsdp", "num_processes": 2, "finetuning": "full"},
     "optimizer and schedule of method='sft'"),
    ({"num_processes": 3, "sft_batch": 128}, "does not divide into num_processes=3"),
    ({"method": "mentor", "num_processes": 3}, "do not divide")])
def test_impossible_trainings_are_refused_before_anything_runs(options, match):
    with pytest.raises(UserError, match=match):
        configure(TrainConfig, **{"method": "sft", **options})


def test_a_vllm_server_needs_vllm(student, tmp_path):
    settings = TrainConfig(**SMALL, steps=1, save_every=1, vllm_server="http://127.0.0.1:8000")
    with pytest.raises(UserError, match="vllm_server='http://127.0.0.1:8000' needs the package "
                                        "vllm"):
        train_grpo(clone(student), RECORDS, [], load_reward("mentor"), settings, new_run(tmp_path))
