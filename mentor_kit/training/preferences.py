"""Direct preference optimisation (arXiv 2305.18290) on the student's own attempts, by TRL's
DPOTrainer: of one problem a right attempt is preferred to a wrong one.

    loss = -log sigmoid(beta x (log ratio of the right one - log ratio of the wrong one))

The log ratio is the student's log-probability of what it wrote, minus that of the student it began
as. Attempts are sampled once, before the first step; tool results carry no loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import pad

from mentor_kit.core.records import Record, load_records, save_records
from mentor_kit.errors import UserError
from mentor_kit.rewards import Reward
from mentor_kit.runs.run import Run
from mentor_kit.students.adapters import has_adapters, keep_adapters_float32
from mentor_kit.students.kv_decoder import ARCHITECTURES, can_keep_cache
from mentor_kit.students.rollout import run_rollouts
from mentor_kit.students.sampling import Sampling, step_seed
from mentor_kit.students.student import Student
from mentor_kit.training.callback import RunCallback
from mentor_kit.training.checkpoints import SHARDS, last_checkpoint, tiled_order
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.grpo import budget_of
from mentor_kit.training.reward_function import (
    FORWARDS,
    SAMPLED,
    TEACHER,
    RewardFunction,
    join_rollouts,
)
from mentor_kit.training.shared_prefix import Rows, micro_batches
from mentor_kit.training.trainer import common_arguments, finish_training, quiet
from mentor_kit.training.trainer_config import check_unchanged, exactly, store_trainer_config

ATTEMPTS = "step-000000.parquet"
MOST_PAIRS = 8  # of one problem


def train_dpo(student: Student, records: Sequence[Record], validation: Sequence[Record],
              reward: Reward, config: TrainConfig, run: Run) -> dict[str, Any]:
    """Train `student` in place; continues from the run's last checkpoint if there is one.

    Args:
        records: whose problems are attempted, `config.group_size` times each.
        validation: records judged greedily every `config.validate_every` steps.
        reward: scores the attempts for the log; pairs go by the judge's verdict.

    Returns:
        The budget used, as `train_grpo`.

    Raises:
        UserError: no problem has both a right and a wrong attempt, or a student that the kit's
            engine does not know.
    """
    if not can_keep_cache(student.model):
        raise UserError(f"method='dpo' samples by the kit's own engine, which knows plain "
                        f"{', '.join(ARCHITECTURES)} models of transformers only; this student is "
                        "another.")
    resume = last_checkpoint(run)
    attempts = _attempts(student, records, reward, config, run)
    rows = pair_rows(student, attempts, config)
    order = tiled_order(len(rows), config.steps * config.sft_batch // 2, config.seed)
    callback = RunCallback(run, student, validation, config)
    sampled = sum(r.trajectory.meta["tokens"] for r in attempts)
    callback.spent = lambda step: {SAMPLED: sampled if step == 1 else 0, TEACHER: 0, FORWARDS: 0}
    trainer = dpo_trainer(student, [rows[i] for i in order], config, run, callback)
    if resume:  # TRL counts from 0 again
        trainer._total_train_tokens = int(max(m.get("num_tokens", 0) for m in run.metrics()))
    else:
        callback.validate(0)
    steps = finish_training(trainer, callback, resume)
    join_rollouts(run)
    return {"optimizer_steps": steps, **budget_of(run)}


def _attempts(student: Student, records: Sequence[Record], reward: Reward, config: TrainConfig,
              run: Run) -> list[Record]:
    """Attempts of the student as it starts, problem by problem; those of an earlier call of this
    training where there are some. Their means are logged as step 0."""
    file = run.path(SHARDS) / ATTEMPTS
    sampling = Sampling(config.temperature, config.top_p, config.top_k, config.max_turns,
                        config.max_new_tokens, seed=step_seed(config.seed, 0))
    scorer = RewardFunction(student.format, records, reward, run, f"student:{student.name}")
    asked = [i for i in range(len(records)) for _ in range(config.group_size)]
    if not file.is_file():
        rows = sorted(run_rollouts(student, [records[i].problem for i in asked], sampling),
                      key=lambda row: row.number)
        scored = [scorer.score(row.trajectory(scorer.producer), len(row.completion), records[i], 0)
                  for row, i in zip(rows, asked, strict=True)]
        save_records(file, [record for record, _ in scored])
    attempts = load_records(file)
    if not any("judge_accuracy" in line for line in run.metrics()):
        scores = [scorer.reward(r.problem, r.reference, r.trajectory) for r in attempts]
        run.log({"step": 0, **scorer.means(attempts, scores, asked)})
    return attempts


def pair_rows(student: Student, attempts: Sequence[Record], config: TrainConfig
              ) -> list[dict[str, Any]]:
    """Pairs as the trainer takes them: token ids, what of them was written, and the start's
    log-probabilities. Of each problem at most `MOST_PAIRS`, drawn by the seed.

    Raises:
        UserError: there is none.
    """
    by_problem: dict[str, tuple[list[Record], list[Record]]] = {}
    for record in attempts:
        wrong_right = by_problem.setdefault(record.problem.id, ([], []))
        wrong_right[bool(record.trajectory.meta["correct"])].append(record)
    rng, pairs = Random(config.seed), []
    for wrong, right in by_problem.values():
        found = list(product(right, wrong))
        pairs += rng.sample(found, min(len(found), MOST_PAIRS))
    if not pairs:
        raise UserError(f"No problem has both a right and a wrong attempt among {len(attempts)}: "
                        "dpo has nothing to compare; raise group_size or temperature, or take "
                        "another start.")
    rows = []
    for pair in pairs:
        row: dict[str, Any] = {"prompt_ids": student.prompt_ids(pair[0].problem.question)}
        for name, record in zip(("chosen", "rejected"), pair, strict=True):
            encoded = student.encode(record.problem.question, record.trajectory)
            ids, written = (encoded[n][len(row["prompt_ids"]):]
                            for n in ("input_ids", "assistant_masks"))
            row |= {f"{name}_ids": ids, f"{name}_written": written}
        rows.append(row)
    _add_log_probabilities(student, rows, config.micro_batch)
    return rows


@torch.no_grad()
def _add_log_probabilities(student: Student, rows: list[dict[str, Any]], micro_batch: int) -> None:
    """Put the log-probability of each completion, under the student as it is, into its row: what
    TRL would compute by itself for every copy of a row."""
    places = [(row, name) for row in rows for name in ("chosen", "rejected")]
    width = max(len(row[f"{name}_ids"]) for row, name in places)
    scored = torch.tensor([row[f"{name}_written"] + [0] * (width - len(row[f"{name}_written"]))
                           for row, name in places]).bool()
    prompts = list(dict.fromkeys(tuple(row["prompt_ids"]) for row in rows))
    numbers = {prompt: number for number, prompt in enumerate(prompts)}
    read = Rows([list(p[:-1]) for p in prompts],
                torch.tensor([numbers[tuple(row["prompt_ids"])] for row, _ in places]),
                [[row["prompt_ids"][-1], *row[f"{name}_ids"]] for row, name in places], scored)
    sums = torch.zeros(len(places), device=student.model.device)
    for tokens in micro_batches(student.model, read, micro_batch):
        sums.index_add_(0, tokens.row, tokens.logprobs)
    for (row, name), total in zip(places, sums.tolist(), strict=True):
        row[f"ref_{name}_logps"] = total


class PairCollator(DataCollatorForPreference):
    """TRL's, with a mask of zeros on tool results."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        output = super().torch_call(examples)
        written = [[0] * len(e["prompt_ids"]) + e[f"{name}_written"]
                   for name in ("chosen", "rejected") for e in examples]
        output["completion_mask"] = pad([torch.tensor(w) for w in written], padding_value=0,
                                        padding_side="right")
        return output


class PairTrainer(DPOTrainer):
    """DPOTrainer on rows that are encoded already and bring the reference's log-probabilities."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def dpo_trainer(student: Student, rows: Sequence[dict[str, Any]], config: TrainConfig, run: Run,
                callback: RunCallback) -> DPOTrainer:
    """TRL's trainer for these pairs, taken in this order."""
    pairs = config.sft_batch // 2
    micro = config.sft_micro_batch // 2 or pairs
    asked = dict(
        max_steps=config.steps, seed=config.seed,
        per_device_train_batch_size=micro, gradient_accumulation_steps=pairs // micro,
        beta=config.dpo_beta, loss_type=["sigmoid"], precompute_ref_log_probs=True,
        max_length=None, padding_free=False, train_sampling_strategy="sequential",
        learning_rate=config.learning_rate, lr_scheduler_type="constant", warmup_steps=0,
        weight_decay=config.weight_decay, max_grad_norm=config.max_grad_norm, logging_steps=1,
        remove_unused_columns=False, **common_arguments(config, student, run))
    trainer = quiet(PairTrainer(
        model=student.model, args=exactly(DPOConfig, asked), processing_class=student.tokenizer,
        train_dataset=Dataset.from_list(list(rows)), callbacks=[callback],
        data_collator=PairCollator(pad_token_id=student.tokenizer.pad_token_id)))
    if has_adapters(student.model):  # TRL's copy of the start, which the rows make needless
        student.model.delete_adapter("ref")
    keep_adapters_float32(student.model)
    check_unchanged(trainer, asked)
    store_trainer_config(trainer, student, run)
    return trainer
