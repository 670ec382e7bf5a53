"""The trainer's settings: exactly as asked on every backend, and stored in the run as they were
resolved.

Unsloth's trainers have defaults of their own and override some values even when they are given
(accumulation 2, `adamw_8bit`, warm-up 0.1, a mask on truncated completions, epsilon_high 0.28, Dr.
GRPO without scaling, padding-free batches). So whatever changes the method is asked for by name,
set back where it was changed, and checked again once the trainer exists.
"""

from __future__ import annotations

import json
import os
from enum import Enum
from typing import Any

from mentor_kit.errors import UserError
from mentor_kit.runs.files import write_atomic
from mentor_kit.runs.run import Run
from mentor_kit.students.adapters import trained_parameters
from mentor_kit.students.backends import PACKING
from mentor_kit.students.student import Student
from mentor_kit.training import processes

FILE = "trainer_config.json"
# Where, when and by whom a run happens: not what it computes.
HOST = ("output_dir", "logging_dir", "run_name", "local_rank", "hub_", "push_to_hub",
        "resume_from_checkpoint",
        "project", "trackio", "vllm_server")
# What may differ between the backends, and why it is the same method. Names that only one backend
# knows count too.
MAY_DIFFER = {
    "loss_type": "SFT only: TRL's chunked_nll and Unsloth's nll are one loss, computed in chunks",
    "dataset_num_proc": "workers that prepare rows; ours are prepared already",
    "max_length": "rows longer than max_seq_length are refused before training, so nothing is cut",
    "gradient_checkpointing_kwargs": "how activations are recomputed, not what",
    "torch_empty_cache_steps": "how often cached GPU memory is given back",
    "per_device_eval_batch_size": "the trainer never evaluates; validation is ours",
    "eval_accumulation_steps": "the trainer never evaluates",
    "bf16_full_eval": "the trainer never evaluates",
    "fp16_full_eval": "the trainer never evaluates",
    "router_aux_loss_coef": "mixture-of-experts models only",
    "remove_unused_columns": "rows hold only what is used",
    "generation_kwargs": "an empty dict or none",
    "include_num_input_tokens_seen": "a log line",
    "max_seq_length": "Unsloth's name of max_length",
    "vllm_sampling_params": "Unsloth's; none, so the sampling is what is asked for by name",
    "unsloth_num_chunks": "in how many chunks the logits are computed",
    "unsloth_logit_chunk_multiplier": "in how many chunks the logits are computed",
    "unsloth_grpo_mini_batch": "in how many chunks the logits are computed",
    "context_parallel_size": "Unsloth's; one, so off",
    "context_parallel_backend": "off",
    "context_parallel_rotate_method": "off",
}


def exactly(config_class: type, asked: dict[str, Any]) -> Any:
    """The trainer config that holds what was asked, also where the class would rather have
    something else."""
    config = config_class(**asked)
    for name in changed(config, asked):
        setattr(config, name, asked[name])
    # one process that sees several GPUs: torch's DataParallel would multiply the micro-batch
    if config.n_gpu > 1:
        config._n_gpu = 1
    return config


def changed(config: Any, asked: dict[str, Any]) -> list[str]:
    """Names whose value is not what was asked, those that may differ aside."""
    free = {"report_to", *may_differ(hasattr(config, "num_generations"))}
    return [n for n, v in asked.items() if n not in free
            and _plain(getattr(config, n)) != _plain(v)]


def may_differ(grpo: bool) -> set[str]:
    """Documented differences; GRPO's loss is no matter of code alone."""
    return set(MAY_DIFFER) - ({"loss_type"} if grpo else set())


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Undocumented differences between two stored `arguments`: there should be none."""
    names = {n for n in ours.keys() | theirs.keys() if n not in ours or n not in theirs
             or ours[n] != theirs[n]}
    return sorted(names - may_differ("num_generations" in ours))


def check_unchanged(trainer: Any, asked: dict[str, Any]) -> None:
    """After the trainer was made, which changes its config too.

    Raises:
        UserError: something that defines the method is not what was asked.
    """
    names = changed(trainer.args, asked)
    if names:
        found = ", ".join(f"{n}={getattr(trainer.args, n)!r} (asked: {asked[n]!r})" for n in names)
        raise UserError(f"The trainer changed what it was asked to do: {found}. Use "
                        "student_backend='transformers', or the pinned versions of "
                        "constraints.txt.")


def store_trainer_config(trainer: Any, student: Student, run: Run, **chosen: Any) -> None:
    """Write `trainer_config.json`: the resolved arguments and how the student was loaded. No paths,
    no dates. The manifest too names what was chosen.

    Args:
        chosen: what was resolved besides (`rollout_engine`, `shared_prompts`).
    """
    if not processes.is_first():
        return
    facts = {"backend": student.origin.backend,
             "trainer": type(trainer).__name__.removeprefix("Unsloth"),
             "loading": student.origin.loading.model_dump() if student.origin.loading else None,
             "call_format": student.format.name,
             "dtype": str(student.model.dtype).removeprefix("torch."),
             "parameters": sum(p.numel() for p in student.model.parameters()),
             "trained_parameters": trained_parameters(student.model),
             "unsloth": {n: os.environ.get(n) for n in PACKING}
             if student.origin.backend == "unsloth" else None,
             **chosen, "arguments": resolved_arguments(trainer.args)}
    write_atomic(run.path(FILE), json.dumps(facts, sort_keys=True, indent=1) + "\n")
    manifest = json.loads(run.path("manifest.json").read_text(encoding="utf-8"))
    manifest["training"] = {"call_format": student.format.name, **chosen}
    write_atomic(run.path("manifest.json"),
                 json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def resolved_arguments(args: Any) -> dict[str, Any]:
    """Every field of the trainer's config as plain JSON, without those of the host."""
    return {name: _plain(value) for name, value in args.to_dict().items()
            if not name.startswith(HOST) and not name.endswith("token")}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
