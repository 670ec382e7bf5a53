"""What notebook 03 is asked to do: the only declaration of a training's parameters.

The notebook's `parameters` cell shows the same names, defaults and descriptions (a test compares
them).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from mentor_kit.students.loading import LoadConfig


class SFTPlan(NamedTuple):
    """What supervised fine-tuning does: the cold start's settings, or those of method `sft`."""

    steps: int  # optimizer steps; an upper bound where target_accuracy is above 0
    batch_size: int  # trajectories per optimizer step, of all processes together
    # trajectories per forward and backward pass of one process; 0 is all of its share
    micro_batch: int
    learning_rate: float  # of AdamW; with `muon` that of embeddings and norms
    muon: bool = False  # Muon on the matrices, AdamW on the rest
    muon_learning_rate: float = 0.0
    # greedy validation accuracy at which it cools down and stops; 0 is never
    target_accuracy: float = 0.0
    cooldown: int = 0  # optimizer steps of linear decay to zero once the target is reached


# methods with rollouts that are not a reward's name: theirs are scored by `mentor`
NAMED = ("opd", "rft", "dpo", "mixed", "turn_credit")


class TrainParameters(LoadConfig):
    """What notebook 03 can be asked to do.

    Defaults follow the released scripts where PAPER.md gives a value; learning rate, temperature
    and batch are the demo's (the released 1e-6 is far too small for a student from scratch).
    """

    teacher_run: str = Field("", description='a run of notebook 01; "" is the latest')
    start_run: str = Field(
        "",
        description='a run of this notebook to start from; "" is the latest cold start '
        '("none": from student_source); a cold start takes only its vocabulary',
    )
    method: str = Field(
        "mentor",
        description="cold_start | sft | opd | rft | dpo | mixed | turn_credit | a reward preset | "
                    "any name, with reward set",
    )
    reward: str = Field(
        "", description='"" is the method\'s preset | preset | path of a YAML | package.module:name'
    )
    distill_from: str = Field(
        "", description="of opd: the white-box teacher, of the student's vocabulary: a run's "
                        "folder | a student's folder | a hub id")
    divergence: float = Field(
        1.0, ge=0, le=1, description="of opd: 1 is the reverse KL | 0 the forward KL | between "
                                     "them the generalised JSD")
    turn_weight: float = Field(
        0.0, ge=0, description="of opd: how much less a turn counts on which student and teacher "
                               "differ more than on the first (SOD); 0 is none")
    kept: Literal["right", "right_tools"] = Field(
        "right", description="rollouts that rft trains on: right | right_tools (and with the "
                             "teacher's tools)")
    dpo_beta: float = Field(0.1, gt=0, description="of dpo: how near the student stays to its "
                                                   "start")
    teacher_traces: int = Field(0, ge=0, description="rollouts of each group that are the "
                                                     "teacher's trajectory (LUFFY; mixed: 1)")
    trace_shaping: float = Field(0.1, gt=0, description="of teacher_traces: p / (p + this) in "
                                                        "place of the ratio p")
    replayed_groups: float = Field(
        0.0, ge=0, le=1, description="share of the groups that go on from the teacher's first "
                                     "turns (ReOPD)")
    drop_flat_groups: Literal["no", "leave_out", "replace"] = Field(
        "no", description="groups without reward differences (DAPO): no | leave_out (of the token "
                          "mean) | replace (ask other problems)")
    student_source: str = Field("tiny", description="tiny (from scratch) | a folder | a hub id")
    student_backend: Literal["auto", "transformers", "unsloth"] = Field(
        "auto", description="auto | transformers | unsloth")
    student_hidden: int = Field(128, ge=8, le=8192, multiple_of=8,
                                description="width of the tiny student")
    student_layers: int = Field(3, ge=1, le=256, description="layers of the tiny student")
    vocab_size: int = Field(2048, ge=400, le=500_000,
                            description="upper bound of the tiny student's vocabulary")
    references: int = Field(0, ge=0, description="teacher trajectories to train on, the first "
                                                 "ones; 0 is all")
    student_template: Literal["own", "kit"] = Field(
        "own",
        description="chat template: the student's own | kit (ours, for one that renders no tools)")
    finetuning: Literal["auto", "full", "lora"] = Field(
        "auto",
        description="full | lora | auto (full for the tiny student, lora for a pretrained one)")
    validation_items: int = Field(64, ge=1, description="problems asked at each validation")
    validate_every: int = Field(10, ge=0, description="optimizer steps between validations; 0 is "
                                                      "only at the end")
    save_every: int = Field(10, ge=0, description="optimizer steps between checkpoints; 0 is none")
    report_to: str = Field("none", description="none | tensorboard | wandb | trackio")
    steps: int = Field(40, ge=1, le=1_000_000, description="optimizer steps of SFT and GRPO")
    cold_start_level: Literal["", "clean", "easy", "mid", "hard", "vhard"] = Field(
        "", description="of the registry's cold start, in three stages on its pretrain split: "
                        "easy | mid | hard | vhard | clean (a teacher of others); "
                        '"" for other problems')
    cold_start_steps: int = Field(
        400, ge=1, le=1_000_000,
        description="upper bound of the cold start; at a level its steps")
    cold_start_accuracy: float = Field(
        0.2, ge=0, le=1, description="greedy validation accuracy at which the cold start cools "
                                     "down and stops")
    cold_start_cooldown: int = Field(
        50, ge=0, description="optimizer steps of that, the learning rate falling to zero")
    cold_start_batch: int = Field(32, ge=1, description="trajectories per optimizer step")
    cold_start_learning_rate: float = Field(3e-3, gt=0, description="AdamW, on embeddings and "
                                                                    "norms")
    cold_start_muon_learning_rate: float = Field(2e-2, gt=0, description="Muon, on matrices")
    habit_probability: float = Field(0.6, ge=0, le=1, description="bad tool habit per step of a "
                                                                  "demonstration")
    sft_batch: int = Field(128, ge=1, description="trajectories per optimizer step of SFT")
    sft_micro_batch: int = Field(0, ge=0, description="trajectories per backward pass of SFT; 0 is "
                                                      "as many as suit")
    sft_learning_rate: float = Field(1e-3, gt=0, description="AdamW")
    prompts_per_step: int = Field(16, ge=1, description="prompts per rollout batch")
    group_size: int = Field(8, ge=2, description="rollouts per prompt (released: 10, or 5)")
    updates_per_batch: int = Field(
        1, ge=1, description="optimizer steps per pass over a rollout batch (released: 4, or 2)")
    num_iterations: int = Field(1, ge=1, description="passes over a rollout batch")
    micro_batch: int = Field(32, ge=1, description="rollouts per backward pass of a process")
    learning_rate: float = Field(2e-4, gt=0, description="of GRPO (released: 1e-6)")
    temperature: float = Field(1.0, gt=0, description="of rollouts (released: 0.6)")
    top_k: int = Field(0, ge=0, description="of rollouts; 0 is off (released: 20)")
    top_p: float = Field(1.0, gt=0, le=1, description="of rollouts (released: 0.99)")
    max_turns: int = Field(5, ge=1, description="assistant turns")
    max_new_tokens: int = Field(256, ge=1, description="tokens of a completion, tool results "
                                                       "included")
    kl_beta: float = Field(0.0, ge=0, description="KL to the start (released: 0.001, k3 in the "
                                                  "loss)")
    entropy_coef: float = Field(0.0, ge=0, description="entropy bonus (released: 0.001)")
    epsilon: float = Field(0.2, gt=0, description="clip range of the ratio, both sides")
    delta: float = Field(3.0, gt=0, description="upper bound of the ratio (dual clip)")
    weight_decay: float = Field(0.01, ge=0, description="of GRPO")
    max_grad_norm: float = Field(1.0, gt=0, description="of GRPO")
    warmup_steps: int = Field(0, ge=0, description="optimizer steps of rising learning rate in "
                                                   "GRPO")
    loss_type: Literal["dapo", "grpo", "bnpo", "dr_grpo", "cispo", "sapo"] = Field(
        "dapo", description="dapo (token mean) | grpo | bnpo | dr_grpo | cispo | sapo")
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group", description="group | batch | none (none is Dr. GRPO)")
    advantage: Literal["grpo", "gdpo", "turn"] = Field(
        "grpo",
        description="grpo | gdpo (every reward term normalised by itself: arXiv 2601.05242) | turn "
                    "(one of each turn besides: MatchTIR)")
    turn_discount: float = Field(
        0.9, ge=0, le=1, description="of advantage turn: what a later turn counts for an earlier "
                                     "one")
    keep: Literal["last", "best"] = Field(
        "last", description="which student is saved: last | best (by validation accuracy)")
    collapse_patience: int = Field(
        20, ge=0, description="steps without an executed call, or without reward differences, that "
                              "stop; 0 is never")
    num_processes: int = Field(1, ge=1, description="above 1, training runs in as many child "
                                                    "processes")
    accelerate_config: str = Field(
        "", description='on GPUs: "" is ddp | fsdp | zero3 | a path of a YAML'
    )
    perturb: str = Field("", description='harder tools in rollouts, such as '
                                         'reordered+distracting+failing; "" is none')
    rollout_engine: Literal["auto", "kit", "trl"] = Field(
        "auto",
        description="kit (as in evaluation) | trl (its tool loop) | auto (kit where it can)",
    )
    shared_prompts: bool = Field(True, description="updates read each prompt once, where the "
                                                   "student allows it")
    vllm_server: str = Field("", description="address of a vLLM server that samples the rollouts")

    @property
    def kind(self) -> Literal["cold_start", "sft", "dpo", "grpo"]:
        return self.method if self.method in ("cold_start", "sft", "dpo") else "grpo"

    @property
    def reward_spec(self) -> str:
        return self.reward or ("mentor" if self.method in NAMED else self.method)

    @property
    def of_groups(self) -> str:
        """What asks for groups that the kit makes and updates by itself; "" where TRL's serve
        too."""
        asked = {f"method={self.method!r}": self.method in ("opd", "rft"),
                 f"teacher_traces={self.teacher_traces}": bool(self.teacher_traces),
                 f"replayed_groups={self.replayed_groups}": self.replayed_groups > 0,
                 f"drop_flat_groups={self.drop_flat_groups!r}": self.drop_flat_groups != "no",
                 "advantage='turn'": self.advantage == "turn"}
        return next((name for name, is_so in asked.items() if is_so), "")

    @property
    def preview_reward(self) -> str:
        """The reward shown on a group before training: its own, or MENTOR's where none is
        trained on."""
        return self.reward_spec if self.kind in ("grpo", "dpo") else "mentor"

    @property
    def rollouts(self) -> int:
        """Rollouts of one batch, of all processes together."""
        return self.prompts_per_step * self.group_size

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training; of a cold start the upper bound."""
        return self.sft_plan.steps if self.kind == "cold_start" else self.steps

    @property
    def steps_per_batch(self) -> int:
        """Optimizer steps between two rollout batches: the only places where a checkpoint resumes
        exactly."""
        return self.updates_per_batch * self.num_iterations

    @property
    def sft_plan(self) -> SFTPlan:
        """What the cold start or method `sft` does."""
        if self.kind == "cold_start":
            return SFTPlan(self.cold_start_steps, self.cold_start_batch, 0,
                           self.cold_start_learning_rate,
                           True, self.cold_start_muon_learning_rate,
                           0.0 if self.cold_start_level else self.cold_start_accuracy,
                           self.cold_start_cooldown)
        return SFTPlan(self.steps, self.sft_batch, self.sft_micro_batch, self.sft_learning_rate)

    def loading(self, *, embedded: bool) -> LoadConfig:
        """How the student is loaded.

        Args:
            embedded: it is the kit's own from-scratch student or continues it; `finetuning="auto"`
                then trains all of it, and adapters on any other.

        Raises:
            ValidationError: 4-bit weights and all parameters.
        """
        asked = {name: getattr(self, name) for name in LoadConfig.model_fields}
        if self.finetuning == "auto":
            asked["finetuning"] = "full" if embedded else "lora"
        return LoadConfig(**asked)

    @model_validator(mode="before")
    @classmethod
    def _stand_for(cls, asked: Any) -> Any:
        """What `mixed` and `turn_credit` stand for, where nothing of the kind is set."""
        if isinstance(asked, dict) and asked.get("method") == "turn_credit":
            return {**asked, "advantage": "turn"}
        if isinstance(asked, dict) and asked.get("method") == "mixed":
            mixes = asked.get("teacher_traces") or asked.get("replayed_groups")
            return asked if mixes else {**asked, "teacher_traces": 1}
        return asked
