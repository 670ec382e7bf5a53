"""Tool results are outside the loss, shown on gradients through our trainers: perturbing what they
contribute changes nothing; perturbing what an assistant token contributes does."""

from __future__ import annotations

import pytest
import torch
from small_student import new_run, scripted, teacher_records, untrained, varied

from mentor_kit.rewards import load_reward
from mentor_kit.training import grpo
from mentor_kit.training.callback import RunCallback
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.optimizers import WSDSchedule
from mentor_kit.training.reward_function import RewardFunction
from mentor_kit.training.sft import sft_rows, sft_trainer

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(12)


@pytest.fixture
def student():
    return untrained(RECORDS, width=64, layers=2)


def gradient(trainer, batch, marked=None):
    """The loss's gradient, as one vector; `marked` (batch, tokens): tokens whose prediction is
    perturbed.

    After the last norm nothing mixes positions any more, so noise there reaches the loss of one
    token alone.
    """
    model = trainer.model.train()
    model.zero_grad()

    def add_noise(module, inputs, output):
        if marked is None:
            return output
        noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
        # position t predicts token t + 1
        return output + noise * torch.roll(marked, -1, dims=1)[..., None]

    handle = model.model.norm.register_forward_hook(add_noise)
    try:
        trainer.compute_loss(model, batch, num_items_in_batch=torch.tensor(100)).backward()
    finally:
        handle.remove()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def check(trainer, batch, environment, assistant):
    plain = gradient(trainer, batch)
    assert environment.any() and assistant.any() and plain.norm() > 1e-3
    assert torch.equal(gradient(trainer, batch, environment.float()), plain)
    assert (gradient(trainer, batch, assistant.float()) - plain).norm() > 1e-2 * plain.norm()


def test_sft_gradients_ignore_tool_results(student, tmp_path):
    learner, run, settings = student, new_run(tmp_path), TrainConfig(method="sft",
                                                                     sft_learning_rate=3.0e-3,
                                                                     save_every=0, steps=1,
                                                                     sft_batch=6,
                                                                  validate_every=0)
    rows = sft_rows(learner, RECORDS)[:6]
    callback = RunCallback(run, learner, [], settings)
    trainer = sft_trainer(learner, rows, settings, run, callback, WSDSchedule(0, 0))
    batch = next(iter(trainer.get_train_dataloader()))
    wrote, results = torch.zeros(2, *batch["input_ids"].shape, dtype=torch.bool)
    # in the sampler's order, padded on the right
    for i, ids in enumerate(batch["input_ids"].tolist()):
        marks = next(r["assistant_masks"] for r in rows
                     if r["input_ids"] == ids[:len(r["input_ids"])])
        wrote[i, :len(marks)] = torch.tensor(marks).bool()
        results[i, marks.index(1):len(marks)] = ~wrote[i, marks.index(1):len(marks)]
    check(trainer, batch, results, wrote)


def test_grpo_gradients_ignore_tool_results(student, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo, "KitRollouts", scripted(RECORDS, varied))
    learner, run = student, new_run(tmp_path)
    settings = TrainConfig(steps=1, prompts_per_step=6, group_size=4, micro_batch=24,
                           max_new_tokens=256,
                            # test_policy_loss compares
                            validate_every=0, temperature=1.0, shared_prompts=False)
    reward_function = RewardFunction(learner.format, RECORDS, load_reward("mentor"), run,
                                     "student:test")
    trainer = grpo.grpo_trainer(learner, range(6), reward_function, settings, run,
                                RunCallback(run, learner, [], settings))
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    prompt = torch.zeros_like(batch["prompt_ids"], dtype=torch.bool)
    completion, wrote = batch["completion_mask"].bool(), batch["tool_mask"].bool()
    results = learner.tokenizer.batch_decode([ids[m] for ids, m in
                                              zip(batch["completion_ids"], completion & ~wrote,
                                                  strict=True)])
    assert any("<tool_response>" in text for text in results)
    environment, assistant = (torch.cat([prompt, completion & marks], dim=1)
                              for marks in (~wrote, wrote))
    check(trainer, batch, environment, assistant)
