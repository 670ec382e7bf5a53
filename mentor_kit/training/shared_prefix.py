"""Forward and backward passes in which a prefix is read once for all rows that begin with it.

GRPO's rollouts of one prompt begin with that prompt; SFT's trajectories all begin with the tool
block:

    prefix   [ tool block | question  ]  read once; its graph is kept
      row    ..........................[ header | turn | results | turn ]   reads only its own
      row    ..........................[ header | turn ]
    prefix   [ tool block | another   ]
      row    ..........................[ header | turn | results | turn ]

The keys and values of the prefixes are cut from their graph, so each micro-batch of rows goes
forward and backward by itself and adds to the gradients of keys and values; one backward pass
through the prefixes ends it (`Prefixes.backward`). Gradients are those of reading every row whole.
Rows are sorted by length, so a micro-batch holds little padding, and the vocabulary's scores are
made for the tokens of the loss only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint
from transformers import Cache

from mentor_kit.students.kv_decoder import (
    GROUPED,
    added_mask,
    attending,
    can_keep_cache,
    plain_model,
)
from mentor_kit.training import processes

MAX_SCORES = 2**27  # scores held at a time (512 MB); more tokens are scored in pieces, and twice
GROUPED_ON = ("cpu",)  # devices
ROWS_ON_A_CPU = 8  # of a pass: what more rows write and read no longer fits into the CPU's caches


def can_share(model: Any) -> bool:
    """Whether prefixes can be shared: the engine knows the architecture, activations are kept,
    weights are whole."""
    recomputes = getattr(plain_model(model), "is_gradient_checkpointing", False)
    return can_keep_cache(model) and not recomputes and not processes.sharded()


class Rows(NamedTuple):
    """Rows to be read, of which each begins with one of a few prefixes.

    Args:
        prefixes: token ids of each.
        prefix_of: each row's prefix, (rows).
        suffixes: each row's own token ids, at least one; the first is read and not scored.
        scored: which of a row's own tokens after the first have a part in the loss,
            (rows, longest suffix - 1).
    """

    prefixes: list[list[int]]
    prefix_of: torch.Tensor
    suffixes: list[list[int]]
    scored: torch.Tensor


class Hidden(NamedTuple):
    """The model's last states where it predicts the scored tokens of a micro-batch.

    Args:
        row, place: where each token stands: `scored[row, place]`.
        states: (tokens, size); targets: the ids of the tokens.
    """

    row: torch.Tensor
    place: torch.Tensor
    states: torch.Tensor
    targets: torch.Tensor


class Tokens(NamedTuple):
    """The scored tokens of a micro-batch, one after another.

    Args:
        row, place: where each stands: `scored[row, place]`.
        logprobs, entropies: of each, in nats; entropies carry no gradient unless asked for.
        hits: whether it was the likeliest.
    """

    row: torch.Tensor
    place: torch.Tensor
    logprobs: torch.Tensor
    entropies: torch.Tensor
    hits: torch.Tensor


class Prefixes(Cache):
    """Keys and values of prefixes, read once; a cache that rows of these prefixes continue."""

    def __init__(self, model: Any, prefixes: Sequence[Sequence[int]]) -> None:
        super().__init__(layers=[])
        self.lengths = torch.tensor([len(p) for p in prefixes], device=model.device)
        self.made: list[torch.Tensor] = []  # by layer keys, values: in the prefixes' graph
        self.leaves: list[torch.Tensor] = []  # the same, cut from it; gradients add up in them
        width = max(map(len, prefixes))
        if width:
            positions = torch.arange(width, device=model.device)
            visible = positions[:, None] >= positions
            _read(model, padded(prefixes, model.device), positions[None], visible[None], self)
            self.leaves = [_precise(t.detach()).requires_grad_(t.requires_grad) for t in self.made]

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int,
               *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """While prefixes are read: keep this layer. After: what the rows look at, their prefix and
        themselves."""
        if not self.leaves:
            self.made += [key_states, value_states]
            return key_states, value_states
        before = [leaf[self.prefix_of].to(key_states.dtype)
                  for leaf in self.leaves[2 * layer_idx:2 * layer_idx + 2]]
        return (torch.cat([before[0], key_states], dim=2),
                torch.cat([before[1], value_states], dim=2))

    def read_rows(self, model: Any, ids: torch.Tensor, prefix_of: torch.Tensor) -> torch.Tensor:
        """Hidden states of rows padded on the right, (rows, width, size)."""
        self.prefix_of = prefix_of
        width, device = ids.shape[1], ids.device
        longest = self.leaves[0].shape[2] if self.leaves else 0
        starts = self.lengths[prefix_of][:, None]
        before = (torch.arange(longest, device=device) < starts)[:, None].expand(-1, width, -1)
        own = torch.ones(len(ids), width, width, dtype=torch.bool, device=device).tril()
        positions = starts + torch.arange(width, device=device)
        return _read(model, ids, positions, torch.cat([before, own], dim=2), self)

    def backward(self) -> None:
        """Carry the gradients that rows left at keys and values through the prefixes."""
        pairs = [(made, leaf.grad.to(made.dtype)) for made, leaf
                 in zip(self.made, self.leaves, strict=True) if leaf.grad is not None]
        if pairs:
            torch.autograd.backward(*zip(*pairs, strict=True))


def padded(rows: Sequence[Sequence[int]], device: Any) -> torch.Tensor:
    """Token ids padded on the right, (rows, width)."""
    width = max(map(len, rows))
    return torch.tensor([[*row] + [0] * (width - len(row)) for row in rows], device=device)


def _precise(tensor: torch.Tensor) -> torch.Tensor:
    """In float32 at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _read(model: Any, ids: torch.Tensor, positions: torch.Tensor, visible: torch.Tensor,
          cache: Cache) -> torch.Tensor:
    """Hidden states. On a CPU keys of a group of heads are not copied; a GPU has kernels that spare
    the memory of a mask in float32 for every head."""
    way, mask = (GROUPED, added_mask(visible)) if ids.device.type in GROUPED_ON else \
        ("sdpa", visible[:, None])
    with attending(model.config, way):
        return model.base_model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
            use_cache=True).last_hidden_state


