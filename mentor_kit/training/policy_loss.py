"""GRPO's losses as a weighted sum over tokens:

    loss = sum of weight x (policy term + beta x KL) - entropy_coef x mean entropy

A token's weight is fixed before the rows are split into micro-batches, so the split, of equal rows
or not, changes nothing:

    dapo, cispo   1 / tokens of the update in all processes, times processes (gradients are means)
    bnpo          1 / tokens of the update in this process
    grpo, sapo    1 / (rows x tokens of the row)
    dr_grpo       1 / (rows x most tokens of a completion)

Tokens are those that the student wrote. The terms are TRL 1.14's (`GRPOTrainer._compute_loss`), to
which the tests compare them: GRPO (arXiv 2402.03300), DAPO (2503.14476), Dr. GRPO (2503.20783),
BNPO (2506.02864), CISPO (2506.13585), SAPO (2511.20347); the dual clip `delta` is that of the
released scripts.
"""

from __future__ import annotations

from typing import Any

import torch

LOSSES = ("dapo", "grpo", "bnpo", "dr_grpo", "cispo", "sapo")


def token_weights(args: Any, mask: torch.Tensor, tokens_of_update: float) -> torch.Tensor:
    """Each token's weight, (rows, tokens); 0 where the mask is.

    Args:
        args: TRL's GRPOConfig.
        mask: what the student wrote, (rows, tokens), of all rows of this process's update.
        tokens_of_update: how many such tokens all processes have, over the number of processes.
    """
    mask, rows = mask.float(), len(mask)
    if args.loss_type in ("dapo", "cispo"):
        return mask / max(tokens_of_update, 1.0)
    if args.loss_type == "bnpo":
        return mask / mask.sum().clamp(min=1.0)
    if args.loss_type == "dr_grpo":
        return mask / (rows * args.max_completion_length)
    return mask / (rows * mask.sum(1, keepdim=True).clamp(min=1.0))


def policy_term(args: Any, logprobs: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor
                ) -> torch.Tensor:
    """What is minimised for each token, before its weight.

    Args:
        args: TRL's GRPOConfig.
        logprobs, old: of the tokens, now and when they were sampled; advantages: of their rollouts;
            (tokens).
    """
    ratio = (logprobs - old).exp()
    if args.loss_type == "cispo":
        return -ratio.clamp(max=args.epsilon_high).detach() * advantages * logprobs
    if args.loss_type == "sapo":
        heat = torch.where(advantages > 0, args.sapo_temperature_pos, args.sapo_temperature_neg)
        return -torch.sigmoid(heat * (ratio - 1)) * 4 / heat * advantages
    clipped = ratio.clamp(1 - args.epsilon, 1 + args.epsilon_high)
    if args.delta is not None:
        ratio = ratio.clamp(max=args.delta)
    return -torch.min(ratio * advantages, clipped * advantages)


def trace_term(logprobs: torch.Tensor, advantages: torch.Tensor, shaping: float) -> torch.Tensor:
    """What is minimised for each token that a teacher wrote (LUFFY, arXiv 2504.14945):

        -p / (p + shaping) x advantage

    with p the student's probability of the token. The teacher's own is taken as 1, so p is the
    ratio; it is never above 1 and is not clipped. The shaping moves the gradient to tokens that
    the student finds unlikely; 0 makes the term constant, so it must be above 0.
    """
    probabilities = logprobs.exp()
    return -probabilities / (probabilities + shaping) * advantages


def kl_term(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The k3 estimate of the divergence from the reference model, of each token."""
    difference = reference - logprobs
    return difference.exp() - difference - 1


def clipped(args: Any, logprobs: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor
            ) -> dict[str, torch.Tensor]:
    """Which tokens the clip holds back, by TRL's names of their means."""
    ratio = (logprobs.detach() - old).exp()
    if args.loss_type == "cispo":
        return {"cispo_clip_ratio": (ratio > args.epsilon_high) & (advantages > 0)}
    if args.loss_type == "sapo":
        return {}
    low = (ratio < 1 - args.epsilon) & (advantages < 0)
    high = (ratio > 1 + args.epsilon_high) & (advantages > 0)
    return {"clip_ratio/low_mean": low, "clip_ratio/high_mean": high,
            "clip_ratio/region_mean": low | high}
