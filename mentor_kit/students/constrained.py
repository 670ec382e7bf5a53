"""A control, not a method: decoding with unknown tool names masked out.

It shows how much of a method's gain is mere tool hygiene: the cold-start student cannot invent a
name, and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from transformers import LogitsProcessor

OPEN = '{"name": "'


class KnownToolNames(LogitsProcessor):
    """Inside a tool call's name, allow only tokens that continue the name of a tool that the row
    knows.

    Args:
        tokenizer: decides what a token's text is.
        names: each row's known tool names.
    """

    def __init__(self, tokenizer: Any, names: Sequence[tuple[str, ...]]) -> None:
        self.tokenizer, self.names = tokenizer, names

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        texts = self.tokenizer.batch_decode(input_ids[:, -24:])
        for row, (text, names) in enumerate(zip(texts, self.names, strict=True)):
            _, opened, partial = text.rpartition(OPEN)
            if opened and '"' not in partial:
                mask = forbidden(self.tokenizer, partial, names, scores.shape[-1]).to(scores.device)
                scores[row] = scores[row].masked_fill(mask, float("-inf"))
        return scores


@lru_cache(maxsize=4096)
def forbidden(tokenizer: Any, partial: str, names: tuple[str, ...], size: int) -> torch.Tensor:
    """The tokens that lead from the part of a name that is written to no known name, (size,)."""
    targets = [n + '"' for n in names]
    texts = (partial + piece for piece in pieces(tokenizer))
    wrong = [not any(t.startswith(text) or text.startswith(t) for t in targets) for text in texts]
    return torch.tensor(wrong + [True] * (size - len(wrong)))


@lru_cache(maxsize=4)
def pieces(tokenizer: Any) -> list[str]:
    """The text of each token."""
    return [tokenizer.decode([i]) for i in range(len(tokenizer))]