def micro_batches(model: Any, rows: Rows, micro_batch: int, *, temperature: float = 1.0,
                  entropy_gradient: bool = False,
                  autocast: Callable[[], Any] = nullcontext) -> Iterator[Tokens]:
    """The scored tokens of all rows: `hidden_states`, with the scores of the tokens.

    Args:
        temperature: scores are divided by it.
    """
    for part in hidden_states(model, rows, micro_batch, autocast=autocast):
        with autocast():
            scores = token_scores(plain_model(model), part.states, part.targets, temperature,
                                  entropy_gradient)
        yield Tokens(part.row, part.place, *scores)


def hidden_states(model: Any, rows: Rows, micro_batch: int, *,
                  autocast: Callable[[], Any] = nullcontext) -> Iterator[Hidden]:
    """What a model says of the scored tokens of all rows, micro-batch by micro-batch, in an order
    that depends on the rows alone. Rows of which nothing is scored are not read.

    Call `backward` on a loss of each as it comes; the gradients of the prefixes are there when the
    iterator ends.

    Args:
        model: see `can_share`.
        micro_batch: the most rows, and the most prefixes, of a pass. On a CPU fewer rows are read
            at a time, which is faster.
        autocast: the precision of the forward passes.
    """
    model, device = plain_model(model), model.device
    scored, prefix_of = rows.scored.to(device), rows.prefix_of.to(device)
    lengths = torch.tensor([len(s) for s in rows.suffixes], device=device)
    most = min(micro_batch, ROWS_ON_A_CPU) if device.type == "cpu" else micro_batch
    for first in range(0, len(rows.prefixes), micro_batch):
        with autocast():
            prefixes = Prefixes(model, rows.prefixes[first:first + micro_batch])
        here = prefix_of // micro_batch == first // micro_batch
        (own,) = torch.where(here & scored.any(1))
        for part in own[lengths[own].argsort(stable=True)].split(most):
            if not len(part):
                continue
            row, place = torch.where(scored[part])
            ids = padded([rows.suffixes[i] for i in part.tolist()], device)
            with autocast():
                hidden = prefixes.read_rows(model, ids[:, :-1], prefix_of[part] - first)
            yield Hidden(part[row], place, hidden[row, place], ids[row, place + 1])
        prefixes.backward()


def token_scores(model: Any, hidden: torch.Tensor, targets: torch.Tensor, temperature: float,
                 entropy_gradient: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities of `targets`, entropies of the predictions, and whether the target was the
    likeliest, (tokens).

    Many tokens times a large vocabulary are scored in pieces, and once more in the backward pass.
    """
    head = model.get_output_embeddings()

    def score(hidden: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logprobs = (_precise(head(hidden)) / temperature).log_softmax(-1)
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            entropies = -(logprobs.exp() * logprobs).sum(-1)
        chosen = logprobs.gather(1, targets[:, None])[:, 0]
        return chosen, entropies, chosen.detach() == logprobs.detach().amax(-1)

    size = max(1, MAX_SCORES // model.config.vocab_size)
    if len(targets) <= size:
        return score(hidden, targets)
    pieces = [checkpoint(score, h, t, use_reentrant=False)
              for h, t in zip(hidden.split(size), targets.split(size), strict=True)]
    return tuple(torch.cat(column) for column in zip(*pieces, strict=True))


def average_gradients(model: Any) -> None:
    """The mean over all processes, where there are several: these passes go past the wrapper that
    would do it."""
    if processes.count() > 1:
        for parameter in (p for p in model.parameters() if p.requires_grad):
            if parameter.grad is None:  # no token of this process's rows counted
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= processes.count()
