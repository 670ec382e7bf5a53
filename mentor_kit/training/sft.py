"""Supervised fine-tuning on teacher trajectories by TRL's SFTTrainer: the cold start and the SFT baseline."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR
from trl import SFTConfig, SFTTrainer

from mentor_kit.errors import UserError
from mentor_kit.runs import Run
from mentor_kit.store import Record
from mentor_kit.students.student import Student
from mentor_kit.training.checkpoints import last_checkpoint, tiled_order
from mentor_kit.training.config import SFTSettings
from mentor_kit.training.monitor import Monitor
from mentor_kit.training.optimizers import Cooldown, MuonWithAdamW


def sft_rows(student: Student, records: Sequence[Record]) -> list[dict[str, list[int]]]:
    """Token ids and assistant mask of each record's trajectory; tool results are outside the loss."""
    return [student.encode(r.problem.question, r.trajectory) for r in records]


def train_sft(student: Student, records: Sequence[Record], validation: Sequence[Record], settings: SFTSettings,
              run: Run) -> dict[str, Any]:
    """Train `student` in place; continues from the run's last checkpoint if there is one.

    Args:
        records: trajectories to imitate (teacher's, or imperfect demonstrations of the cold start).
        validation: records judged greedily every `settings.validate_every` steps.

    Returns:
        The budget used: optimizer_steps, sampled_tokens (0), teacher_tokens (assistant tokens trained on).
    """
    rows = sft_rows(student, records)
    order = tiled_order(len(rows), settings.steps * settings.batch_size, settings.seed)
    dataset = Dataset.from_list([rows[i] for i in order])
    resume = last_checkpoint(run)
    cooldown = Cooldown(min(10, settings.steps // 4), settings.cooldown)
    monitor = Monitor(run, student, validation, every=settings.validate_every, steps=settings.steps,
                      target_accuracy=settings.target_accuracy, cooldown=cooldown)
    optimizer = make_optimizer(student, settings)
    trainer = quiet(SFTTrainer(model=student.model, args=_arguments(settings, student, run), train_dataset=dataset,
                                processing_class=student.tokenizer, callbacks=[monitor],
                                optimizers=(optimizer, LambdaLR(optimizer, cooldown))))
    if not resume and not settings.target_accuracy:
        monitor.validate(0)
    trainer.train(resume_from_checkpoint=resume)
    steps = trainer.state.global_step
    seen = order[:steps * settings.batch_size]
    return {"optimizer_steps": steps, "sampled_tokens": 0,
            "teacher_tokens": int(sum(sum(rows[i]["assistant_masks"]) for i in seen))}


def make_optimizer(student: Student, settings: SFTSettings) -> torch.optim.Optimizer:
    """AdamW, or Muon with AdamW, without weight decay."""
    if settings.optimizer == "muon":
        return MuonWithAdamW(student.model, settings.muon_learning_rate, settings.learning_rate)
    return torch.optim.AdamW(student.model.parameters(), lr=settings.learning_rate, weight_decay=0.0)


def _arguments(settings: SFTSettings, student: Student, run: Run) -> SFTConfig:
    return SFTConfig(
        output_dir=str(run.path("checkpoints")), max_steps=settings.steps, seed=settings.seed,
        per_device_train_batch_size=settings.batch_size, learning_rate=settings.learning_rate, max_grad_norm=1.0,
        packing=False, max_length=None, shuffle_dataset=False, dataset_num_proc=None, logging_steps=1,
        **common_arguments(settings, student))


def common_arguments(settings: Any, student: Student) -> dict[str, Any]:
    """Trainer arguments that SFT and GRPO share: device, precision, checkpoints, tracking, silence.

    Raises:
        UserError: `report_to` names a tracker that is not installed.
    """
    if settings.report_to != "none" and importlib.util.find_spec(settings.report_to) is None:
        raise UserError(f"report_to={settings.report_to!r}: the package {settings.report_to} is not installed; install it, "
                        "or use 'none' (metrics.jsonl is always written).")
    cuda = student.model.device.type == "cuda"
    save = {"save_strategy": "steps", "save_steps": settings.save_every, "save_total_limit": 1}
    return {"use_cpu": not cuda, "bf16": cuda, "gradient_checkpointing": False, "disable_tqdm": True,
            "report_to": settings.report_to, "dataloader_pin_memory": cuda,
            **(save if settings.save_every else {"save_strategy": "no"})}


def quiet(trainer: Any) -> Any:
    """Drop the trainer's own printing; `Monitor` reports."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer
