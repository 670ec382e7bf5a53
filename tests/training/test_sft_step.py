"""The SFT step that reads the tool block once: gradients, loss and logged means are those of TRL's
own step."""

from __future__ import annotations

import pytest
import torch
from small_student import BOX, clone, new_run, teacher_records, untrained

from mentor_kit.students.loading import LoadConfig
from mentor_kit.students.student import load_student
from mentor_kit.training.callback import RunCallback
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.optimizers import WSDSchedule
from mentor_kit.training.sft import sft_rows, sft_trainer
from mentor_kit.training.sft_trainer import rows_of

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(12)


def step(student, folder, rows, **options):
    """Gradient, loss and metrics of one step on all rows."""
    settings = TrainConfig(method="sft", steps=1, sft_batch=len(rows), validate_every=0,
                           save_every=0, **options)
    run = new_run(folder)
    trainer = sft_trainer(student, rows, settings, run, RunCallback(run, student, [], settings),
                          WSDSchedule(0, 0))
    batches = list(trainer.get_train_dataloader())
    trainer.current_gradient_accumulation_steps = len(batches)
    scored = sum((b["labels"] != -100).sum() for b in batches)
    loss = sum(trainer.training_step(trainer.model, b, num_items_in_batch=scored).item()
               for b in batches)
    gradient = torch.cat([p.grad.flatten() for p in student.model.parameters() if p.requires_grad])
    return gradient, loss, {name: values[-1] for name, values in trainer._metrics["train"].items()}


@pytest.mark.parametrize("micro_batch", [0, 1, 3])
@pytest.mark.parametrize("finetuning", ["full", "lora"])
def test_a_step_is_that_of_trl(tmp_path, finetuning, micro_batch):
    student = untrained(RECORDS, width=64, layers=2)
    if finetuning == "lora":
        folder = student.save(tmp_path / "student")
        student = load_student(folder, BOX, loading=LoadConfig(finetuning="lora", lora_rank=4))
    rows = sft_rows(student, RECORDS)
    theirs = step(student, tmp_path / "trl", rows, shared_prompts=False)
    student.model.zero_grad()
    ours = step(student, tmp_path / "kit", rows, sft_micro_batch=micro_batch)
    assert (ours[0] - theirs[0]).norm() < 1e-5 * theirs[0].norm() and theirs[0].norm() > 1e-3
    assert ours[1] == pytest.approx(theirs[1], abs=1e-5) and ours[2] == pytest.approx(theirs[2],
                                                                                      abs=1e-5)


def test_rows_share_what_is_not_scored_and_nothing_else():
    def batch(rows, scored_from):
        width = max(map(len, rows))
        ids = torch.tensor([r + [0] * (width - len(r)) for r in rows])
        mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows])
        labels = torch.where((torch.arange(width) >= torch.tensor(scored_from)[:,
                                                                               None]) & mask.bool(),
                             ids, -100)
        return rows_of({"input_ids": ids, "attention_mask": mask, "labels": labels})

    rows = batch([[1, 2, 3, 4, 5], [1, 2, 9, 8]], [3, 3])
    assert rows.prefixes == [[1, 2]] and rows.suffixes == [[3, 4, 5], [9, 8]]
    assert rows.scored.tolist() == [[True, True], [True, False]]
    # what predicts the first scored token is each row's own
    rows = batch([[1, 2, 3, 4], [1, 2, 3, 4, 5]], [2, 3])
    assert rows.prefixes == [[1]] and rows.scored.tolist() == [[True, True, False],
                                                               [False, True, True]]
    rows = batch([[1, 2, 3], [4, 5, 6]], [1, 1])  # nothing in common
    assert rows.prefixes == [[]] and rows.suffixes == [[1, 2, 3], [4, 5, 6]]


def test_a_row_s_neighbours_do_not_change_its_loss(tmp_path):
    """Nothing crosses from one row to another: a step's gradient is the sum of its rows'
    gradients."""
    student = untrained(RECORDS)
    rows, sizes = sft_rows(student, RECORDS), [sum(r["assistant_masks"])
                                               for r in sft_rows(student, RECORDS)]
    whole = step(clone(student), tmp_path / "whole", rows)[0]
    alone = [step(clone(student), tmp_path / str(i), [row])[0] for i, row in enumerate(rows)]
    weighted = sum(size * gradient for size, gradient in zip(sizes, alone,
                                                             strict=True)) / sum(sizes)
    assert (whole - weighted).norm() < 1e-5 * whole.norm()
