"""Decoding for multi-turn rollouts that keeps keys and values between turns, with rows that come and go.

`generate` reads the whole conversation again at every turn and waits for the slowest row. Here a row reads only what
is new (its last token and the tool results), the part of the prompts that all rows share (the tool block) is read once,
and the place of a finished row is taken by the next. The heads that share keys ask them together instead of copying
them, which is most of the time with a small model.

What a row writes does not depend on who else is under way: on a CPU every pass reads at least `FEWEST` tokens, and caches
in steps of `BLOCK` places, sizes from which on matrix products give a row the same bits whatever stands beside it
(measured on x86; elsewhere sums may differ in the last bit, and texts in float ties).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    AttentionInterface,
    Cache,
    LogitsProcessor,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

GROUPED = "mentor_kit_grouped"
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")  # plain attention: scaled products, one softmax
BLOCK = 128  # places
FEWEST = 16  # tokens of a pass
MOST = 2048  # tokens of a pass over prompts or tool results: more gain nothing and need memory


def can_keep_cache(model: Any) -> bool:
    """Whether the model is a plain full-attention transformer of transformers itself. Others use `generate`: adapters
    and patched models bring their own forward, and a sliding window is not kept here."""
    if not isinstance(model, PreTrainedModel) or not type(model).forward.__module__.startswith("transformers."):
        return False
    if hasattr(model, "for_inference"):  # Unsloth's: with all parameters trained it compiles the layers, not this class
        return False
    layers = getattr(model.config, "layer_types", None) or ["full_attention"]
    slides = not hasattr(model.config, "layer_types") and getattr(model.config, "sliding_window", None) is not None
    known = inspect.signature(type(model).forward).parameters
    return (model.config.model_type in ARCHITECTURES and set(layers) == {"full_attention"} and not slides
            and "logits_to_keep" in known)


def grouped_attention(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                      attention_mask: torch.Tensor | None, scaling: float | None = None, **_: Any
                      ) -> tuple[torch.Tensor, None]:
    """Attention in which the query heads of a group are further queries of its one key head: no key is copied.

    Args:
        query: (rows, heads, width, size); key, value: (rows, key heads, places, size).
        attention_mask: added to the scores, (rows, 1, width, places); None: every place is looked at.
    """
    rows, heads, width, size = query.shape
    groups = heads // key.shape[1]
    mask = attention_mask if width == 1 else attention_mask.repeat(1, 1, groups, 1)
    read = scaled_dot_product_attention(query.reshape(rows, key.shape[1], groups * width, size), key, value,
                                        attn_mask=mask, scale=scaling)
    return read.reshape(rows, heads, width, size).transpose(1, 2), None


AttentionInterface.register(GROUPED, grouped_attention)


@contextmanager
def _grouped(config: Any) -> Iterator[None]:
    """Within, the model attends by `grouped_attention`."""
    usual, config._attn_implementation = config._attn_implementation, GROUPED
    try:
        yield
    finally:
        config._attn_implementation = usual


class RowCache(Cache):
    """Keys and values of every layer, (rows, key heads, places, size); grows in places as rows get longer."""

    def __init__(self, rows: int) -> None:
        super().__init__(layers=[])
        self.held: list[list[torch.Tensor]] = []  # by layer: keys, values
        self.room = rows

    def aim(self, rows: torch.Tensor | int, places: torch.Tensor, reach: int) -> None:
        """Say what the next pass reads: which rows (a number: the first so many), where its tokens go, (rows, width),
        and how many places it looks back on."""
        self.first = rows if isinstance(rows, int) else 0
        self.rows = torch.arange(rows, device=places.device) if self.first else rows
        self.places, self.reach = places, reach

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
               ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store a pass's keys and values, (rows, key heads, width, size); all those that its rows may look at."""
        if layer_idx == len(self.held):
            self.held.append([key_states.new_zeros(0), value_states.new_zeros(0)])
        return self._store(layer_idx, 0, key_states), self._store(layer_idx, 1, value_states)

    def _store(self, layer: int, part: int, new: torch.Tensor) -> torch.Tensor:
        held = self.held[layer][part]
        if held.ndim < 4 or held.shape[2] < self.reach:
            held = self.held[layer][part] = _grown(held, new, self.room, self.reach)
        if self.first == 1:  # much cheaper than by index; one row has no padding
            held[:1, :, self.reach - new.shape[2]:self.reach] = new
        else:
            held[self.rows[:, None], :, self.places] = new.transpose(1, 2)
        return held[:self.first, :, :self.reach] if self.first else held[self.rows, :, :self.reach]

    def move(self, source: int, target: int, places: int) -> None:
        """Copy the first places of one row to another."""
        for held in (tensor for pair in self.held for tensor in pair):
            held[target, :, :places] = held[source, :, :places]

    def share(self, places: int) -> None:
        """Give every row the first places of row 0."""
        for held in (tensor for pair in self.held for tensor in pair):
            held[1:, :, :places] = held[:1, :, :places]


