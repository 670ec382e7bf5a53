"""TRL's SFTTrainer with a step that reads what all trajectories begin with, the tool block, once.

Rows are sorted by length within a step and scored on what the assistant wrote only; nothing crosses
from one row to another. The loss is TRL's: the mean over all scored tokens of the step, in all
processes.
"""

from __future__ import annotations

from os.path import commonprefix
from typing import Any

import torch
from trl import SFTTrainer

from mentor_kit.training import processes
from mentor_kit.training.shared_prefix import Rows, average_gradients, micro_batches

UNSCORED = -100  # a label that is not a target


class SharedPrefixTrainer(SFTTrainer):
    """SFTTrainer whose batch is a whole step, split within it into micro-batches of `micro_batch`
    rows."""

    micro_batch = 32

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
                      ) -> torch.Tensor:
        """Forward and backward, micro-batch by micro-batch. Returns the loss."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        rows = rows_of(inputs)
        weight = processes.count() / float(num_items_in_batch)  # gradients are means of processes
        loss = entropy = hits = torch.zeros((), device=inputs["labels"].device)
        for tokens in micro_batches(self.model, rows, self.micro_batch,
                                    autocast=self.accelerator.autocast):
            part = -weight * tokens.logprobs.sum()
            self.accelerator.backward(part)
            loss = loss + part.detach()
            entropy, hits = entropy + tokens.entropies.sum(), hits + tokens.hits.sum()
        average_gradients(self.model)
        self._log_means(inputs, rows, entropy, hits)
        return loss

    def _log_means(self, inputs: dict[str, Any], rows: Rows, entropy: torch.Tensor,
                   hits: torch.Tensor) -> None:
        """What TRL logs of a step, under its names."""
        counts = [rows.scored.sum(), inputs["attention_mask"].sum(), entropy, hits]
        sums = self.accelerator.reduce(torch.stack([c.double() for c in counts]), reduction="sum")
        scored, read, entropy, hits = sums.tolist()
        self._total_train_tokens += int(read)
        metrics = self._metrics["train"]
        metrics["entropy"].append(entropy / scored)
        metrics["mean_token_accuracy"].append(hits / scored)
        metrics["num_tokens"] = [self._total_train_tokens]


def rows_of(inputs: dict[str, Any]) -> Rows:
    """A padded batch as rows that share what all of them begin with, up to the first token that
    predicts a scored one."""
    lengths = inputs["attention_mask"].sum(1).tolist()
    ids = [row[:n] for row, n in zip(inputs["input_ids"].tolist(), lengths, strict=True)]
    scored = inputs["labels"] != UNSCORED
    shared = min(len(commonprefix(ids)), int(scored.int().argmax(1).min()) - 1)
    suffixes = [row[shared:] for row in ids]
    return Rows([ids[0][:shared]], torch.zeros(len(ids), dtype=torch.long), suffixes,
                scored[:, shared + 1:])
