"""What SFT and GRPO share: common arguments, training to the end, keeping the best student."""

from __future__ import annotations

import json
from typing import Any
from weakref import WeakSet

import torch

from mentor_kit.core.toolbox import ToolboxFailure
from mentor_kit.errors import UserError
from mentor_kit.runs.files import write_atomic
from mentor_kit.runs.run import SCRATCH, Run
from mentor_kit.students.backends import computing_precision
from mentor_kit.students.sampling import ScoresNotFinite
from mentor_kit.students.student import Student
from mentor_kit.training import processes
from mentor_kit.training.callback import RunCallback
from mentor_kit.training.checkpoints import KEPT, restore_best
from mentor_kit.training.collapse import PROBABILITY, not_a_number
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.tracker import PROJECT, run_name

SAMPLING_FAILED = "probability tensor contains"  # in torch's refusal to sample from nan
# models of this process in or after a training that did not end
INTERRUPTED: WeakSet[torch.nn.Module] = WeakSet()


def common_arguments(config: TrainConfig, student: Student, run: Run) -> dict[str, Any]:
    """What SFT and GRPO ask alike of a trainer: device, precision, checkpoints, tracking."""
    cuda = student.model.device.type == "cuda"
    save = {"save_strategy": "steps", "save_steps": config.save_every,
            "save_total_limit": KEPT}
    loading = student.origin.loading
    half = computing_precision(config, cuda)
    return {"output_dir": str(run.path(SCRATCH)), "project": PROJECT,
            "run_name": run_name(config.method, config.seed, run), "use_cpu": not cuda,
            "bf16": half == torch.bfloat16, "fp16": half == torch.float16,
            "disable_tqdm": True,
            "optim": "adamw_torch_fused" if cuda else "adamw_torch",
            "gradient_checkpointing": loading is not None and loading.gradient_checkpointing,
            "report_to": config.report_to, "dataloader_pin_memory": cuda,
            "ddp_find_unused_parameters": False,
            # a loss that is not a number must be seen, not averaged away
            "logging_nan_inf_filter": False,
            # a mixture of experts would get a loss of its own, and keep asking for it afterwards
            "router_aux_loss_coef": 0.0,
            **(save if config.save_every else {"save_strategy": "no"})}


def finish_training(trainer: Any, callback: RunCallback, resume: str | None) -> int:
    """Train to the end, leave in the model what is to be kept, and return the optimizer steps
    taken.

    Raises:
        TrainingCollapsed: going on cannot help.
        UserError: an earlier call was interrupted before its first checkpoint, so the start is
            lost; or a tool does not work, whatever the arguments.
    """
    if not resume and trainer.model in INTERRUPTED:
        raise UserError("This student's training was interrupted before its first checkpoint, and "
                        "its weights are no longer those it started from: make the student again "
                        "(the cell above), then train.")
    INTERRUPTED.add(trainer.model)
    try:
        trainer.train(resume_from_checkpoint=resume)
        INTERRUPTED.discard(trainer.model)
    except (RuntimeError, ScoresNotFinite) as error:
        if not isinstance(error, ScoresNotFinite) and SAMPLING_FAILED not in str(error):
            raise
        raise not_a_number(PROBABILITY, None, trainer.state.global_step + 1) from error
    except ToolboxFailure as error:
        raise UserError(str(error)) from error
    if processes.sharded():
        _gather_weights(trainer, callback)
    _settle(callback)
    return trainer.state.global_step


def _gather_weights(trainer: Any, callback: RunCallback) -> None:
    """Make the sharded student whole again, in the first process's memory, by the engine's own way
    of saving."""
    from transformers import AutoModelForCausalLM

    folder = callback.run.path(f"{SCRATCH}/whole")
    trainer.save_model(str(folder))
    if processes.is_first():
        callback.student.model = AutoModelForCausalLM.from_pretrained(folder)


def _settle(callback: RunCallback) -> None:
    """Record the best validation, and put its weights back if they are to be kept."""
    if not callback.validations.best:
        return
    (step, accuracy), keep = callback.validations.best, callback.config.keep
    if processes.is_first():
        facts = {"step": step, "accuracy": accuracy, "last_accuracy": callback.validations.last,
                 "kept": keep}
        write_atomic(callback.run.path("best.json"),
                     json.dumps(facts, sort_keys=True, indent=1) + "\n")
    if keep == "best":
        restore_best(callback.student.model, callback.run, step)


def quiet(trainer: Any) -> Any:
    """Drop the trainer's own printing; `RunCallback` reports."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer
