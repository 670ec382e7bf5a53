"""On-policy distillation: its loss is TRL's and that of a hand-written divergence, tool results
carry none, the divergence on held-out problems falls, and what cannot run it is refused by name."""

from __future__ import annotations

import copy
from statistics import fmean

import pytest
import torch
from small_student import (
    by_heart,
    clone,
    grpo_trainer_of,
    new_run,
    teacher_records,
    untrained,
)
from test_policy_loss import batch_of, gradient
from training_project import make_inputs, parameters
from trl.trainer.distillation_trainer import _chunk

from mentor_kit.errors import UserError
from mentor_kit.rewards import load_reward
from mentor_kit.runs.parameters import configure
from mentor_kit.training.checkpoints import SHARDS
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.distillation import (
    DistillationTrainer,
    WhiteBoxTeacher,
    divergences,
    rollout_rows,
    step_weights,
    token_divergence,
    turn_numbers,
)
from mentor_kit.training.grpo import train_grpo
from mentor_kit.training.grpo_trainer import rows_of, written_mask
from mentor_kit.training.stage import inputs

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(12)


class OfStudent(WhiteBoxTeacher):
    """A student in memory as the teacher."""

    def __init__(self, student):
        self.source, self.tokenizer = "a student", student.tokenizer
        self.model = student.model.eval().requires_grad_(False)


def other(student, noise=0.3, seed=1):
    """The student with other weights."""
    found, chance = clone(student), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in found.model.parameters():
            weight.add_(noise * weight.std() * torch.randn(weight.shape, generator=chance))
    return found


def whole_rows(model, batch):
    """Log-probabilities of all tokens, (rows, completion, vocabulary), by reading every row whole,
    padding and all."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    scores = model(ids, attention_mask=mask, position_ids=positions).logits
    return scores[:, batch["prompt_ids"].shape[1] - 1:-1].log_softmax(-1)


def by_hand(student, teacher, beta):
    """KL by its definition, token by token of the vocabulary."""
    p, q = student.exp(), teacher.exp()
    kl = {1.0: lambda: p * (p / q).log(), 0.0: lambda: q * (q / p).log()}
    if beta in kl:
        return kl[beta]().sum(-1)
    m = beta * q + (1 - beta) * p
    return (beta * q * (q / m).log() + (1 - beta) * p * (p / m).log()).sum(-1)


@pytest.mark.parametrize("beta", [1.0, 0.0, 0.5, 0.2])
def test_gradient_is_that_of_a_hand_written_divergence(tmp_path, beta):
    student = untrained(RECORDS, width=64, layers=2)
    teacher, batch = other(student), batch_of()
    trainer = copy.copy(grpo_trainer_of(student, tmp_path, RECORDS))
    trainer.__class__, trainer.micro_batch = DistillationTrainer, 5
    trainer.teacher, trainer.divergence = OfStudent(teacher), beta
    model, mask = trainer.model.train(), written_mask(batch)
    model.zero_grad()
    expected = by_hand(whole_rows(model, batch), whole_rows(teacher.model, batch), beta)
    expected = (expected * mask).sum() / mask.sum()
    expected.backward()
    theirs = gradient(model)
    model.zero_grad()
    found = trainer._update(batch)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4) and found.item() > 1e-4
    assert (gradient(model) - theirs).norm() < 1e-5 * theirs.norm()
    assert trainer._metrics["train"]["divergence"][-1] == pytest.approx(expected.item(), rel=1e-4)
    assert trainer._metrics["train"]["budget/teacher_forwards"] == [12]
    assert all(p.grad is None for p in teacher.model.parameters())


@pytest.mark.parametrize("beta", [1.0, 0.0, 0.5])
def test_divergence_is_that_of_trl(beta):
    chance = torch.Generator().manual_seed(0)
    states = [torch.randn(9, 8, generator=chance) for _ in range(2)]
    heads = [torch.randn(20, 8, generator=chance) for _ in range(2)]
    valid = torch.ones(9, dtype=torch.bool)
    total = _chunk(states[0], heads[0], None, 1.0, None, states[1], heads[1], None, 1.0, None, beta,
                   0.7, valid)
    total = total[0] if isinstance(total, tuple) else total
    ours = [(s @ w.T / 0.7).log_softmax(-1) for s, w in zip(states, heads, strict=True)]
    assert token_divergence(*ours, beta).sum().item() == pytest.approx(total.sum().item(), rel=1e-5)


def test_tool_results_carry_no_loss(tmp_path):
    """Only states that predict a written token count: with the teacher's opinion of all other
    states changed, nothing changes."""
    student = untrained(RECORDS)
    teacher, batch = other(student), batch_of()
    scored = written_mask(batch)
    read = list(divergences(student.model, teacher.model, rows_of(batch, scored), 5))
    places = {(int(r), int(p)) for d in read for r, p in zip(d.row, d.place, strict=True)}
    assert places == {(int(r), int(p)) for r, p in zip(*torch.where(scored.bool()), strict=True)}
    assert 0 < len(places) < int(batch["completion_mask"].sum())
    log_p, log_q = (whole_rows(s.model, batch).gather(2, batch["completion_ids"][..., None])[..., 0]
                    for s in (student, teacher))
    for d in read:
        gap = (log_p - log_q).abs()[d.row, d.place]
        assert torch.allclose(d.gap, gap, atol=1e-5) and gap.max() > 1e-3


def test_turns_and_their_weights_by_hand():
    mask = torch.tensor([[1, 1, 0, 0, 1, 0, 1, 1], [1, 0, 0, 0, 0, 0, 0, 0]])
    numbers = turn_numbers(mask)
    assert numbers[mask.bool()].tolist() == [0, 0, 1, 2, 2, 0]
    gap = torch.tensor([0.1, 0.3, 0.8, 0.1, 0.1, 0.5])  # means .2, .8, .1; .5
    row = torch.tensor([0, 0, 0, 0, 0, 1])
    found = step_weights(gap, row, numbers[mask.bool()], 2.0)
    # the second turn is four times as far off as the first; the third is near again
    expected = [1, 1, 1 / 16, 1.44, 1.44, 1]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    assert step_weights(gap, row, numbers[mask.bool()], 0.0).tolist() == [1] * 6


SETTINGS = {"method": "opd", "distill_from": "memory", "steps": 12, "prompts_per_step": 8,
            "group_size": 3, "micro_batch": 24, "max_new_tokens": 96, "validate_every": 6,
            "save_every": 6, "learning_rate": 1e-3}


def test_a_noised_teacher_is_distilled(tmp_path):
    """The student is its teacher with noise: the divergence on problems not trained on falls, and
    the run holds what every method's does."""
    teacher = by_heart()
    student, run = other(teacher, noise=0.14), new_run(tmp_path)
    budget = train_grpo(student, RECORDS[:8], RECORDS[8:], load_reward("mentor"),
                        TrainConfig(**SETTINGS), run, OfStudent(clone(teacher)))
    lines = run.metrics()
    kl = [line["val/teacher_kl"] for line in lines if "val/teacher_kl" in line]
    assert len(kl) == 3 and kl[-1] < 0.7 * kl[0]
    right = [line["judge_accuracy"] for line in lines if "judge_accuracy" in line]
    assert fmean(right[-4:]) > fmean(right[:4])
    assert budget["teacher_forwards"] == 12 * 24 and budget["teacher_tokens"] == 0
    assert budget["sampled_tokens"] == sum(x.get("budget/sampled_tokens", 0) for x in lines) > 0
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 12 and {"divergence", "entropy", "judge_accuracy", "reward",
                                 "unknown_tool"} <= steps[0].keys()
    assert (run.dir / "trajectories.parquet").is_file()


def test_resume_is_exact(tmp_path):
    """Stopped after six steps and gone on with, weights, metrics and rollouts are those of one that
    was not stopped."""
    teacher = by_heart()

    def train(folder, steps):
        student, run = other(teacher), new_run(folder)
        train_grpo(student, RECORDS[:8], RECORDS[8:10], load_reward("mentor"),
                   TrainConfig(**SETTINGS | {"steps": steps, "save_every": 2, "validate_every": 2,
                                          "max_new_tokens": 24}),
                   run, OfStudent(clone(teacher)))
        return student.model.state_dict(), run

    whole, run = train(tmp_path / "whole", 4)
    train(tmp_path / "again", 2)
    again, other_run = train(tmp_path / "again", 4)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert run.metrics() == other_run.metrics()
    assert len(list((run.dir / SHARDS).iterdir())) == 4


def test_held_out_rows_are_those_that_were_written():
    from mentor_kit.students.rollout import run_rollouts
    from mentor_kit.students.sampling import Sampling

    student = by_heart()
    found = list(run_rollouts(student, [r.problem for r in RECORDS[:3]], Sampling()))
    rows = rollout_rows(found)
    assert [len(s) for s in rows.suffixes] == [len(r.completion) + 1 for r in found]
    assert int(rows.scored.sum()) == sum(sum(r.written) for r in found)
    same = torch.cat([d.divergence for d in divergences(student.model, student.model, rows, 2)])
    assert same.abs().max() < 1e-5


def test_a_teacher_of_another_vocabulary_is_refused():
    with pytest.raises(UserError, match="another vocabulary"):
        OfStudent(untrained(teacher_records(3))).check(by_heart())


@pytest.mark.parametrize("option", [
    {"student_backend": "unsloth"}, {"rollout_engine": "trl"}, {"vllm_server": "http://x"},
    {"shared_prompts": False}, {"gradient_checkpointing": True}, {"num_processes": 2},
    {"kl_beta": 0.1}, {"teacher_traces": 1}, {"drop_flat_groups": "replace"}])
@pytest.mark.parametrize("method", ["opd", "rft"])
def test_what_cannot_run_it_is_refused_by_name(method, option):
    with pytest.raises(UserError, match=next(iter(option))):
        configure(TrainConfig, method=method, distill_from="x", micro_batch=16, **option)


def test_it_needs_a_teacher(tmp_path):
    found = make_inputs(tmp_path)
    config = TrainConfig(**parameters(found, method="opd"))
    with pytest.raises(UserError, match="white-box teacher"):
        inputs(config, found["teacher_run"])
    there = TrainConfig(**parameters(found, method="opd",
                                     distill_from=str(found["start_run"].dir)))
    assert inputs(there, found["teacher_run"])["distill_from"].dir == found["start_run"].dir
