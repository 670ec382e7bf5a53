"""A control, not a method: decoding with unknown tool names masked out.

It shows how much of a method's gain is mere tool hygiene: the cold-start student cannot invent a name, and
nothing else changes.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from transformers import LogitsProcessor

OPEN = '{"name": "'


class KnownToolNames(LogitsProcessor):
    """Inside a tool call's name, allow only tokens that continue the name of a known tool.

    Args:
        tokenizer: decides what a token's text is.
        names: the known tool names.
    """

    def __init__(self, tokenizer: Any, names: tuple[str, ...]) -> None:
        self.tokenizer = tokenizer
        self.targets = tuple(n + '"' for n in names)
        self.masks: dict[str, torch.Tensor | None] = {}

    @cached_property
    def pieces(self) -> list[str]:
        return [self.tokenizer.decode([i]) for i in range(len(self.tokenizer))]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for row, text in enumerate(self.tokenizer.batch_decode(input_ids[:, -24:])):
            mask = self._mask(text, scores)
            if mask is not None:
                scores[row] = scores[row].masked_fill(mask, float("-inf"))
        return scores

    def _mask(self, text: str, scores: torch.Tensor) -> torch.Tensor | None:
        """Positions to forbid, or None outside a name."""
        _, opened, partial = text.rpartition(OPEN)
        if not opened or '"' in partial:
            return None
        if partial not in self.masks:
            forbidden = [not self._continues(partial + piece) for piece in self.pieces]
            forbidden += [True] * (scores.shape[-1] - len(forbidden))
            self.masks[partial] = torch.tensor(forbidden, device=scores.device)
        return self.masks[partial]

    def _continues(self, text: str) -> bool:
        """Whether a text begins a known name, or holds one followed by the closing quote."""
        return any(t.startswith(text) or text.startswith(t) for t in self.targets)
