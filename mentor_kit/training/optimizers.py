"""Muon on weight matrices and AdamW on the rest, as one optimizer that the Hugging Face trainer can
drive.

A from-scratch student learns its cold start about twice as fast as with AdamW alone;
`torch.optim.Muon` takes matrices only, hence the pair. `WSDSchedule` is for a run that ends at a
target, not at a fixed step.
"""

from __future__ import annotations

from typing import Any

import torch


class WSDSchedule:
    """Warm-up, stable, decay: the factor of the learning rate rises to 1 over `warmup` steps, stays
    there until `begin_decay`, and falls linearly to 0 over `decay` steps.

    A callable object, not a function, so that the scheduler's checkpoint holds its state.
    """

    def __init__(self, warmup: int, decay: int) -> None:
        self.warmup, self.decay = warmup, decay
        self.decays_from: int | None = None

    def begin_decay(self, step: int) -> None:
        """Decay from this step on, which may lie ahead; only the first call counts."""
        if self.decays_from is None:
            self.decays_from = step

    def is_over(self, step: int) -> bool:
        return self.decays_from is not None and step >= self.decays_from + self.decay

    def __call__(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        if self.decays_from is None or not self.decay:
            return warm
        return warm * min(1.0, max(0.0, 1 - (step - self.decays_from) / self.decay))


class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimizers behind one interface; their parameter groups are shared, so schedulers work.

    Args:
        model: every 2-D parameter outside the embeddings goes to Muon.
        muon_lr: learning rate of the matrices.
        adamw_lr: learning rate of embeddings, norms and biases.
    """

    def __init__(self, model: torch.nn.Module, muon_lr: float, adamw_lr: float) -> None:
        matrices, rest = [], []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            (matrices if parameter.ndim == 2 and "embed" not in name else rest).append(parameter)
        self.parts = [torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.0, momentum=0.95)]
        if rest:  # adapters are matrices only
            self.parts.append(torch.optim.AdamW(rest, lr=adamw_lr, weight_decay=0.0,
                                                betas=(0.9, 0.95)))
        super().__init__([g for part in self.parts for g in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for part in self.parts:
            part.step(closure)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [g for part in self.parts for g in part.param_groups]
