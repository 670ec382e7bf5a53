"""DPO on the student's own attempts: pairs, masks, loss and resume."""

from __future__ import annotations

import pytest
import torch
from small_student import clone, new_run, teacher_records, untrained, varied

from mentor_kit.core.records import Record, load_records
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.rewards import load_reward
from mentor_kit.runs.parameters import configure
from mentor_kit.students import rollout
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.preferences import pair_rows, train_dpo

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(12)
SETTINGS = {"method": "dpo", "steps": 2, "group_size": 4, "sft_batch": 8, "micro_batch": 4,
            "prompts_per_step": 2, "max_new_tokens": 256, "validate_every": 1, "save_every": 1,
            "learning_rate": 3e-3}


@pytest.fixture
def scripted(monkeypatch):
    """The student's attempts are `varied`: half of them right."""
    ids: dict[tuple[str, int], list[int]] = {}

    def choose(student, rows, scores, sampling):
        if sampling.temperature == 0:  # a validation
            return [student.tokenizer.eos_token_id] * len(rows)
        for row in (r for r in rows if (r.problem.id, r.sample) not in ids):
            record = next(r for r in RECORDS if r.problem.id == row.problem.id)
            text = "".join(t + "<|im_end|>" for t in varied(record, row.sample))
            ids[row.problem.id, row.sample] = student.tokenizer(
                text, add_special_tokens=False)["input_ids"]
        return [ids[r.problem.id, r.sample][sum(r.written)] for r in rows]

    monkeypatch.setattr(rollout, "_choose", choose)


def train(folder, student, **options):
    run = new_run(folder)
    budget = train_dpo(student, RECORDS[:4], RECORDS[:2], load_reward("mentor"),
                       TrainConfig(**SETTINGS | options), run)
    return run, budget


def attempt(record, text, correct):
    trajectory = Trajectory(record.problem.id, (Turn(text),), "student:test", 0,
                            {"correct": correct, "tokens": 3})
    return Record(record.problem, trajectory, record.trajectory)


def test_pairs_are_of_one_problem_and_bring_the_start(tmp_path):
    student, (a, b) = untrained(RECORDS), RECORDS[:2]
    attempts = [attempt(a, "one", True), attempt(a, "two", False), attempt(a, "three", False),
                attempt(b, "four", True)]  # b has no wrong one
    rows = pair_rows(student, attempts, TrainConfig(**SETTINGS))
    assert len(rows) == 2
    for row in rows:
        assert row["prompt_ids"] == student.prompt_ids(a.problem.question)
        assert student.tokenizer.decode(row["chosen_ids"]) == "one<|im_end|>"
        ids = torch.tensor([row["prompt_ids"] + row["chosen_ids"]])
        with torch.no_grad():
            scores = student.model(ids).logits[0, :-1].log_softmax(-1)
        each = scores.gather(1, ids[0, 1:, None])[len(row["prompt_ids"]) - 1:, 0]
        assert row["ref_chosen_logps"] == pytest.approx(float(each.sum()), rel=1e-4)
    rejected = {student.tokenizer.decode(row["rejected_ids"]) for row in rows}
    assert rejected == {"two<|im_end|>", "three<|im_end|>"}
    with pytest.raises(UserError, match="nothing to compare"):
        pair_rows(student, attempts[3:], TrainConfig(**SETTINGS))


def test_right_attempts_are_preferred(tmp_path, scripted):
    """The loss begins at log 2, where the student is its own reference, and falls; tool results
    carry none of it."""
    student = untrained(RECORDS)
    run, budget = train(tmp_path, student, steps=8)
    lines = [line for line in run.metrics() if "loss" in line]
    assert lines[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert lines[-1]["loss"] < 0.55 and lines[-1]["rewards/accuracies"] == 1.0
    stored = load_records(run.path("trajectories.parquet"))
    assert len(stored) == 16 and sum(r.trajectory.meta["correct"] for r in stored) == 8
    assert budget == {"optimizer_steps": 8, "teacher_tokens": 0, "teacher_forwards": 0,
                      "sampled_tokens": sum(r.trajectory.meta["tokens"] for r in stored)}
    start = next(line for line in run.metrics() if "judge_accuracy" in line)
    assert start["step"] == 0 and start["judge_accuracy"] == 0.5


def test_tool_results_carry_no_loss(tmp_path, scripted, monkeypatch):
    from mentor_kit.training.preferences import PairTrainer

    masks, usual = [], PairTrainer.compute_loss

    def kept(self, model, inputs, *args, **kwargs):
        masks.append((inputs["input_ids"].clone(), inputs["completion_mask"].clone()))
        return usual(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(PairTrainer, "compute_loss", kept)
    student = untrained(RECORDS)
    train(tmp_path, student, steps=1)
    texts = [student.tokenizer.decode(row[mask.bool()]) for ids, written in masks
             for row, mask in zip(ids, written, strict=True)]
    assert any("<tool_call>" in text for text in texts)
    assert not any("<tool_response>" in text or "<|im_start|>" in text for text in texts)


def test_resume_is_exact(tmp_path, scripted):
    def both(folder, *steps):
        student = untrained(RECORDS)
        for n in steps:
            learner = clone(student)
            run, budget = train(folder, learner, steps=n)
        return learner.model.state_dict(), run.metrics(), budget

    whole, again = both(tmp_path / "whole", 4), both(tmp_path / "again", 2, 4)
    assert all(torch.equal(whole[0][name], again[0][name]) for name in whole[0])
    assert whole[1:] == again[1:]


@pytest.mark.parametrize("option", [{"student_backend": "unsloth"}, {"num_processes": 2},
                                    {"vllm_server": "http://x"}, {"kl_beta": 0.1},
                                    {"teacher_traces": 1}, {"sft_batch": 5}])
def test_what_cannot_run_it_is_refused_by_name(option):
    with pytest.raises(UserError, match=next(iter(option))):
        configure(TrainConfig, method="dpo", **option)
