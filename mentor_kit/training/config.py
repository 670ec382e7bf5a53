"""What one training run is asked to do: a frozen dataclass whose fields carry their own help."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from mentor_kit.errors import UserError

if TYPE_CHECKING:
    from mentor_kit.configs import TrainConfig

OPTIMIZERS = ("adamw", "muon")


def _positive(config: Any, *names: str) -> None:
    for name in names:
        if getattr(config, name) <= 0:
            raise UserError(f"{name}={getattr(config, name)!r} must be above 0.")


def _check_keep(config: Any) -> None:
    if config.keep == "best" and not config.validate_every:
        raise UserError("keep='best' needs validate_every above 0: the best is the best at a validation.")


@dataclass(frozen=True)
class SFTSettings:
    """Supervised fine-tuning on trajectories: next-token loss on assistant tokens only."""

    steps: int = 40  # optimizer steps (an upper bound when target_accuracy is set)
    batch_size: int = 64  # trajectories per optimizer step
    micro_batch: int = 0  # trajectories per forward/backward pass of one process; 0 = all of its share
    learning_rate: float = 3.0e-3  # of AdamW; with optimizer="muon" that of embeddings and norms
    optimizer: str = "adamw"  # adamw | muon (Muon on matrices, AdamW on the rest)
    muon_learning_rate: float = 2.0e-2  # of the matrices, when optimizer="muon"
    target_accuracy: float = 0.0  # when greedy validation accuracy reaches this, cool down and stop; 0 = never
    cooldown: int = 0  # steps of linear decay to zero once the target is reached
    validate_every: int = 10  # optimizer steps between validations; 0 = only at the end
    save_every: int = 0  # optimizer steps between checkpoints; 0 = no checkpoint
    keep: str = "last"  # last | best: which student is saved, by greedy validation accuracy
    num_processes: int = 1  # batch_size is split over them
    report_to: str = "none"  # none | tensorboard | wandb
    seed: int = 0

    def __post_init__(self) -> None:
        _positive(self, "steps", "batch_size", "learning_rate", "muon_learning_rate", "num_processes")
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"optimizer={self.optimizer!r} is unknown: use one of {', '.join(OPTIMIZERS)}.")
        if self.target_accuracy and not self.validate_every:
            raise UserError("target_accuracy needs validate_every above 0: the target is checked at validations.")
        _check_keep(self)
        if self.batch_size % (self.num_processes * (self.micro_batch or 1)):
            raise UserError(f"batch_size={self.batch_size} does not divide into num_processes={self.num_processes} "
                            f"equal parts of micro-batches of {self.micro_batch or 1}: choose a multiple.")

    @property
    def per_pass(self) -> int:
        """Trajectories per forward/backward pass of one process."""
        return self.micro_batch or self.batch_size // self.num_processes


@dataclass(frozen=True)
class GRPOSettings:
    """GRPO by TRL with its native tools. Defaults follow the released scripts where PAPER.md gives a value;
    learning rate, temperature and batch are the study's (1e-6 is far too small for a from-scratch student)."""

    steps: int = 40  # optimizer steps
    prompts_per_step: int = 16  # prompts per rollout batch
    group_size: int = 8  # rollouts per prompt (released: 10, or 5)
    updates_per_batch: int = 1  # optimizer steps per pass over a rollout batch (released: 4, or 2)
    num_iterations: int = 1  # passes over a rollout batch
    micro_batch: int = 32  # rollouts per forward/backward pass of one process
    num_processes: int = 1  # the rollout batch is split over them
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
    advantage: str = "grpo"  # grpo | gdpo (each term normalised in its group, weighted, summed: arXiv 2601.05242)
    keep: str = "last"  # last | best: which student is saved, by greedy validation accuracy
    collapse_patience: int = 20  # steps without an executed call, or any difference in reward, that stop; 0 = never
    vllm_server: str = ""  # address of a vLLM server (`trl vllm-serve`) that samples rollouts; "" = the trainer does
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    warmup_steps: int = 0  # of rising learning rate (released scripts: not stated)
    validate_every: int = 10
    save_every: int = 10
    report_to: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        _positive(self, "steps", "prompts_per_step", "micro_batch", "updates_per_batch", "num_iterations",
                  "num_processes", "learning_rate", "max_turns", "max_new_tokens")
        if self.group_size < 2:
            raise UserError(f"group_size={self.group_size}: GRPO compares rollouts of one prompt, so it needs at least "
                            "2.")
        if self.rollouts % (self.micro_batch * self.updates_per_batch * self.num_processes):
            raise UserError(f"prompts_per_step x group_size = {self.rollouts} rollouts do not divide into "
                            f"{self.updates_per_batch} update(s) of micro-batches of {self.micro_batch} in each of "
                            f"{self.num_processes} process(es): choose micro_batch so that they do.")
        if self.steps % self.steps_per_batch or self.save_every % self.steps_per_batch:
            raise UserError(f"steps={self.steps} and save_every={self.save_every} must be multiples of "
                            f"updates_per_batch x num_iterations = {self.steps_per_batch}: a checkpoint inside a "
                            "rollout batch does not resume exactly.")
        if self.advantage == "gdpo" and self.scale_rewards != "group":
            raise UserError("advantage='gdpo' normalises each term in its group, so "
                            f"scale_rewards={self.scale_rewards!r} would be ignored: leave it at 'group'.")
        _check_keep(self)

    @property
    def steps_per_batch(self) -> int:
        """Optimizer steps between two rollout batches: the only places where a checkpoint resumes exactly."""
        return self.updates_per_batch * self.num_iterations

    @property
    def rollouts(self) -> int:
        return self.prompts_per_step * self.group_size


@dataclass(frozen=True)
class Loading:
    """How a student is loaded for training, by either backend. Names are those of notebook 03's parameters.

    The paper trains all parameters. LoRA is our choice for one GPU, no claim of the paper; its defaults are the
    vendor's recipe for Qwen3-4B: rank 32, alpha twice that, all seven projections.
    """

    finetuning: str = "full"  # full | lora (on 16-bit weights)
    lora_rank: int = 32
    lora_alpha: int = 0  # 0 = twice the rank
    load_in_4bit: bool = False  # QLoRA: the frozen weights as NF4
    gradient_checkpointing: bool = False  # recompute activations: less memory, about a third more time
    max_seq_length: int = 4096  # tokens of prompt and completion (Unsloth would cut what is longer; we refuse it)
    fast_inference: bool = False  # rollouts by vLLM inside the training process; Unsloth only
    grpo_packing: bool = False  # Unsloth's packing and shared prefixes; its gradients differed from TRL's in emulation
    seed: int = 0  # of the adapters' initial weights

    def __post_init__(self) -> None:
        _positive(self, "lora_rank", "max_seq_length")
        if self.finetuning not in ("full", "lora"):
            raise UserError(f"finetuning={self.finetuning!r} is unknown: use full or lora.")
        if self.load_in_4bit and self.finetuning == "full":
            raise UserError("load_in_4bit=True trains adapters on frozen 4-bit weights: set finetuning=lora, or "
                            "load_in_4bit=False.")

    @property
    def alpha(self) -> int:
        return self.lora_alpha or 2 * self.lora_rank


def loading_of(config: TrainConfig, *, embedded: bool) -> Loading:
    """How notebook 03's student is loaded.

    Args:
        embedded: it is the kit's own from-scratch student or continues it; `finetuning="auto"` then trains all of it,
            and adapters on any other.

    Raises:
        UserError: values that do not fit together.
    """
    asked = config.model_dump()
    options = {f.name: asked[f.name] for f in fields(Loading) if f.name in asked}
    if options["finetuning"] == "auto":
        options["finetuning"] = "full" if embedded else "lora"
    return Loading(**options)


def _check_launch(config: TrainConfig) -> None:
    """Refuse what the launcher would ignore, or what sharded weights cannot do."""
    if config.accelerate_config and config.num_processes == 1:
        raise UserError(f"accelerate_config={config.accelerate_config!r} would be ignored by num_processes=1: set "
                        "num_processes to the number of GPUs, or leave it empty.")
    sharded = config.accelerate_config not in ("", "ddp")
    if sharded and (config.keep == "best" or config.student_backend == "unsloth" or config.finetuning != "full"):
        raise UserError(f"accelerate_config={config.accelerate_config!r} shards the weights: set keep='last', "
                        "student_backend='transformers' and finetuning='full', or accelerate_config='ddp'.")
    if sharded and config.kind != "grpo":
        raise UserError(f"accelerate_config={config.accelerate_config!r} would not step the optimizer and schedule of "
                        f"method={config.method!r} (the trainer refuses them under FSDP and replaces them under "
                        "DeepSpeed): set accelerate_config='ddp'.")


def settings_of(config: TrainConfig) -> SFTSettings | GRPOSettings:
    """The settings of what notebook 03 is asked to do.

    Raises:
        UserError: values that do not fit together.
    """
    _check_launch(config)
    if config.kind == "grpo":
        asked = config.model_dump()
        return GRPOSettings(**{f.name: asked[f.name] for f in fields(GRPOSettings) if f.name in asked})
    shared = {"seed": config.seed, "validate_every": config.validate_every, "save_every": config.save_every,
              "report_to": config.report_to, "keep": config.keep, "num_processes": config.num_processes}
    if config.kind == "sft":
        return SFTSettings(steps=config.steps, batch_size=config.sft_batch, micro_batch=config.sft_micro_batch,
                           learning_rate=config.sft_learning_rate,
                           **shared)
    return SFTSettings(steps=config.cold_start_steps, batch_size=config.cold_start_batch, optimizer="muon",
                       learning_rate=config.cold_start_learning_rate,
                       muon_learning_rate=config.cold_start_muon_learning_rate,
                       target_accuracy=config.cold_start_accuracy, cooldown=config.cold_start_cooldown, **shared)
