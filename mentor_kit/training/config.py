"""What notebook 03 is asked to do, checked before anything starts: `parameters` declares it, here
stands what is refused."""

from __future__ import annotations

import importlib.util

from pydantic import field_validator, model_validator

from mentor_kit.errors import UserError
from mentor_kit.rewards.reward import is_reward, load_reward
from mentor_kit.students.source import check_source
from mentor_kit.toolboxes.perturbed import keeps_names
from mentor_kit.training.parameters import TrainParameters

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")  # packages of the same names


class TrainConfig(TrainParameters):
    """Notebook 03: the cold start, SFT, GRPO with a reward, or one of its rivals (docs/methods.md).

    Fields and defaults: `TrainParameters`.
    """

    @model_validator(mode="after")
    def _check_groups(self) -> TrainConfig:
        """Refuse by name what cannot run a rival of MENTOR, before anything starts."""
        dpo = self.kind == "dpo"
        own = "method='dpo'" if dpo else self.of_groups
        against = {
            "student_backend='unsloth'": self.student_backend == "unsloth",
            "vllm_server": bool(self.vllm_server), "fast_inference=True": self.fast_inference,
            f"num_processes={self.num_processes}": self.num_processes > 1,
            "rollout_engine='trl'": self.rollout_engine == "trl" and not dpo,
            "shared_prompts=False": not self.shared_prompts and not dpo,
            "gradient_checkpointing=True": self.gradient_checkpointing and not dpo}
        if own and (found := next((name for name, is_so in against.items() if is_so), "")):
            raise ValueError(f"{own} samples and trains by the kit's own engine in one process, "
                             f"so {found} cannot be used with it: leave it at its default")
        of_grpo = {"teacher_traces": self.teacher_traces, "advantage": self.advantage != "grpo",
                   "drop_flat_groups": self.drop_flat_groups != "no", "kl_beta": self.kl_beta,
                   "entropy_coef": self.entropy_coef,
                   "replayed_groups": self.replayed_groups and dpo}
        if self.method in ("opd", "rft", "dpo") and any(of_grpo.values()):
            name = next(name for name, is_so in of_grpo.items() if is_so)
            raise ValueError(f"{name} is of GRPO's loss, and method={self.method!r} has another: "
                             "leave it at its default")
        if self.kind == "grpo" and self.teacher_traces >= self.group_size:
            raise ValueError(f"teacher_traces={self.teacher_traces} leaves no rollout of the "
                             f"student in a group of group_size={self.group_size}: lower it")
        if self.precision != "auto" and self.student_backend == "unsloth":
            raise ValueError(f"precision={self.precision!r}: Unsloth chooses its own, so leave it "
                             "at auto, or set student_backend to transformers")
        if dpo and self.sft_batch % 2:
            raise ValueError(f"sft_batch={self.sft_batch} trajectories are no pairs of a right "
                             "and a wrong one: choose an even number")
        return self

    @field_validator("report_to")
    @classmethod
    def _check_tracker(cls, name: str) -> str:
        if name not in ("none", *TRACKERS):
            raise ValueError(f"it must be none or one of {', '.join(TRACKERS)} (metrics.jsonl is "
                             "always written)")
        if name != "none" and importlib.util.find_spec(name) is None:
            raise ValueError(f"the package {name} is not installed; install it, or use 'none' "
                             "(metrics.jsonl is always written)")
        return name

    @model_validator(mode="after")
    def _check_student(self) -> TrainConfig:
        starts_anew = self.kind == "cold_start" or self.start_run == "none"
        if starts_anew and self.student_source != "tiny":
            check_source(self.student_source)
        return self

    @model_validator(mode="after")
    def _check_perturbation(self) -> TrainConfig:
        if self.perturb and not keeps_names(self.perturb):
            raise ValueError(f"perturb={self.perturb!r}: rewards compare calls with the teacher's "
                             "by name, so training keeps the names; leave out renamed")
        return self

    @model_validator(mode="after")
    def _check_quantisation(self) -> TrainConfig:
        self.loading(embedded=self.student_source == "tiny")
        return self

    @model_validator(mode="after")
    def _check_batches(self) -> TrainConfig:
        if self.kind != "grpo":
            plan, micro = self.sft_plan, 0 if self.kind == "cold_start" else self.sft_micro_batch
            if plan.batch_size % (self.num_processes * (micro or 1)):
                raise ValueError(
                    f"{self.kind if self.kind == 'cold_start' else 'sft'}_batch={plan.batch_size} "
                    f"does not divide into num_processes={self.num_processes} equal "
                    f"parts of micro-batches of {micro or 1}: choose a multiple"
                )
            return self
        if self.rollouts % (self.micro_batch * self.updates_per_batch * self.num_processes):
            raise ValueError(f"prompts_per_step x group_size = {self.rollouts} rollouts do not "
                             f"divide into {self.updates_per_batch} update(s) of micro-batches of "
                             f"{self.micro_batch} in each of {self.num_processes} process(es): "
                             "choose micro_batch so that they do")
        if self.steps % self.steps_per_batch or self.save_every % self.steps_per_batch:
            raise ValueError(f"steps={self.steps} and save_every={self.save_every} must be "
                             "multiples of updates_per_batch x num_iterations = "
                             f"{self.steps_per_batch}: a checkpoint inside a rollout batch does "
                             "not resume exactly")
        if self.advantage == "gdpo" and self.scale_rewards != "group":
            raise ValueError("advantage='gdpo' normalises each term in its group, so "
                             f"scale_rewards={self.scale_rewards!r} would be ignored: leave it at "
                             "'group'")
        return self

    @model_validator(mode="after")
    def _check_validation(self) -> TrainConfig:
        if self.validate_every:
            return self
        if self.keep == "best":
            raise ValueError("validate_every=0: keep='best' is the best at a validation, so set it "
                             "above 0")
        if self.kind == "cold_start" and self.sft_plan.target_accuracy:
            raise ValueError("validate_every=0: cold_start_accuracy is checked at validations, so "
                             "set it above 0")
        return self

    @model_validator(mode="after")
    def _check_launch(self) -> TrainConfig:
        """Refuse what the launcher would ignore, or what sharded weights cannot do."""
        asked = f"accelerate_config={self.accelerate_config!r}"
        if self.accelerate_config and self.num_processes == 1:
            raise ValueError(f"{asked} would be ignored by num_processes=1: set num_processes to "
                             "the number of GPUs, or leave it empty")
        if self.accelerate_config in ("", "ddp"):
            return self
        if self.keep == "best" or self.student_backend == "unsloth" or self.finetuning != "full":
            raise ValueError(f"{asked} shards the weights: set keep='last', "
                             "student_backend='transformers' and finetuning='full', or "
                             "accelerate_config='ddp'")
        if self.kind != "grpo":
            raise ValueError(f"{asked} would not step the optimizer and schedule of "
                             f"method={self.method!r} (the trainer refuses them under FSDP and "
                             "replaces them under DeepSpeed): set accelerate_config='ddp'")
        return self

    @model_validator(mode="after")
    def _check_reward(self) -> TrainConfig:
        if self.kind != "grpo":
            return self
        try:
            load_reward(self.reward_spec)
        except UserError as error:
            raise ValueError(f"{'reward' if self.reward else 'method'}={self.reward_spec!r}: "
                             f"{error}") from None
        if self.reward not in ("", self.method) and is_reward(self.method):
            raise ValueError(f"reward={self.reward!r}: method={self.method!r} already names a "
                             "reward; leave reward out, or give the method a name of its own "
                             "(method: fewer_calls, reward: my_rewards:fewer_calls)")
        return self
