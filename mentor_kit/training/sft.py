"""Supervised fine-tuning on teacher trajectories by TRL's SFTTrainer: the cold start and the SFT
baseline."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

import torch
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR
from trl import SFTConfig, SFTTrainer

from mentor_kit.core.records import Record
from mentor_kit.errors import UserError
from mentor_kit.runs.files import write_atomic
from mentor_kit.runs.run import SCRATCH, Run
from mentor_kit.students.adapters import keep_adapters_float32
from mentor_kit.students.sampling import ScoresNotFinite
from mentor_kit.students.student import Student
from mentor_kit.training import processes
from mentor_kit.training.checkpoints import (
    kept_checkpoints,
    last_checkpoint,
    restore_best,
    tiled_order,
)
from mentor_kit.training.config import SFTPlan, TrainConfig
from mentor_kit.training.monitor import Monitor
from mentor_kit.training.optimizers import Cooldown, MuonWithAdamW
from mentor_kit.training.sft_trainer import SharedPrefixTrainer
from mentor_kit.training.shared_prefix import can_share
from mentor_kit.training.trainer_config import check_unchanged, exactly, store_trainer_config
from mentor_kit.training.watch import PROBABILITY, not_a_number

ROWS_OF_A_PASS = 8  # of rows sorted by length, where sft_micro_batch is 0: more hold more padding
# models of this process in or after a training that did not end
INTERRUPTED: WeakSet[torch.nn.Module] = WeakSet()


def sft_rows(student: Student, records: Sequence[Record]) -> list[dict[str, list[int]]]:
    """Token ids and assistant mask of each record's trajectory; tool results are outside the
    loss."""
    return [student.encode(r.problem.question, r.trajectory) for r in records]


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
            trained on).
    """
    rows, plan = sft_rows(student, records), config.sft_plan
    order = curriculum_order(parts or [(len(rows), plan.steps)], plan.batch_size, config.seed)
    resume = last_checkpoint(run)
    cooldown = Cooldown(min(10, plan.steps // 4), plan.cooldown)
    if plan.cooldown and not plan.target_accuracy:
        cooldown.begin(max(plan.steps - plan.cooldown, 0))
    monitor = Monitor(run, student, validation, config, cooldown)
    trainer = sft_trainer(student, [rows[i] for i in order], config, run, monitor, cooldown)
    if resume:  # TRL counts from 0 again; the run's metrics now end at the checkpoint
        trainer._total_train_tokens = int(max((m.get("num_tokens", 0) for m in run.metrics()),
                                              default=0))
    elif not plan.target_accuracy:
        monitor.validate(0)
    steps = finish_training(trainer, monitor, resume)
    seen = order[:steps * plan.batch_size]
    return {"optimizer_steps": steps, "sampled_tokens": 0,
            "teacher_tokens": int(sum(sum(rows[i]["assistant_masks"]) for i in seen))}


def curriculum_order(parts: Sequence[tuple[int, int]], batch: int, seed: int) -> list[int]:
    """Indices of the rows of each step, `batch` a step: part after part, each in an order of its
    own."""
    order: list[int] = []
    for number, (items, steps) in enumerate(parts):
        first = sum(n for n, _ in parts[:number])
        order += [first + i for i in tiled_order(items, steps * batch, seed, number)]
    return order


def sft_trainer(student: Student, rows: Sequence[dict[str, list[int]]], config: TrainConfig,
                run: Run,
                monitor: Monitor, cooldown: Cooldown) -> SFTTrainer:
    """TRL's trainer for `rows` (see `sft_rows`), taken in this order."""
    plan, shared = config.sft_plan, config.shared_prompts and can_share(student.model)
    optimizer, asked = make_optimizer(student, plan), _arguments(config, student, run,
                                                                 whole_steps=shared)
    trainer = quiet((SharedPrefixTrainer if shared else SFTTrainer)(
        model=student.model, args=exactly(SFTConfig, asked), processing_class=student.tokenizer,
        callbacks=[monitor],
        train_dataset=Dataset.from_list([labelled(r) for r in rows]),
        optimizers=(optimizer, LambdaLR(optimizer, cooldown))))
    trainer.micro_batch = plan.micro_batch or ROWS_OF_A_PASS
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


def _arguments(config: TrainConfig, student: Student, run: Run, *, whole_steps: bool) -> dict[str,
                                                                                              Any]:
    """Everything that changes the method is set here, never inherited. The optimizer and its
    schedule are ours.

    Args:
        whole_steps: a batch of TRL's is a process's share of a step; else a micro-batch.
    """
    plan = config.sft_plan
    share = plan.batch_size // config.num_processes
    batch = share if whole_steps else plan.micro_batch or share
    return dict(
        output_dir=str(run.path("checkpoints")), max_steps=plan.steps, seed=config.seed,
        per_device_train_batch_size=batch, gradient_accumulation_steps=share // batch,
        learning_rate=plan.learning_rate, lr_scheduler_type="constant", warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0, packing=False, padding_free=False, max_length=None,
        shuffle_dataset=False,
        train_sampling_strategy="sequential",
        dataset_num_proc=None, loss_type="nll" if student.origin.backend == "unsloth"
        else "chunked_nll",
        logging_steps=1, **common_arguments(config, student))


def common_arguments(config: TrainConfig, student: Student) -> dict[str, Any]:
    """Trainer arguments that SFT and GRPO share: device, precision, checkpoints, tracking, silence.

    Raises:
        UserError: `report_to` names a tracker that is not installed.
    """
    if config.report_to != "none" and importlib.util.find_spec(config.report_to) is None:
        raise UserError(f"report_to={config.report_to!r}: the package {config.report_to} is not "
                        "installed; install it, or use 'none' (metrics.jsonl is always written).")
    cuda = student.model.device.type == "cuda"
    save = {"save_strategy": "steps", "save_steps": config.save_every,
            "save_total_limit": kept_checkpoints()}
    loading = student.origin.loading
    return {"use_cpu": not cuda, "bf16": cuda, "fp16": False, "disable_tqdm": True,
            "optim": "adamw_torch_fused" if cuda else "adamw_torch",
            "gradient_checkpointing": loading is not None and loading.gradient_checkpointing,
            "report_to": config.report_to, "dataloader_pin_memory": cuda,
            "ddp_find_unused_parameters": False,
            # a loss that is no number must be seen, not averaged away
            "logging_nan_inf_filter": False,
            **(save if config.save_every else {"save_strategy": "no"})}


def finish_training(trainer: Any, monitor: Monitor, resume: str | None) -> int:
    """Train to the end, leave in the model what is to be kept, and return the optimizer steps
    taken.

    Raises:
        TrainingCollapsed: going on cannot help.
        UserError: an earlier call was interrupted before its first checkpoint, so the start is
            lost.
    """
    if not resume and trainer.model in INTERRUPTED:
        raise UserError("This student's training was interrupted before its first checkpoint, and "
                        "its weights are no longer those it started from: make the student again "
                        "(the cell above), then train.")
    INTERRUPTED.add(trainer.model)
    try:
        trainer.train(resume_from_checkpoint=resume)
        INTERRUPTED.discard(trainer.model)
    except (RuntimeError, ScoresNotFinite) as error:
        # torch refuses to sample from what is not a number in these words
        if not isinstance(error, ScoresNotFinite) and "probability tensor contains" not in str(
            error
        ):
            raise
        raise not_a_number(PROBABILITY, None, trainer.state.global_step + 1) from error
    if processes.sharded():
        _gather_weights(trainer, monitor)
    _settle(monitor)
    return trainer.state.global_step


def _gather_weights(trainer: Any, monitor: Monitor) -> None:
    """Make the sharded student whole again, in the first process's memory, by the engine's own way
    of saving."""
    from transformers import AutoModelForCausalLM

    folder = monitor.run.path(f"{SCRATCH}/whole")
    trainer.save_model(str(folder))
    if processes.is_first():
        monitor.student.model = AutoModelForCausalLM.from_pretrained(folder)


def _settle(monitor: Monitor) -> None:
    """Record the best validation, and put its weights back if they are to be kept."""
    if not monitor.watch.best:
        return
    (step, accuracy), keep = monitor.watch.best, monitor.config.keep
    if processes.is_first():
        facts = {"step": step, "accuracy": accuracy, "last_accuracy": monitor.watch.accuracy,
                 "kept": keep}
        write_atomic(monitor.run.path("best.json"),
                     json.dumps(facts, sort_keys=True, indent=1) + "\n")
    if keep == "best":
        restore_best(monitor.student.model, monitor.run, step)


def quiet(trainer: Any) -> Any:
    """Drop the trainer's own printing; `Monitor` reports."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer
