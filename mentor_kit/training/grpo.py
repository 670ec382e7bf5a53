"""Reinforcement learning of tool use by TRL's GRPOTrainer.

The student explores on-policy; each rollout is scored against the teacher's reference by the reward
that every other part of the kit uses. Tool results are outside the loss.

Who samples: the kit's engine, which validates and evaluates too, wherever it can keep a cache
(`rollout_engine: auto`), else TRL's native tool loop: for vLLM, Unsloth and other architectures.
Both follow one set of rules (`mentor_kit.students.turns`).
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from mentor_kit.core.chat_markup import render_call, render_environment
from mentor_kit.core.records import Record
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.rewards import Reward
from mentor_kit.runs.run import Run
from mentor_kit.students.adapters import keep_adapters_float32
from mentor_kit.students.kv_decoder import ARCHITECTURES, can_keep_cache
from mentor_kit.students.native_format import OURS
from mentor_kit.students.student import Student, prompt_messages
from mentor_kit.students.turns import turn_message
from mentor_kit.toolboxes.perturbed import perturbed_spec
from mentor_kit.training import processes
from mentor_kit.training.callback import RunCallback
from mentor_kit.training.checkpoints import last_checkpoint, tiled_order
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.distillation import DistillationTrainer, WhiteBoxTeacher
from mentor_kit.training.group_losses import ImitationTrainer, MixedTrainer
from mentor_kit.training.group_rollouts import GroupRollouts
from mentor_kit.training.grpo_trainer import KitRollouts, SharedPromptTrainer
from mentor_kit.training.reward_function import BUDGET, RewardFunction, join_rollouts
from mentor_kit.training.shared_prefix import can_share
from mentor_kit.training.trainer import common_arguments, finish_training, quiet
from mentor_kit.training.trainer_config import check_unchanged, exactly, store_trainer_config


def train_grpo(student: Student, records: Sequence[Record], validation: Sequence[Record],
               reward: Reward, config: TrainConfig, run: Run,
               teacher: WhiteBoxTeacher | None = None) -> dict[str, Any]:
    """Train `student` in place; continues from the run's last checkpoint if there is one.

    Args:
        records: accepted teacher trajectories; each one's problem is a prompt, its trajectory the
            reference.
        validation: records judged greedily every `config.validate_every` steps.
        reward: scores a rollout against the reference (see `mentor_kit.rewards.load_reward`).
        teacher: of method `opd`.

    Returns:
        The budget used: optimizer_steps, and the sums of `budget/` in the metrics: sampled_tokens,
            teacher_tokens (a reward reads only names and calls: 0), teacher_forwards.
    """
    batches = config.steps // config.steps_per_batch
    order = tiled_order(len(records), batches * config.prompts_per_step, config.seed)
    resume = last_checkpoint(run)
    sampler, records = perturbed(student, records, config.perturb)
    producer = f"student:{student.name}"
    reward_function = RewardFunction(sampler.format, records, reward, run, producer)
    callback = RunCallback(run, student, validation, config)
    reward_function.tracker = callback.tracker
    if teacher:
        teacher.check(student)
        callback.measure = lambda: teacher.held_out(student, [r.problem for r in validation],
                                                    config)
    trainer = grpo_trainer(sampler, order, reward_function, config, run, callback, teacher)
    if not resume:
        callback.validate(0)
    steps = finish_training(trainer, callback, resume)
    if processes.is_first():
        join_rollouts(run)
    return {"optimizer_steps": steps, **budget_of(run)}


def perturbed(student: Student, records: Sequence[Record], how: str
              ) -> tuple[Student, Sequence[Record]]:
    """The student that samples, and the records it is rewarded by, with harder tools; validation
    keeps the plain ones."""
    if not how:
        return student, records
    spec = perturbed_spec(how, records[0].problem.toolbox)
    return replace(student, toolbox=load_toolbox(spec)), [
        replace(r, problem=replace(r.problem, toolbox=spec)) for r in records]


def budget_of(run: Run) -> dict[str, int]:
    """What a run's metrics say it cost: the sums of `BUDGET`."""
    lines = processes.share(run.metrics())
    return {name.removeprefix("budget/"): int(sum(line.get(name, 0) for line in lines))
            for name in BUDGET}


def grpo_trainer(student: Student, order: Sequence[int], reward_function: RewardFunction,
                 config: TrainConfig, run: Run, callback: RunCallback,
                 teacher: WhiteBoxTeacher | None = None) -> GRPOTrainer:
    """TRL's trainer for the prompts of the reward function's records, in this order.

    Raises:
        UserError: a vLLM server is to sample the rollouts, and vllm is not installed here; or the
            method makes its own groups, and the kit's engine does not know the student.
    """
    if config.vllm_server and importlib.util.find_spec("vllm") is None:
        raise UserError(f"vllm_server={config.vllm_server!r} needs the package vllm in the "
                        "trainer's environment too: install it (it needs a GPU), or leave "
                        "vllm_server empty to sample in the trainer.")
    records, rewards, aggregation = reward_function.records, reward_function, {}
    dataset = Dataset.from_list([{"prompt": prompt_messages(records[i].problem.question),
                                  "record": i} for i in order])
    if config.advantage == "gdpo":
        rewards = reward_function.by_term()
        aggregation = {"multi_objective_aggregation": "normalize_then_sum",
                       "reward_weights": [r.weight for r in rewards]}
    engine = choose_engine(config, student, records)
    shared = config.shared_prompts and can_share(student.model)
    if config.of_groups and not (engine == "kit" and shared):
        raise UserError(f"{config.of_groups} samples and trains by the kit's own engine, which "
                        f"knows plain {', '.join(ARCHITECTURES)} models of transformers only; "
                        "this student is another.")
    asked = _arguments(config, student, run, whole_updates=shared, **aggregation)
    # turns are read by the kit's rules, whoever samples
    student.tokenizer.parse_response = lambda ids, prefix=(): turn_message(
        student.format.read(ids, prefix))
    if engine == "kit":
        rollouts = GroupRollouts(student, records, order, config, reward_function) \
            if config.of_groups else KitRollouts(student, records, order, config)
        sampler = {"rollout_func": rollouts}
        warnings.filterwarnings("ignore", "You are using 'rollout_func'")
    else:
        sampler = {"tools": student.toolbox.as_functions()}
    trainer = quiet(_trainer_class(config, shared)(
        model=student.model, processing_class=student.tokenizer, args=exactly(GRPOConfig, asked),
        reward_funcs=rewards, train_dataset=dataset, callbacks=[callback], **sampler))
    trainer.micro_batch = config.micro_batch
    trainer.trace_shaping, trainer.teacher = config.trace_shaping, teacher
    trainer.divergence, trainer.turn_weight = config.divergence, config.turn_weight
    if engine == "trl":
        trainer.chat_template_kwargs = student.format.options
        _check_results(trainer, student)
    keep_adapters_float32(student.model)
    check_unchanged(trainer, asked)
    store_trainer_config(trainer, student, run, rollout_engine=engine, shared_prompts=shared)
    return trainer


