"""Supervised fine-tuning on teacher trajectories by TRL's SFTTrainer: the cold start and the SFT
baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR
from trl import SFTConfig, SFTTrainer

from mentor_kit.core.records import Record
from mentor_kit.runs.run import Run
from mentor_kit.students.adapters import keep_adapters_float32
from mentor_kit.students.rollout import prompt_ids
from mentor_kit.students.student import Student
from mentor_kit.training.callback import RunCallback
from mentor_kit.training.checkpoints import last_checkpoint, tiled_order
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.optimizers import MuonWithAdamW, WSDSchedule
from mentor_kit.training.parameters import SFTPlan
from mentor_kit.training.reward_function import FORWARDS, SAMPLED, TEACHER
from mentor_kit.training.sft_trainer import SharedPrefixTrainer
from mentor_kit.training.shared_prefix import can_share
from mentor_kit.training.trainer import common_arguments, finish_training, quiet
from mentor_kit.training.trainer_config import check_unchanged, exactly, store_trainer_config


def sft_rows(student: Student, records: Sequence[Record]) -> list[dict[str, list[int]]]:
    """Token ids and assistant mask of each record's trajectory; tool results get 0. The prompt of
    a problem with several records is rendered once."""
    problems = {id(r.problem): r.problem for r in records}
    prompts = {key: prompt_ids(student, problem) for key, problem in problems.items()}
    return [student.encode(r.problem, r.trajectory, prompts[id(r.problem)]) for r in records]


def train_sft(student: Student, records: Sequence[Record], validation: Sequence[Record],
              config: TrainConfig, run: Run,
              parts: Sequence[tuple[int, int]] = ()) -> dict[str, Any]:
    """Train `student` in place; continues from the run's last checkpoint if there is one.

    Args:
        records: trajectories to imitate (teacher's, or imperfect demonstrations of the cold start).
        validation: records judged greedily every `config.validate_every` steps.
        parts: of a curriculum: so many of `records`, in order, for so many steps; by default all.

    Returns:
        The budget used: optimizer_steps, sampled_tokens (0), teacher_tokens (assistant tokens
            trained on), teacher_forwards (0).
    """
    plan = config.sft_plan
    order = curriculum_order(parts or [(len(records), plan.steps)], plan.batch_size, config.seed)
    taken = list(dict.fromkeys(order))
    rows = dict(zip(taken, sft_rows(student, [records[i] for i in taken]), strict=True))
    resume = last_checkpoint(run)
    schedule = WSDSchedule(min(10, plan.steps // 4), plan.cooldown)
    if plan.cooldown and not plan.target_accuracy:
        schedule.begin_decay(max(plan.steps - plan.cooldown, 0))
    callback = RunCallback(run, student, validation, config, schedule)
    lengths = [sum(rows[i]["assistant_masks"]) for i in order]
    callback.spent = lambda step: {
        SAMPLED: 0, TEACHER: sum(lengths[(step - 1) * plan.batch_size:step * plan.batch_size]),
        FORWARDS: 0}
    trainer = sft_trainer(student, [rows[i] for i in order], config, run, callback, schedule)
    if resume:  # TRL counts from 0 again; the run's metrics now end at the checkpoint
        trainer._total_train_tokens = int(max((m.get("num_tokens", 0) for m in run.metrics()),
                                              default=0))
    elif not plan.target_accuracy:
        callback.validate(0)
    steps = finish_training(trainer, callback, resume)
    return {"optimizer_steps": steps, "sampled_tokens": 0,
            "teacher_tokens": sum(lengths[:steps * plan.batch_size]), "teacher_forwards": 0}


def curriculum_order(parts: Sequence[tuple[int, int]], batch: int, seed: int) -> list[int]:
    """Indices of the rows of each step, `batch` a step: part after part, each in an order of its
    own."""
    order: list[int] = []
    for number, (items, steps) in enumerate(parts):
        first = sum(n for n, _ in parts[:number])
        order += [first + i for i in tiled_order(items, steps * batch, seed, number)]
    return order


def sft_trainer(student: Student, rows: Sequence[dict[str, list[int]]], config: TrainConfig,
                run: Run, callback: RunCallback, schedule: WSDSchedule) -> SFTTrainer:
    """TRL's trainer for `rows` (see `sft_rows`), taken in this order."""
    plan, shared = config.sft_plan, config.shared_prompts and can_share(student.model)
    optimizer = make_optimizer(student, plan)
    asked = _arguments(config, student, run, whole_steps=shared)
    trainer = quiet((SharedPrefixTrainer if shared else SFTTrainer)(
        model=student.model, args=exactly(SFTConfig, asked), processing_class=student.tokenizer,
        train_dataset=Dataset.from_list([labelled(r) for r in rows]), callbacks=[callback],
        optimizers=(optimizer, LambdaLR(optimizer, schedule))))
    trainer.micro_batch = plan.micro_batch or plan.batch_size
    keep_adapters_float32(student.model)
    check_unchanged(trainer, asked)
    store_trainer_config(trainer, student, run, shared_prompts=shared)
    return trainer


def labelled(row: dict[str, list[int]]) -> dict[str, list[int]]:
    """A row as trainers take it. The labels are made here, not by the trainer from the mask:
    Unsloth's preparation of rows keeps the mask, TRL's collator ignores it, and prompt and tool
    results would be trained on."""
    masked = zip(row["input_ids"], row["assistant_masks"], strict=True)
    return {"input_ids": row["input_ids"], "labels": [i if m else -100 for i, m in masked]}


def make_optimizer(student: Student, plan: SFTPlan) -> torch.optim.Optimizer:
    """AdamW, or Muon with AdamW, without weight decay, on what is trained."""
    if plan.muon:
        return MuonWithAdamW(student.model, plan.muon_learning_rate, plan.learning_rate)
    trained = [p for p in student.model.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, lr=plan.learning_rate, weight_decay=0.0)


def _arguments(config: TrainConfig, student: Student, run: Run, *, whole_steps: bool
               ) -> dict[str, Any]:
    """Everything that changes the method is set here, never inherited. The optimizer and its
    schedule are ours.

    Args:
        whole_steps: a batch of TRL's is a process's share of a step; else a micro-batch.
    """
    plan = config.sft_plan
    share = plan.batch_size // config.num_processes
    batch = share if whole_steps else plan.micro_batch or share
    return dict(
        max_steps=plan.steps, seed=config.seed,
        per_device_train_batch_size=batch, gradient_accumulation_steps=share // batch,
        learning_rate=plan.learning_rate, lr_scheduler_type="constant", warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0, packing=False, padding_free=False, max_length=None,
        shuffle_dataset=False,
        train_sampling_strategy="sequential",
        dataset_num_proc=None, loss_type="nll" if student.origin.backend == "unsloth"
        else "chunked_nll",
        logging_steps=1, **common_arguments(config, student, run))
