"""The registry whose entries change, trained on from end to end: cold start, SFT, GRPO with later
user turns, killed and taken up again, evaluation on problems held out."""

from __future__ import annotations

import pytest
import torch
from small_student import clone, grpo_trainer_of, new_run, scripted, untrained

from mentor_kit.collection.collect import collect
from mentor_kit.collection.config import CollectConfig
from mentor_kit.core.chat_markup import render_call
from mentor_kit.core.records import load_records
from mentor_kit.evaluation.config import EvaluateConfig
from mentor_kit.evaluation.stage import evaluate_splits
from mentor_kit.problems.registry.changes import ASSIGN
from mentor_kit.rewards import load_reward
from mentor_kit.students.rollout import run_rollouts
from mentor_kit.students.sampling import Sampling
from mentor_kit.training import grpo
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.grpo import train_grpo
from mentor_kit.training.stage import load_training_data, make_student, train

pytestmark = pytest.mark.numeric
SIZES = ["pretrain:60", "train:12", "validation:4", "in_domain:2", "second_change:2"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    config = CollectConfig(problems="registry_changes", split_sizes=SIZES,
                           teacher_options=["reasoning:none"])
    return collect(config, new_run(tmp_path_factory.mktemp("teacher"), "collect"))


@pytest.fixture(scope="module")
def lessons(collection):
    """Three references whose question comes with a later message."""
    return [r for r in collection.accepted("train") if r.problem.meta["later_turns"]][:3]


def script(record, number, step):
    """The teacher's turns; those of one that forgets the change; two that change another entry."""
    said = [turn.text for turn in record.trajectory.turns]
    forgets = [text for text in said if f'"{ASSIGN}"' not in text]
    other = render_call(ASSIGN, {"person": "Anna", "entry": "cousin", "value": "Anna"})
    return [said, forgets, [other, *said], [other, "Done.", said[-1]]][number % 4]


def settings(**options):
    return TrainConfig(**{"steps": 2, "prompts_per_step": 3, "group_size": 4, "micro_batch": 12,
                          "max_new_tokens": 400, "validate_every": 0, "save_every": 1, **options})


def test_rewards_see_each_rollout_s_own_table_and_later_messages_are_masked(lessons, tmp_path,
                                                                           monkeypatch):
    monkeypatch.setattr(grpo, "KitRollouts", scripted(lessons, script))
    student = untrained(lessons)
    trainer = grpo_trainer_of(student, tmp_path, lessons, max_new_tokens=400, shared_prompts=True)
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    hidden = batch["completion_mask"].bool() & ~batch["tool_mask"].bool()
    texts = student.tokenizer.batch_decode(
        [ids[mask] for ids, mask in zip(batch["completion_ids"], hidden, strict=True)])
    for record in lessons:
        (later,) = record.problem.meta["later_turns"]
        assert sum(later["message"] in text for text in texts) == 4, "asked of each rollout"
    rollouts = load_records(tmp_path / "rollouts" / "step-000001.parquet")
    for number, record in enumerate(rollouts):
        meta = record.trajectory.meta
        assert meta["correct"] == (number % 4 == 0)
        if number % 4 == 0:
            assert record.trajectory.calls == record.reference.calls, "no table of another's"
        elif number % 4 == 2:
            assert meta["judged_by"] == "state"
    best, _, same_tools, worst = (rollouts[n].trajectory.meta["reward"] for n in range(4))
    assert best > same_tools > worst


def test_a_training_that_broke_off_goes_on_as_one_that_did_not(lessons, tmp_path, monkeypatch):
    def breaks(record, number, step):
        if step == 1:
            raise RuntimeError("broken off")
        return script(record, number, step)

    student, reward = untrained(lessons), load_reward("mentor")
    weights = []
    for name, scripts in (("whole", [script]), ("broken", [breaks, script])):
        for told in scripts:
            monkeypatch.setattr(grpo, "KitRollouts", scripted(lessons, told))
            learner = clone(student)
            try:
                train_grpo(learner, lessons, [], reward, settings(), new_run(tmp_path / name))
            except RuntimeError:
                assert told is breaks
        weights.append(learner.model.state_dict())
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    first, second = ((tmp_path / name / "trajectories.parquet").read_bytes()
                     for name in ("whole", "broken"))
    assert first == second


def test_cold_start_then_mentor_then_evaluation_by_parameters_only(collection, tmp_path):
    tiny = {"student_hidden": 32, "student_layers": 1, "sft_batch": 4, "cold_start_batch": 4,
            "cold_start_steps": 3, "validation_items": 2, "prompts_per_step": 2, "group_size": 2,
            "micro_batch": 4, "max_new_tokens": 40, "steps": 1, "save_every": 0}
    cold = TrainConfig(method="cold_start", cold_start_level="easy", start_run="none", **tiny)
    data = load_training_data(collection, cold)
    student = make_student(cold, data, None)
    assert len(student.tokenizer("Make the ").input_ids) == 1, "its tokenizer knows the words"
    prompt = student.tokenizer.decode(student.encode(data.train[0].problem,
                                                     data.train[0].trajectory)["input_ids"])
    assert "assign(person, entry, value)" in prompt
    train(cold, student, data, new_run(tmp_path / "cold", "cold_start"))
    mentor = TrainConfig(method="mentor", start_run="none", **tiny)
    assert train(mentor, student, load_training_data(collection, mentor),
                 new_run(tmp_path / "mentor"))["optimizer_steps"] == 1
    records = evaluate_splits(EvaluateConfig(max_new_tokens=40), student, collection, "mentor",
                              new_run(tmp_path / "eval", "evaluate"))
    assert [r.problem.split for r in records] == ["in_domain"] * 2 + ["second_change"] * 2
    assert all(r.reference and r.trajectory.meta["teacher_correct"] == 1 for r in records)


def test_a_rollout_that_goes_on_from_others_turns_has_their_table(lessons):
    begun = lessons[0].trajectory.turns[:-1]
    (row,) = run_rollouts(untrained(lessons), [lessons[0].problem], Sampling(max_new_tokens=400),
                          begun=[begun])
    assert row.environment.changes == row.environment.wanted
