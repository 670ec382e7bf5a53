"""How a student's next token is chosen: settings, warped scores, seeded draws.

Every rollout draws from random numbers of its own, one stream a turn, so what it samples does not
depend on its neighbours.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from mentor_kit.errors import UserError


class ScoresNotFinite(UserError):
    """The model's scores are nan or infinite, so that no token can be chosen."""


@dataclass(frozen=True)
class Sampling:
    """How each turn is sampled. Temperature 0 is greedy (top-k and top-p are then unused).

    The released evaluation uses 0.6, top-p 0.95, top-k 20; it ignored per-turn settings, ours are
    applied each turn and stored with the result.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_turns: int = 5
    max_new_tokens: int = 256
    constrain_tool_names: bool = False
    seed: int = 0


def turn_generator(seed: int, problem_id: str, sample: int, turn: int) -> np.random.Generator:
    """The random numbers of one turn of one rollout."""
    who = zlib.crc32(problem_id.encode("utf-8", "replace"))
    return np.random.default_rng(np.random.SeedSequence([seed, who, sample, turn]))


def step_seed(seed: int, step: int) -> int:
    """The sampling seed of one step of a training."""
    return int(np.random.SeedSequence([seed, step, 0x57E9]).generate_state(1)[0])


def check_finite(scores: torch.Tensor) -> None:
    """Raises ScoresNotFinite."""
    if not scores.amax(-1).isfinite().all():
        raise ScoresNotFinite("The student's scores are not finite numbers (nan or infinity), so "
                              "no token can be chosen: look for such numbers in its weights, or "
                              "take another checkpoint.")


def sampling_processors(temperature: float, top_k: int, top_p: float) -> list[Any]:
    """The warpers that `generate` uses for these settings, in its order; none where greedy."""
    if temperature == 0:
        return []
    wanted = [(temperature != 1, lambda: TemperatureLogitsWarper(temperature)),
              (top_k > 0, lambda: TopKLogitsWarper(top_k)),
              (top_p < 1, lambda: TopPLogitsWarper(top_p))]
    return [make() for on, make in wanted if on]


def next_tokens(scores: torch.Tensor, random: Sequence[np.random.Generator | None]) -> list[int]:
    """The next token of each row: the likeliest, or the one at a drawn point of the cumulated
    probabilities.

    Args:
        scores: (rows, vocabulary), already warped.
        random: each row's own random numbers; all None is greedy.
    """
    if random[0] is None:
        return scores.argmax(-1).tolist()
    cumulated = scores.double().softmax(-1).cumsum(-1)
    draws = torch.tensor([r.random() for r in random], dtype=cumulated.dtype,
                         device=cumulated.device)
    found = torch.searchsorted(cumulated, draws[:, None] * cumulated[:, -1:], right=True)
    return found[:, 0].clamp(max=scores.shape[-1] - 1).tolist()


def log_probabilities(scores: torch.Tensor, tokens: Sequence[int], temperature: float
                      ) -> list[float]:
    """What the trainer calls a token's log-probability: of the scores at this temperature, before
    top-k and top-p.

    Args:
        scores: (rows, vocabulary), as the model gave them; tokens: one a row.
    """
    scaled = scores / temperature
    chosen = scaled.gather(1, torch.tensor(tokens, device=scores.device)[:, None])[:, 0]
    return (chosen - scaled.logsumexp(-1)).tolist()


class Draw(LogitsProcessor):
    """For `generate`: leaves each row the one token that `next_tokens` draws.

    Args:
        random: each row's own random numbers.
    """

    def __init__(self, random: Sequence[np.random.Generator]) -> None:
        self.random = random

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        check_finite(scores)
        chosen = torch.tensor(next_tokens(scores, self.random), device=scores.device)
        return torch.full_like(scores, float("-inf")).scatter_(1, chosen[:, None], 0.0)
