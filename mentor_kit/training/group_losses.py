"""Updates for groups that hold what the student did not sample, or only what it got right."""

from __future__ import annotations

from typing import Any

import torch

from mentor_kit.training.grpo_trainer import SharedPromptTrainer
from mentor_kit.training.policy_loss import trace_term
from mentor_kit.training.shared_prefix import Tokens


class MixedTrainer(SharedPromptTrainer):
    """Teacher traces beside the student's rollouts: the clipped ratio for what the student wrote,
    `trace_term` for what the teacher wrote."""

    trace_shaping = 0.1

    def _terms(self, inputs: dict[str, Any], tokens: Tokens, old: torch.Tensor,
               advantages: torch.Tensor) -> torch.Tensor:
        terms = super()._terms(inputs, tokens, old, advantages)
        traced = trace_term(tokens.logprobs, advantages, self.trace_shaping)
        return torch.where(inputs["by_teacher"][tokens.row], traced, terms)


class ImitationTrainer(SharedPromptTrainer):
    """Rejection sampling: the mean negative log-likelihood of the rollouts that were kept."""

    def _terms(self, inputs: dict[str, Any], tokens: Tokens, old: torch.Tensor,
               advantages: torch.Tensor) -> torch.Tensor:
        return -tokens.logprobs
