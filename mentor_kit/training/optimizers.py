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


class StackedMuon(torch.optim.Muon):
    """Muon that orthogonalizes all matrices of one shape at once: the same bits on a CPU, and a
    third of the time where matrices are small and many. The same state and settings."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            alike: dict[torch.Size, list[torch.Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in alike.items():
                rate = group["lr"] * max(1, shape[0] / shape[1]) ** 0.5
                updates = orthogonalized(self._momenta(parameters, group), group)
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, updates.float().unbind(), alpha=-rate)

    def _momenta(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> torch.Tensor:
        """Nesterov's momentum of each, (matrices, rows, columns)."""
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters]
        kept = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_lerp_(kept, gradients, 1 - group["momentum"])
        return torch.stack(torch._foreach_lerp(gradients, kept, group["momentum"]))


def orthogonalized(matrices: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
    """Newton and Schulz's iteration of `torch.optim.Muon` on a stack of matrices, in bfloat16."""
    a, b, c = group["ns_coefficients"]
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices.bfloat16() if wide else matrices.bfloat16().mT
    x = x / x.flatten(1).norm(dim=1).clamp(min=group["eps"])[:, None, None]
    for _ in range(group["ns_steps"]):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


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
        self.parts = [StackedMuon(matrices, lr=muon_lr, weight_decay=0.0, momentum=0.95)]
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