def _trainer_class(config: TrainConfig, shared: bool) -> type[GRPOTrainer]:
    named = {"opd": DistillationTrainer, "rft": ImitationTrainer}
    if config.method in named:
        return named[config.method]
    if config.teacher_traces:
        return MixedTrainer
    return SharedPromptTrainer if shared else GRPOTrainer


def _check_results(trainer: GRPOTrainer, student: Student) -> None:
    """TRL's loop must go on after tool results as evaluation does."""
    name = student.toolbox.names[0]
    turn = Turn(render_call(name, {}), "eos", render_environment(["3"]))
    theirs = trainer._get_tool_suffix_ids([{"role": "tool", "name": name, "content": "3"}])
    if theirs != student.format.following_ids(turn):
        raise UserError("TRL's tool loop does not end turns as the student's "
                        f"{student.format.name} format does, whose end token is "
                        f"{student.tokenizer.eos_token!r}. {OURS}")


def choose_engine(config: TrainConfig, student: Student, records: Sequence[Record] = ()) -> str:
    """Who samples the rollouts: `kit`, the engine of validation and evaluation, or `trl`, its
    native tool loop.

    Raises:
        UserError: the kit is asked for where it cannot sample, or needed by problems with tools of
            their own, which TRL's loop does not know.
    """
    against = ""
    if config.vllm_server or (student.origin.loading is not None
                              and student.origin.loading.fast_inference):
        against = "vLLM is to sample"
    elif processes.sharded():
        against = "the processes share the weights, and read them a different number of times"
    elif not can_keep_cache(student.model):
        against = f"it keeps a cache of plain {', '.join(ARCHITECTURES)} models only"
    if config.rollout_engine == "kit" and against:
        raise UserError(f"rollout_engine='kit' cannot sample here: {against}. Use "
                        "rollout_engine='auto' or 'trl'.")
    own = any("tool_schemas" in r.problem.meta for r in records)
    if own and (against or config.rollout_engine == "trl"):
        raise UserError("Problems with tools of their own are sampled by the kit's engine only, "
                        f"and here {against or 'TRL is to sample'}: train by sft, or take a "
                        f"{', '.join(ARCHITECTURES)} student with rollout_engine='auto'.")
    return "trl" if against or config.rollout_engine == "trl" else "kit"


def _arguments(config: TrainConfig, student: Student, run: Run, *, whole_updates: bool,
               **aggregation: Any) -> dict[str, Any]:
    """The released recipe in TRL's words; everything that changes the method is set here, never
    inherited.

    Args:
        whole_updates: a batch of TRL's is an update; else a micro-batch.
    """
    batches = config.updates_per_batch if whole_updates else \
        config.rollouts // (config.micro_batch * config.num_processes)
    vllm = {}
    if config.vllm_server:
        vllm = {"vllm_mode": "server", "vllm_server_base_url": config.vllm_server}
    elif student.origin.loading is not None and student.origin.loading.fast_inference:
        vllm = {"vllm_mode": "colocate"}
    return dict(
        max_steps=config.steps, seed=config.seed,
        per_device_train_batch_size=config.rollouts // (batches * config.num_processes),
        steps_per_generation=batches,
        gradient_accumulation_steps=batches // config.updates_per_batch,
        num_generations=config.group_size, num_iterations=config.num_iterations,
        shuffle_dataset=False, max_completion_length=config.max_new_tokens,
        max_tool_calling_iterations=config.max_turns - 1, temperature=config.temperature,
        top_k=config.top_k or (-1 if vllm else 0), top_p=config.top_p,
        loss_type="dapo" if config.method in ("opd", "rft") else config.loss_type,  # token mean
        beta=config.kl_beta, use_bias_correction_kl=False,
        entropy_coef=config.entropy_coef, epsilon=config.epsilon, epsilon_high=config.epsilon,
        delta=config.delta, scale_rewards=config.scale_rewards, mask_truncated_completions=False,
        importance_sampling_level="token", use_vllm=bool(vllm), **vllm,
        vllm_importance_sampling_correction=True,  # without vLLM unused
        learning_rate=config.learning_rate, warmup_steps=config.warmup_steps,
        lr_scheduler_type="constant_with_warmup" if config.warmup_steps else "constant",
        weight_decay=config.weight_decay, max_grad_norm=config.max_grad_norm, logging_steps=1,
        remove_unused_columns=False, **aggregation, **common_arguments(config, student, run))
