"""The update that reads each prompt once: its gradients are TRL's, for every loss, and those of
finite differences."""

from __future__ import annotations

import copy

import pytest
import torch
from small_student import BOX, by_heart, grpo_trainer_of, teacher_records, untrained

from mentor_kit.students.loading import LoadConfig
from mentor_kit.students.student import load_student
from mentor_kit.training.grpo_trainer import (
    SharedPromptTrainer,
    rows_of,
    whole_groups,
    written_mask,
)
from mentor_kit.training.policy_loss import LOSSES
from mentor_kit.training.shared_prefix import micro_batches

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(12)


def batch_of(seed=0):
    """A batch as TRL makes it: prompts padded on the left, completions with tool results on the
    right."""
    chance, size = torch.Generator().manual_seed(seed), 200  # bytes; special tokens come after them
    prompts = [torch.randint(5, size, (n,), generator=chance).tolist() for n in (7, 12, 3)
               for _ in range(4)]
    lengths = torch.randint(2, 30, (len(prompts),), generator=chance).tolist()
    longest, widest = max(lengths), max(map(len, prompts))
    batch = {
        "prompt_ids": torch.tensor([[0] * (widest - len(p)) + p for p in prompts]),
        "prompt_mask": torch.tensor([[0] * (widest - len(p)) + [1] * len(p) for p in prompts]),
        "completion_ids": torch.randint(5, size, (len(prompts), longest), generator=chance),
        "completion_mask": (torch.arange(longest) < torch.tensor(lengths)[:, None]).long(),
        "tool_mask": (torch.rand(len(prompts), longest, generator=chance) < 0.7).long(),
        "advantages": torch.randn(len(prompts), generator=chance)}
    batch["tool_mask"][5] = 0  # a rollout of which nothing counts
    batch["num_items_in_batch"] = written_mask(batch).sum()
    return batch


def shared(trainer, micro_batch=5):
    """The same trainer with the update that reads each prompt once."""
    other = copy.copy(trainer)
    other.__class__, other.micro_batch = SharedPromptTrainer, micro_batch
    return other


def gradient(model):
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.requires_grad])


def loras_of(student, folder):
    loaded = load_student(student.save(folder / "student"), BOX,
                          loading=LoadConfig(finetuning="lora", lora_rank=4))
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide the gradients of lora_A
            torch.nn.init.normal_(parameter, std=0.05)
    return loaded


CASES = [(loss, beta, entropy, "full") for loss in LOSSES for beta,
         entropy in ((0.0, 0.0), (0.1, 0.01))]


@pytest.mark.parametrize(("loss", "beta", "entropy", "weights"),
                         [*CASES, ("dapo", 0.1, 0.01, "lora")])
@pytest.mark.parametrize("old", [False, True], ids=["on policy", "off policy"])
def test_gradients_are_those_of_trl(tmp_path, loss, beta, entropy, weights, old):
    """One batch through TRL's loss, and through ours in micro-batches of 5 rows: gradients, losses
    and logged means."""
    student = untrained(RECORDS, width=64, layers=2)
    student = loras_of(student, tmp_path) if weights == "lora" else student
    if beta:
        student.model.save_pretrained(tmp_path / "reference")
        student.model.config._name_or_path = str(tmp_path / "reference")
    trainer = grpo_trainer_of(student, tmp_path / "run", RECORDS, loss_type=loss, kl_beta=beta,
                              entropy_coef=entropy, temperature=0.7)
    model, batch = trainer.model.train(), batch_of()
    with torch.no_grad():
        ids, mask = (torch.cat([batch[f"prompt_{n}"], batch[f"completion_{n}"]], dim=1)
                     for n in ("ids", "mask"))
        now = trainer._get_per_token_logps_and_entropies(model, ids, mask,
                                                         batch["completion_ids"].shape[1])[0]
    noise = torch.randn(now.shape, generator=torch.Generator().manual_seed(1))
    batch |= {"old_per_token_logps": now + 0.4 * noise} if old else {}
    batch |= {"ref_per_token_logps": now - 0.3 * noise} if beta else {}

    model.zero_grad()
    expected = trainer.compute_loss(model, batch)
    expected.backward()
    theirs, logged = gradient(model), {name: values[-1] for name,
                                       values in trainer._metrics["train"].items()}
    model.zero_grad()
    found = shared(trainer)._update(batch)
    assert theirs.norm() > 1e-4 and (gradient(model) - theirs).norm() < 1e-5 * theirs.norm()
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    ours = {name: values[-1] for name, values in trainer._metrics["train"].items()
            if len(values) == 2}
    assert {"entropy"} | ({"kl"} if beta else set()) <= ours.keys()
    assert ours == pytest.approx({name: logged[name] for name in ours}, abs=1e-5)


def test_gradients_are_those_of_finite_differences(tmp_path):
    """Nothing of TRL: a loss without kinks, at weights moved a little, in double precision (but for
    the norms)."""
    student = untrained(RECORDS)
    student.model.double()
    trainer = grpo_trainer_of(student, tmp_path, RECORDS, loss_type="sapo", entropy_coef=0.1)
    batch, update = batch_of(), shared(trainer)._update
    with torch.no_grad():  # off policy, where the ratios matter
        batch["old_per_token_logps"] = -7 + torch.randn(batch["completion_ids"].shape,
                                                        dtype=torch.float64,
                                                        generator=torch.Generator().manual_seed(1))
    trainer.model.zero_grad()
    update(batch)
    grads = {n: p.grad.clone() for n, p in trainer.model.named_parameters()}
    for name, parameter in trainer.model.named_parameters():
        direction = torch.randn(parameter.shape, dtype=torch.float64,
                                generator=torch.Generator().manual_seed(2))
        losses = []
        for step in (1e-4, -2e-4):
            parameter.data += step * direction
            losses.append(update(batch).item())
        parameter.data += 1e-4 * direction
        slope = (losses[0] - losses[1]) / 2e-4
        assert slope == pytest.approx((grads[name] * direction).sum().item(), rel=1e-2,
                                      abs=1e-4), name


def test_the_split_into_micro_batches_changes_nothing(tmp_path):
    """Nor does a limit on how many prompts or scores are held at a time."""
    student = untrained(RECORDS)
    batch, sums = batch_of(), []
    for micro_batch in (1, 2, 12):
        student.model.zero_grad()
        tokens = list(micro_batches(student.model, rows_of(batch, written_mask(batch)), micro_batch,
                                    temperature=0.5))
        found = torch.zeros(batch["completion_ids"].shape)
        for part in tokens:
            found[part.row, part.place] = part.logprobs.detach()
        sums.append(found)
    assert all(torch.allclose(s, sums[0], atol=1e-6) for s in sums)
    assert ((sums[0] != 0) == written_mask(batch).bool()).all()


def test_scores_made_in_pieces_have_the_same_gradients(tmp_path, monkeypatch):
    student, grads = untrained(RECORDS), []
    batch = batch_of()
    for limit in (2**27, 3 * len(student.tokenizer)):
        monkeypatch.setattr("mentor_kit.training.shared_prefix.MAX_SCORES", limit)
        student.model.zero_grad()
        for part in micro_batches(student.model, rows_of(batch, written_mask(batch)), 12,
                                  entropy_gradient=True):
            (part.logprobs.sum() + part.entropies.sum()).backward()
        grads.append(gradient(student.model))
    assert (grads[0] - grads[1]).norm() < 1e-5 * grads[0].norm()


def test_the_attention_of_a_gpu_has_the_same_gradients(monkeypatch):
    student, grads, batch = untrained(RECORDS), [], batch_of()
    for devices in (("cpu",), ()):
        monkeypatch.setattr("mentor_kit.training.shared_prefix.GROUPED_ON", devices)
        student.model.zero_grad()
        for part in micro_batches(student.model, rows_of(batch, written_mask(batch)), 12):
            part.logprobs.sum().backward()
        grads.append(gradient(student.model))
    assert (grads[0] - grads[1]).norm() < 1e-5 * grads[0].norm()
    assert student.model.config._attn_implementation == "sdpa"


def test_updates_of_a_batch_hold_whole_groups():
    prompts = torch.tensor([[7], [8], [7], [9], [8], [9], [6], [6]])
    batch = {"prompt_ids": prompts, "prompt_mask": torch.ones_like(prompts),
             "advantages": torch.arange(8.0),
             "num_items_in_batch": torch.tensor(50)}
    halves = [{n: v[part] if v.ndim else v for n, v in batch.items()}
              for part in (slice(0, 4), slice(4, 8))]
    dealt = whole_groups(halves)
    assert [u["prompt_ids"].flatten().tolist() for u in dealt] == [[7, 7, 8, 8], [9, 9, 6, 6]]
    assert [u["advantages"].tolist() for u in dealt] == [[0, 2, 1, 4], [3, 5, 6, 7]]
    assert all(u["num_items_in_batch"] == 50 for u in dealt)


def test_sampler_and_trainer_agree_on_log_probabilities(tmp_path):
    """Importance ratios at the first update are 1, whatever temperature, top-k and top-p the
    sampler used."""
    for number, options in enumerate(({"temperature": 1.0},
                                      {"temperature": 0.6, "top_k": 20, "top_p": 0.9})):
        trainer = grpo_trainer_of(by_heart(), tmp_path / f"run-{number}", RECORDS,
                                  shared_prompts=True, micro_batch=6, **options)
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        ids, mask = (torch.cat([batch[f"prompt_{n}"], batch[f"completion_{n}"]], dim=1)
                     for n in ("ids", "mask"))
        now = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask,
                                                         batch["completion_ids"].shape[1])[0]
        ratios = (now - batch["sampling_per_token_logps"]).exp()[written_mask(batch).bool()]
        assert len(ratios) > 100 and (ratios - 1).abs().max() < 1e-4
