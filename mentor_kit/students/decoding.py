"""Decoding for multi-turn rollouts that keeps keys and values between turns.

`generate` reads the whole conversation again at every turn; a rollout of five short turns then spends most of its
time reading. Here a turn reads only what is new (the last token and the tool results), the part of the prompts that
all rows share (the tool block) is read once for all of them, and rows that are done leave the cache. Greedy texts are
those of `generate` up to float ties.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from os.path import commonprefix
from typing import Any

import torch
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

SHORTEST_SHARED = 8  # tokens of a shared prompt beginning that are worth a pass of their own
SEEN = 32  # last tokens that logits processors look at


def can_keep_cache(model: Any) -> bool:
    """Whether the model is a plain full-attention transformer, whose cache may hold gaps. Others use `generate`:
    adapters and patched models bring their own, and a sliding window would count the gaps."""
    if not isinstance(model, PreTrainedModel) or not type(model).forward.__module__.startswith("transformers."):
        return False
    layers = getattr(model.config, "layer_types", None) or ["full_attention"]
    slides = not hasattr(model.config, "layer_types") and getattr(model.config, "sliding_window", None) is not None
    known = inspect.signature(type(model).forward).parameters
    return set(layers) == {"full_attention"} and not slides and "logits_to_keep" in known


class CachedDecoder:
    """The rows of a batch under way, by number; each has tokens that the model has read, and pending ones.

    Args:
        prompts: token ids of each row's prompt.
        processors: change the scores of the next token, given the last tokens.
    """

    def __init__(self, model: Any, eos: int, pad: int, prompts: Sequence[Sequence[int]],
                 processors: LogitsProcessorList) -> None:
        self.model, self.eos, self.pad, self.processors = model, eos, pad, processors
        self.rows = list(range(len(prompts)))
        self.texts = [list(p) for p in prompts]
        self.pending = [list(p) for p in prompts]
        self.cache = DynamicCache(config=model.config)
        self.mask = torch.zeros((len(prompts), 0), dtype=torch.long, device=model.device)
        self._read_shared(prompts)

    def _read_shared(self, prompts: Sequence[Sequence[int]]) -> None:
        """Read the common beginning of all prompts once, for all rows."""
        shared = min(len(commonprefix([list(p) for p in prompts])), min(map(len, prompts)) - 1)
        if len(prompts) < 2 or shared < SHORTEST_SHARED:
            return
        ids = torch.tensor([list(prompts[0][:shared])], device=self.model.device)
        with torch.no_grad():
            self.model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.cache.batch_repeat_interleave(len(prompts))
        self.mask = torch.ones((len(prompts), shared), dtype=torch.long, device=self.model.device)
        self.pending = [list(p[shared:]) for p in prompts]

    def add(self, row: int, ids: Sequence[int]) -> None:
        """Tokens that a row reads before it writes its next turn."""
        self.texts[row] += ids
        self.pending[row] += ids

    @torch.no_grad()
    def write(self, rows: Sequence[int], budgets: Sequence[int], sampled: bool) -> list[list[int]]:
        """The next turn of each of these rows, up to and including the end token, at most its budget of tokens. Rows
        that are not asked leave the batch for good."""
        self._keep(rows)
        written: dict[int, list[int]] = {r: [] for r in rows}
        left = dict(zip(rows, budgets, strict=True))
        while any(left.values()):
            for row, token in zip(rows, self._next_tokens(sampled), strict=True):
                if left[row]:
                    written[row].append(token)
                    self.add(row, [token])
                    left[row] = 0 if token == self.eos else left[row] - 1
        return list(written.values())

    def _keep(self, rows: Sequence[int]) -> None:
        if list(rows) == self.rows:
            return
        index = torch.tensor([self.rows.index(r) for r in rows], device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.mask, self.rows = self.mask[index], list(rows)

    def _next_tokens(self, sampled: bool) -> list[int]:
        scores = self._read()
        if self.processors:
            seen = [self.texts[r][-SEEN:] for r in self.rows]
            scores = self.processors(self._padded(seen)[0], scores)
        if not sampled:
            return scores.argmax(-1).tolist()
        return torch.multinomial(scores.softmax(-1), 1)[:, 0].tolist()

    def _read(self) -> torch.Tensor:
        """Have the model read what is pending; scores of each row's next token, (rows, vocabulary)."""
        ids, mask = self._padded([self.pending[r] for r in self.rows])
        for row in self.rows:
            self.pending[row] = []
        self.mask = torch.cat([self.mask, mask], dim=1)
        places = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1]:]
        read = self.model(input_ids=ids, attention_mask=self.mask, position_ids=places, past_key_values=self.cache,
                          use_cache=True, logits_to_keep=1)
        return read.logits[:, -1].float()

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask, padded on the left."""
        width = max(map(len, rows))
        ids = [[self.pad] * (width - len(r)) + list(r) for r in rows]
        mask = [[0] * (width - len(r)) + [1] * len(r) for r in rows]
        return torch.tensor(ids, device=self.model.device), torch.tensor(mask, device=self.model.device)


def sampling_processors(temperature: float, top_k: int, top_p: float) -> list[Any]:
    """The warpers that `generate` uses for these settings, in its order; none for greedy decoding."""
    if temperature == 0:
        return []
    wanted = [(temperature != 1, lambda: TemperatureLogitsWarper(temperature)),
              (top_k > 0, lambda: TopKLogitsWarper(top_k)), (top_p < 1, lambda: TopPLogitsWarper(top_p))]
    return [make() for on, make in wanted if on]
