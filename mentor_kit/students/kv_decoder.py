"""Decoding of many multi-turn rollouts with one key-value cache; rows come and go.

`generate` reads the whole conversation again at every turn and waits for the slowest row. Here a
row reads only what is new: its last token, or tool results. The cache of one layer, by row and
position:

            0 ...... shared ................................ kv_length ... capacity
    row 0   | tool block | question | turn | results | turn |
    row 1   | tool block | question | turn |             lengths[row]: how many positions
    row 2   | tool block | question | turn | results |   of its row a rollout has read
    spare   | tool block |

- The tokens with which all prompts begin (the tool block) are read once, for all rows.
- `prefill` reads what is longer than one token, a new prompt or tool results. A prompt that several
  new rows have in common is read once and copied.
- `decode_step` reads the one pending token of every row. Spare rows read along where there are too
  few.

What a row writes does not depend on who else is under way: on a CPU every pass reads at least
`MIN_TOKENS` tokens and looks back on a multiple of `BLOCK` positions, sizes from which on matrix
products give a row the same bits whatever stands beside it (measured on x86; elsewhere sums may
differ in the last bit, and texts in float ties).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, Cache, PreTrainedModel

from mentor_kit.students.adapters import has_adapters

GROUPED = "mentor_kit_grouped"
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")  # attention is scaled products, one softmax
BLOCK = 128  # positions
MIN_TOKENS = 16  # of a pass on a CPU
MAX_TOKENS = 2048  # of a pass over prompts or tool results: more gain nothing and need memory


def plain_model(model: Any) -> Any:
    """The model itself, inside its LoRA adapters where it has some; they stay active."""
    return model.get_base_model() if has_adapters(model) else model


def can_keep_cache(model: Any) -> bool:
    """Whether the model is a plain full-attention transformer of transformers itself, perhaps with
    LoRA adapters.

    Others use `generate`: patched models (Unsloth's) bring their own forward, and a sliding window
    is not kept here.
    """
    inner, forward = plain_model(model), type(plain_model(model)).forward
    if has_adapters(model) and any(c.peft_type != "LORA" for c in model.peft_config.values()):
        return False
    if hasattr(model, "for_inference") or hasattr(inner, "for_inference"):  # Unsloth's
        return False
    if not isinstance(inner, PreTrainedModel) or not forward.__module__.startswith("transformers."):
        return False
    layers = getattr(inner.config, "layer_types", None)
    full = not getattr(inner.config, "sliding_window", None) if layers is None \
        else set(layers) == {"full_attention"}
    return (full and inner.config.model_type in ARCHITECTURES
            and "logits_to_keep" in signature(forward).parameters)


def grouped_attention(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                      attention_mask: torch.Tensor, scaling: float | None = None, **_: Any
                      ) -> tuple[torch.Tensor, None]:
    """Attention in which the query heads of a group are further queries of its one key head: no key
    is copied.

    Args:
        query: (rows, heads, width, size); key, value: (rows, key heads, positions, size).
        attention_mask: added to the scores, (rows or 1, 1, width, positions).
    """
    rows, heads, width, size = query.shape
    groups = heads // key.shape[1]
    mask = attention_mask if width == 1 else attention_mask.repeat(1, 1, groups, 1)
    stacked = query.reshape(rows, key.shape[1], groups * width, size)
    read = scaled_dot_product_attention(stacked, key, value, attn_mask=mask.to(query.dtype),
                                        scale=scaling)
    return read.reshape(rows, heads, width, size).transpose(1, 2), None


AttentionInterface.register(GROUPED, grouped_attention)


@contextmanager
def attending(config: Any, implementation: str = GROUPED) -> Iterator[None]:
    """Within, the model attends by `grouped_attention` or another way; its masks are ours."""
    usual, config._attn_implementation = config._attn_implementation, implementation
    try:
        yield
    finally:
        config._attn_implementation = usual


def added_mask(visible: torch.Tensor) -> torch.Tensor:
    """What is added to attention's scores, (rows, 1, width, positions): 0 where `visible`, minus
    infinity elsewhere."""
    mask = torch.zeros(visible.shape, device=visible.device)
    return mask.masked_fill_(~visible, float("-inf"))[:, None]


class RowCache(Cache):
    """Keys and values of every layer, (rows, key heads, positions, size); grows with its rows."""

    def __init__(self, rows: int) -> None:
        super().__init__(layers=[])
        self.tensors: list[list[torch.Tensor]] = []  # by layer: keys, values
        self.row_count = rows

    def select(self, rows: slice | torch.Tensor, positions: torch.Tensor, kv_length: int) -> None:
        """Say what the next pass reads: which rows, where its tokens go, (rows, width), and how far
        it looks back."""
        self.rows, self.positions, self.kv_length = rows, positions, kv_length
        whole = torch.arange(self.row_count, device=positions.device)
        self.numbers = whole[rows] if isinstance(rows, slice) else rows

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int,
               *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Store a pass's keys and values, (rows, key heads, width, size). Returns all those that
        its rows may look at."""
        if layer_idx == len(self.tensors):
            self.tensors.append([new[:0, :, :0] for new in (key_states, value_states)])
        return self._store(layer_idx, 0, key_states), self._store(layer_idx, 1, value_states)

    def _store(self, layer: int, part: int, new: torch.Tensor) -> torch.Tensor:
        held = self.tensors[layer][part]
        if held.shape[2] < self.kv_length:  # zeros (never nan) where nothing is yet
            capacity = round_up(max(self.kv_length, held.shape[2] * 5 // 4), BLOCK)
            larger = new.new_zeros(self.row_count, new.shape[1], capacity, new.shape[3])
            larger[:len(held), :, :held.shape[2]] = held
            held = self.tensors[layer][part] = larger
        held[self.numbers[:, None], :, self.positions] = new.transpose(1, 2)
        return held[self.rows, :, :self.kv_length]

    def copy(self, source: int, target: int | slice | list[int], positions: int) -> None:
        """Copy the first positions of one row to others."""
        for held in (tensor for pair in self.tensors for tensor in pair):
            held[target, :, :positions] = held[source, :, :positions]


def round_up(number: int, step: int) -> int:
    return -(-number // step) * step


class KVDecoder:
    """Rows under way, numbered from 0 without gaps. Each has tokens that the model has read, and
    pending ones.

    Args:
        model: see `can_keep_cache`.
        slots: the most rows at a time.
        shared: token ids with which all prompts begin.
    """

    def __init__(self, model: Any, slots: int, shared: Sequence[int] = ()) -> None:
        self.model, self.slots, self.shared = plain_model(model), slots, len(shared)
        self.min_tokens = MIN_TOKENS if self.model.device.type == "cpu" else 1
        self.cache = RowCache(max(slots, self.min_tokens))
        self.lengths: list[int] = []
        self.pending: list[list[int]] = []
        if shared:
            self.lengths, self.pending = [0], [list(shared)]
            self._read([0])
            self.cache.copy(0, slice(1, None), self.shared)
            self.lengths, self.pending = [], []

    def add_row(self, prompt: Sequence[int]) -> None:
        """A new row, the last one; its prompt begins with the shared tokens and goes on."""
        self.lengths.append(self.shared)
        self.pending.append(list(prompt[self.shared:]))

    def free_row(self, row: int) -> None:
        """End a row. The last one takes its number."""
        last = len(self.lengths) - 1
        if row < last:
            self.cache.copy(last, row, self.lengths[last])
            self.lengths[row], self.pending[row] = self.lengths[last], self.pending[last]
        self.lengths.pop()
        self.pending.pop()

    def prefill(self) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Read all that is longer than a token, rows of like length together.

        Yields rows and the scores of their next tokens, (rows, vocabulary). Between two of these
        passes only rows that were read may be given more to read.
        """
        twins: dict[Any, list[int]] = {}  # new rows with the same prompt
        for row, ids in enumerate(self.pending):
            if len(ids) > 1:
                new = self.lengths[row] == self.shared
                twins.setdefault(tuple(ids) if new else row, []).append(row)
        waiting = sorted(twins.values(), key=lambda rows: len(self.pending[rows[0]]))
        while waiting:
            count = self._alike([len(self.pending[rows[0]]) for rows in waiting])
            together, waiting = waiting[:count], waiting[count:]
            scores = self._read([rows[0] for rows in together])
            for first, *others in together:
                self.cache.copy(first, others, self.lengths[first])
                for row in others:
                    self.lengths[row], self.pending[row] = self.lengths[first], []
            counts = torch.tensor([len(rows) for rows in together], device=scores.device)
            scores = scores.repeat_interleave(counts, dim=0)
            yield [row for rows in together for row in rows], scores

    def decode_step(self) -> torch.Tensor:
        """Read every row's one pending token; the scores of the next ones, (rows, vocabulary)."""
        count = len(self.pending)
        spare = max(self.min_tokens - count, 0)
        tokens = [ids[0] for ids in self.pending] + [0] * spare
        positions = self._tensor(self.lengths + [self.shared] * spare)[:, None]
        self.lengths = [n + 1 for n in self.lengths]
        self.pending = [[] for _ in self.pending]
        kv_length = round_up(max(self.lengths) + 1, BLOCK)
        rows = slice(0, count + spare)
        return self._forward(rows, self._tensor(tokens)[:, None], positions, kv_length)[:count]

    def _alike(self, widths: Sequence[int]) -> int:
        """How many of these widths, smallest first, are read in one pass: those up to twice the
        first."""
        widest = max(2 * widths[0], MIN_TOKENS)
        fit = [n for n, w in enumerate(widths, 1) if w <= widest and n * w <= MAX_TOKENS]
        return max(fit, default=1)

    def _read(self, rows: list[int]) -> torch.Tensor:
        """Read what these rows have pending, padded on the left; scores of their next tokens,
        (rows, vocabulary)."""
        pending, starts = [self.pending[r] for r in rows], [self.lengths[r] for r in rows]
        for row, ids in zip(rows, pending, strict=True):
            self.lengths[row] += len(ids)
            self.pending[row] = []
        ends = [self.lengths[r] for r in rows]
        width = max(*map(len, pending), -(-self.min_tokens // len(rows)))
        kv_length = round_up(max(ends) + 1, BLOCK)
        positions = self._tensor(ends)[:, None] + torch.arange(-width, 0, device=self.model.device)
        # padding goes to the last position, where nobody looks yet
        positions = positions.where(positions >= self._tensor(starts)[:, None], kv_length - 1)
        ids = self._tensor([[0] * (width - len(p)) + p for p in pending])
        return self._forward(self._tensor(rows), ids, positions, kv_length)

    @torch.no_grad()
    def _forward(self, rows: slice | torch.Tensor, ids: torch.Tensor, positions: torch.Tensor,
                 kv_length: int) -> torch.Tensor:
        """One pass over tokens (rows, width); each looks at its own position and before it."""
        visible = torch.arange(kv_length, device=ids.device) <= positions[..., None]
        self.cache.select(rows, positions, kv_length)
        scored = min(ids.shape[1], -(-self.min_tokens // len(ids)))  # a matrix product too
        with attending(self.model.config):
            output = self.model(
                input_ids=ids, attention_mask=added_mask(visible), position_ids=positions,
                past_key_values=self.cache, use_cache=True, logits_to_keep=scored)
        return output.logits[:, -1].float()

    def _tensor(self, numbers: Sequence[Any]) -> torch.Tensor:
        return torch.tensor(numbers, device=self.model.device)
