"""What one training run is asked to do: a frozen dataclass whose fields carry their own help."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from mentor_kit.errors import UserError

OPTIMIZERS = ("adamw", "muon")


def _positive(config: Any, *names: str) -> None:
    for name in names:
        if getattr(config, name) <= 0:
            raise UserError(f"{name}={getattr(config, name)!r} must be above 0.")


@dataclass(frozen=True)
class SFTSettings:
    """Supervised fine-tuning on trajectories: next-token loss on assistant tokens only."""

    steps: int = 40  # optimizer steps (an upper bound when target_accuracy is set)
    batch_size: int = 64  # trajectories per optimizer step
    learning_rate: float = 3.0e-3  # of AdamW; with optimizer="muon" that of embeddings and norms
    optimizer: str = "adamw"  # adamw | muon (Muon on matrices, AdamW on the rest)
    muon_learning_rate: float = 2.0e-2  # of the matrices, when optimizer="muon"
    target_accuracy: float = 0.0  # when greedy validation accuracy reaches this, cool down and stop; 0 = never
    cooldown: int = 0  # steps of linear decay to zero once the target is reached
    validate_every: int = 10  # optimizer steps between validations; 0 = only at the end
    save_every: int = 0  # optimizer steps between checkpoints; 0 = no checkpoint
    report_to: str = "none"  # none | tensorboard | wandb
    seed: int = 0

    def __post_init__(self) -> None:
        _positive(self, "steps", "batch_size", "learning_rate", "muon_learning_rate")
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"optimizer={self.optimizer!r} is unknown: use one of {', '.join(OPTIMIZERS)}.")
        if self.target_accuracy and not self.validate_every:
            raise UserError("target_accuracy needs validate_every above 0: the target is checked at validations.")


@dataclass(frozen=True)
class GRPOSettings:
    """GRPO by TRL with its native tools. Defaults follow the released scripts where PAPER.md gives a value;
    learning rate, temperature and batch are the study's (1e-6 is far too small for a from-scratch student)."""

    steps: int = 40  # optimizer steps
    prompts_per_step: int = 16  # prompts per rollout batch
    group_size: int = 8  # rollouts per prompt (released: 10, or 5)
    updates_per_batch: int = 1  # optimizer steps per rollout batch (released: 4, or 2)
    micro_batch: int = 32  # rollouts per forward/backward pass
    learning_rate: float = 2.0e-4
    temperature: float = 1.0  # released: 0.6
    top_k: int = 0  # released: 20; 0 = off
    top_p: float = 1.0  # released: 0.99
    max_turns: int = 5  # assistant turns
    max_new_tokens: int = 256  # tokens of a completion: all turns and tool results
    kl_beta: float = 0.0  # released: 0.001 (k3 in the loss)
    entropy_coef: float = 0.0  # released: 0.001
    epsilon: float = 0.2  # clip range, both sides
    delta: float = 3.0  # upper bound of the ratio (dual clip)
    loss_type: str = "dapo"  # token mean over the batch
    scale_rewards: str = "group"  # group | batch | none (none = Dr. GRPO)
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    validate_every: int = 10
    save_every: int = 10
    report_to: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        _positive(self, "steps", "prompts_per_step", "micro_batch", "updates_per_batch", "learning_rate", "max_turns",
                  "max_new_tokens")
        if self.group_size < 2:
            raise UserError(f"group_size={self.group_size}: GRPO compares rollouts of one prompt, so it needs at least 2.")
        if self.rollouts % (self.micro_batch * self.updates_per_batch):
            raise UserError(f"prompts_per_step x group_size = {self.rollouts} rollouts do not divide into "
                            f"{self.updates_per_batch} update(s) of micro-batches of {self.micro_batch}: choose "
                            "micro_batch so that they do.")
        if self.steps % self.updates_per_batch or self.save_every % self.updates_per_batch:
            raise UserError(f"steps={self.steps} and save_every={self.save_every} must be multiples of updates_per_batch="
                            f"{self.updates_per_batch}: a checkpoint inside a rollout batch does not resume exactly.")

    @property
    def rollouts(self) -> int:
        return self.prompts_per_step * self.group_size


def settings_from(cls: type, params: dict[str, Any]) -> Any:
    """Build settings from a flat dictionary of parameters, ignoring names the class does not know."""
    known = {f.name for f in fields(cls)}
    return cls(**{k: v for k, v in params.items() if k in known})