def _grown(held: torch.Tensor, like: torch.Tensor, rows: int, reach: int) -> torch.Tensor:
    """A tensor with more places; zeros (never nan) where nothing is yet."""
    before = held.shape[2] if held.ndim == 4 else 0
    larger = like.new_zeros(rows, like.shape[1], _rounded(max(reach, before * 5 // 4), BLOCK), like.shape[3])
    if before:
        larger[:, :, :before] = held
    return larger


def _rounded(number: int, step: int) -> int:
    return -(-number // step) * step


class Decoder:
    """Rows under way, numbered from 0 without gaps. Each has tokens that the model has read, and pending ones.

    Args:
        slots: the most rows at a time.
        shared: token ids with which all prompts begin.
    """

    def __init__(self, model: Any, slots: int, shared: Sequence[int] = ()) -> None:
        self.model, self.slots, self.shared = model, slots, len(shared)
        self.fewest = FEWEST if slots > 1 and model.device.type == "cpu" else 1
        self.cache = RowCache(max(slots, self.fewest))
        self.lengths: list[int] = []
        self.pending: list[list[int]] = []
        if shared:
            self.lengths, self.pending = [0], [list(shared)]
            self._read([0])
            self.cache.share(self.shared)
            self.lengths, self.pending = [], []

    def admit(self, prompt: Sequence[int]) -> None:
        """A new row, the last one; its prompt begins with the shared tokens and goes on."""
        self.lengths.append(self.shared)
        self.pending.append(list(prompt[self.shared:]))

    def release(self, row: int) -> None:
        """End a row. The last one takes its number."""
        last = len(self.lengths) - 1
        if row < last:
            self.cache.move(last, row, self.lengths[last])
            self.lengths[row], self.pending[row] = self.lengths[last], self.pending[last]
        self.lengths.pop()
        self.pending.pop()

    def passes(self) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Have all rows read what is pending. Yields rows and the scores of their next tokens, (rows, vocabulary).

        Where prompts or tool results are pending only their rows are read, those of like length together; else
        every row reads its one token. Between the passes of one call only rows that were read may be given more.
        """
        wide = sorted((r for r, p in enumerate(self.pending) if len(p) > 1), key=lambda r: len(self.pending[r]))
        if not wide:
            rows = list(range(len(self.pending)))
            yield rows, self._read(rows)
        while wide:
            count = self._alike(wide)
            yield wide[:count], self._read(wide[:count])
            wide = wide[count:]

    def _alike(self, rows: Sequence[int]) -> int:
        """How many of these rows, sorted by width, are read in one pass: those less than twice as wide as the first."""
        widths = [len(self.pending[r]) for r in rows]
        fit = [n for n, w in enumerate(widths, 1) if w <= max(2 * widths[0], FEWEST) and n * w <= MOST]
        return max(fit, default=1)

    @torch.no_grad()
    def _read(self, rows: list[int]) -> torch.Tensor:
        """Have the model read what these rows have pending; scores of their next tokens, (rows, vocabulary)."""
        pending, lengths = [self.pending[r] for r in rows], [self.lengths[r] for r in rows]
        for row, ids in zip(rows, pending, strict=True):
            self.lengths[row] += len(ids)
            self.pending[row] = []
        width = max(map(len, pending))
        if width == 1:  # all rows; places that are nobody's fill the pass
            idle = max(self.fewest - len(rows), 0)
            scores = self._forward(len(rows) + idle, pending + [[0]] * idle, lengths + [self.shared] * idle, 1)
            return scores[:len(rows)]
        places = len(rows) if self.slots == 1 else torch.tensor(rows, device=self.model.device)
        return self._forward(places, pending, lengths, max(width, -(-self.fewest // len(rows))))

    def _forward(self, rows: torch.Tensor | int, pending: list[list[int]], lengths: list[int], width: int
                 ) -> torch.Tensor:
        """One pass over these rows; tokens are padded on the left."""
        device, alone = self.model.device, self.slots == 1
        ends = [n + len(ids) for n, ids in zip(lengths, pending, strict=True)]
        reach = ends[0] if alone else _rounded(max(ends) + 1, BLOCK)
        ids = torch.tensor([[0] * (width - len(p)) + p for p in pending], device=device)
        places = torch.tensor(ends, device=device)[:, None]
        places = places - 1 if width == 1 else places + torch.arange(-width, 0, device=device)
        if width > 1 and not alone:  # padding goes to the last place, where nobody looks yet
            places = places.where(places >= torch.tensor(lengths, device=device)[:, None], reach - 1)
        self.cache.aim(rows, places, reach)
        scored = min(width, -(-self.fewest // len(pending)))  # positions: the scores are a matrix product too
        with _grouped(self.model.config):
            read = self.model(input_ids=ids, attention_mask=None if alone and width == 1 else self._mask(places, reach),
                              position_ids=places, past_key_values=self.cache, use_cache=True, logits_to_keep=scored)
        return read.logits[:, -1].float()

    def _mask(self, places: torch.Tensor, reach: int) -> torch.Tensor:
        """Added to the scores of attention, (rows, 1, width, reach): a token looks at its own place and before it."""
        later = torch.arange(reach, device=places.device) > places[..., None]
        return torch.zeros(later.shape, dtype=self.model.dtype, device=places.device).masked_fill_(
            later, float("-inf"))[:, None]


def sampling_processors(temperature: float, top_k: int, top_p: float) -> list[Any]:
    """The warpers that `generate` uses for these settings, in its order; none for greedy decoding."""
    if temperature == 0:
        return []
    wanted = [(temperature != 1, lambda: TemperatureLogitsWarper(temperature)),
              (top_k > 0, lambda: TopKLogitsWarper(top_k)), (top_p < 1, lambda: TopPLogitsWarper(top_p))]
    return [make() for on, make in wanted if on]


def next_tokens(scores: torch.Tensor, random: Sequence[np.random.Generator | None]) -> list[int]:
    """The next token of each row: the likeliest, or the one at a drawn point of the cumulated probabilities.

    Args:
        scores: (rows, vocabulary), already warped.
        random: each row's own random numbers; all None is greedy.
    """
    if random[0] is None:
        return scores.argmax(-1).tolist()
    heaped = scores.double().softmax(-1).cumsum(-1)
    draws = torch.tensor([r.random() for r in random], dtype=heaped.dtype, device=heaped.device)
    found = torch.searchsorted(heaped, draws[:, None] * heaped[:, -1:], right=True)
    return found[:, 0].clamp(max=scores.shape[-1] - 1).tolist()


class Draw(LogitsProcessor):
    """For `generate`: leaves each row the one token that `next_tokens` draws.

    Args:
        random: each row's own random numbers.
    """

    def __init__(self, random: Sequence[np.random.Generator]) -> None:
        self.random = random

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chosen = torch.tensor(next_tokens(scores, self.random), device=scores.device)
        return torch.full_like(scores, float("-inf")).scatter_(1, chosen[:, None], 0.0)
