"""BFCL's dialogues as an environment to train in: what is held out is held out whole, gold calls
teach, the official checker rewards, and a small training runs on them from end to end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_student import grpo_trainer_of, new_run, scripted, untrained

from mentor_kit.bfcl import checker as bfcl
from mentor_kit.bfcl import dialogues, items
from mentor_kit.collection.collect import attempt
from mentor_kit.collection.collection import Collection
from mentor_kit.core.records import load_records
from mentor_kit.errors import UserError
from mentor_kit.evaluation.config import EvaluateConfig
from mentor_kit.evaluation.evaluate import evaluate
from mentor_kit.evaluation.stage import evaluate_splits
from mentor_kit.judging.verdicts import judge_trajectory
from mentor_kit.problems import load_problems
from mentor_kit.students.sampling import Sampling
from mentor_kit.teachers import load_teacher
from mentor_kit.training import grpo
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.sft import train_sft

needs_environment = pytest.mark.skipif(not bfcl.environment_folder().is_dir(),
                                       reason="the checker's environment is not in the cache; the "
                                              "slow tests make it")
pytestmark = [needs_environment, pytest.mark.numeric]
SIZES = {"train": 122, "validation": 29, "in_domain": 49, "miss_func": 49, "miss_param": 49,
         "long_context": 49}
LEARNT_FROM = ("train", "validation")
SHORT = ("multi_turn_base_144", "multi_turn_base_139", "multi_turn_base_11")
DONE = "Done."


@pytest.fixture(scope="module")
def problems():
    return load_problems("bfcl_dialogues", 0, SIZES)


@pytest.fixture(scope="module")
def lessons(problems):
    teacher = load_teacher("worked_solution", reasoning="none")
    return [attempt(p, teacher) for p in problems if p.meta["entry"] in SHORT]


def test_what_is_held_out_shares_no_scenario_message_or_dialogue_with_training(problems):
    def seen(of, splits):
        return {str(x) for p in problems if p.split in splits for x in of(p)}

    held_out = set(SIZES) - set(LEARNT_FROM)
    heads = dialogues.scenarios()
    for of in (lambda p: [p.question, *(t["message"] for t in p.meta["later_turns"]
                                        if t["message"] != items.MORE_TOOLS)],
               lambda p: [p.meta["program"]],
               lambda p: [heads[items.scenario(p)]]):
        assert not seen(of, LEARNT_FROM) & seen(of, held_out)
        assert not seen(of, ["train"]) & seen(of, ["validation"])
    assert len({p.meta["entry"] for p in problems}) == len(problems) == sum(SIZES.values())
    base = [p for p in problems if p.meta["category"] == "multi_turn_base"]
    assert len(base) == 200, "every scenario is somewhere"


def test_more_dialogues_than_there_are_and_unknown_splits_are_refused():
    with pytest.raises(UserError, match="split 'train' has 122 dialogues, not 123"):
        load_problems("bfcl_dialogues", 0, {"train": 123})
    with pytest.raises(UserError, match="no split 'test'"):
        load_problems("bfcl_dialogues", 0, {"test": 1})


def test_gold_calls_teach_and_the_official_checker_judges(lessons):
    for record in lessons:
        trajectory = record.trajectory
        assert trajectory.meta["accepted"] and all(c.ok for c in trajectory.calls)
        assert [t.user for t in trajectory.turns if t.user] == [
            later["message"] for later in record.problem.meta["later_turns"]]
        verdict = judge_trajectory(record.problem, trajectory)
        assert verdict == {"correct": True, "judged_by": "bfcl:valid", "failure": None}
        cut = replace(trajectory, turns=trajectory.turns[:1])
        assert not judge_trajectory(record.problem, cut)["correct"]


def test_a_benchmark_of_what_is_trained_on_is_refused(lessons, tmp_path):
    config = EvaluateConfig(benchmarks=["bfcl_multi_turn:multi_turn_miss_func"], splits=["asked"])
    asked = replace(lessons[0], problem=replace(lessons[0].problem, split="asked"))
    with pytest.raises(UserError, match="3 of the 200 items .* scenarios that the teacher's"):
        evaluate_splits(config, untrained(lessons), Collection((*lessons, asked)), "mentor",
                        new_run(tmp_path))


def test_a_training_on_dialogues_from_end_to_end(lessons, tmp_path, monkeypatch):
    """SFT, then GRPO whose rollouts are told what to write, by MENTOR's reward, then evaluation."""
    def script(record, number, step):
        said = [turn.text for turn in record.trajectory.turns]
        return [said, [DONE] * (1 + len(record.problem.meta["later_turns"]))][number % 2]

    student = untrained(lessons)
    config = TrainConfig(method="sft", steps=1, sft_batch=3, validate_every=0, save_every=0)
    train_sft(student, lessons, [], config, new_run(tmp_path / "sft"))
    monkeypatch.setattr(grpo, "KitRollouts", scripted(lessons, script))
    trainer = grpo_trainer_of(student, tmp_path / "grpo", lessons, max_new_tokens=600,
                              shared_prompts=True)
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.train()
    rollouts = load_records(tmp_path / "grpo" / "rollouts" / "step-000001.parquet")
    for number, record in enumerate(rollouts):
        meta, gold = record.trajectory.meta, record.reference.calls
        assert meta["correct"] == (number % 2 == 0), meta
        assert meta["terms"] != {"gate": 0.1} or number % 2
        if number % 2 == 0:
            assert [c.observation for c in record.trajectory.calls] == [c.observation for c in gold]
    hidden = batch["completion_mask"].bool() & ~batch["tool_mask"].bool()
    unseen = student.tokenizer.batch_decode(
        [ids[mask] for ids, mask in zip(batch["completion_ids"], hidden, strict=True)])
    assert all(any(later["message"] in text for text in unseen) for record in lessons
               for later in record.problem.meta["later_turns"])
    (answer,) = evaluate(student, [lessons[0].problem], {}, Sampling(max_new_tokens=8))
    assert not answer.trajectory.meta["correct"]
