"""Reinforcement learning of tool use by TRL's GRPOTrainer with its native tools.

The student explores on-policy; each rollout's completion ids become a Trajectory and are scored against the
teacher's reference by the reward every other part of the kit uses. Tool results are masked from the loss by TRL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from mentor_kit.rewards import Reward
from mentor_kit.runs import Run
from mentor_kit.store import Record
from mentor_kit.students.student import Student, prompt_messages
from mentor_kit.training.checkpoints import last_checkpoint, tiled_order
from mentor_kit.training.config import GRPOSettings
from mentor_kit.training.monitor import Monitor
from mentor_kit.training.scorer import RolloutScorer
from mentor_kit.training.sft import common_arguments, quiet


def train_grpo(student: Student, records: Sequence[Record], validation: Sequence[Record], reward: Reward,
               settings: GRPOSettings, run: Run) -> dict[str, Any]:
    """Train `student` in place; continues from the run's last checkpoint if there is one.

    Args:
        records: accepted teacher trajectories; each one's problem is a prompt, its trajectory the reference.
        validation: records judged greedily every `settings.validate_every` steps.
        reward: scores a rollout against the reference (see `mentor_kit.rewards.load_reward`).

    Returns:
        The budget used: optimizer_steps, sampled_tokens, teacher_tokens (0: only names and calls are read).
    """
    batches = settings.steps // settings.updates_per_batch
    order = tiled_order(len(records), batches * settings.prompts_per_step, settings.seed)
    dataset = Dataset.from_list([{"prompt": prompt_messages(records[i].problem.question), "record": i} for i in order])
    resume = last_checkpoint(run)
    scorer = RolloutScorer(student.tokenizer, records, reward, run, f"student:{student.name}")
    monitor = Monitor(run, student, validation, every=settings.validate_every, steps=settings.steps)
    trainer = quiet(GRPOTrainer(
        model=student.model, processing_class=student.tokenizer, args=_arguments(settings, student, run),
        reward_funcs=scorer, train_dataset=dataset, tools=student.toolbox.as_functions(), callbacks=[monitor]))
    if not resume:
        monitor.validate(0)
    trainer.train(resume_from_checkpoint=resume)
    return {"optimizer_steps": trainer.state.global_step, "sampled_tokens": scorer.sampled_tokens(),
            "teacher_tokens": 0}


def _arguments(settings: GRPOSettings, student: Student, run: Run) -> GRPOConfig:
    """The released recipe in TRL's words; everything that changes the method is set here, never inherited."""
    micro_batches = settings.rollouts // settings.micro_batch
    return GRPOConfig(
        output_dir=str(run.path("checkpoints")), max_steps=settings.steps, seed=settings.seed,
        per_device_train_batch_size=settings.micro_batch, steps_per_generation=micro_batches,
        gradient_accumulation_steps=micro_batches // settings.updates_per_batch, num_generations=settings.group_size,
        num_iterations=1, shuffle_dataset=False, max_completion_length=settings.max_new_tokens,
        max_tool_calling_iterations=settings.max_turns - 1, temperature=settings.temperature,
        top_k=settings.top_k, top_p=settings.top_p, loss_type=settings.loss_type, beta=settings.kl_beta,
        use_bias_correction_kl=False, entropy_coef=settings.entropy_coef, epsilon=settings.epsilon,
        epsilon_high=settings.epsilon, delta=settings.delta, scale_rewards=settings.scale_rewards,
        mask_truncated_completions=False, importance_sampling_level="token", use_vllm=False,
        optim="adamw_torch_fused" if student.model.device.type == "cuda" else "adamw_torch",
        learning_rate=settings.learning_rate, lr_scheduler_type="constant", warmup_steps=0,
        weight_decay=settings.weight_decay, max_grad_norm=settings.max_grad_norm, logging_steps=1,
        remove_unused_columns=False, **common_arguments(settings, student))
