"""What a training run reports while it runs: one metrics file, validation by the judge, a progress bar."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback

from mentor_kit.evaluation.evaluate import validation_metrics
from mentor_kit.progress import progress_bar
from mentor_kit.runs import Run
from mentor_kit.store import Record
from mentor_kit.students.student import Student
from mentor_kit.training.optimizers import Cooldown

WALL_CLOCK = ("step_time", "profiling", "train_", "epoch", "total_flos", "_runtime", "per_second")


class Monitor(TrainerCallback):
    """Writes TRL's logs to the run's metrics file, validates with the judge, and stops at a target accuracy.

    Validation never uses the training reward, so curves of different methods can be compared: greedy
    rollouts on the same items at the same steps.

    Args:
        run: metrics go to `run.log`, wall times to `run.log_time`.
        validation: records whose reference is the teacher's trajectory; every one is asked.
        target_accuracy: greedy validation accuracy at which `cooldown` begins; its end stops the training.
    """

    def __init__(self, run: Run, student: Student, validation: Sequence[Record], *, every: int, steps: int,
                 target_accuracy: float = 0.0, cooldown: Cooldown | None = None) -> None:
        self.run, self.student, self.validation = run, student, validation
        self.every, self.target_accuracy, self.cooldown = every, target_accuracy, cooldown or Cooldown(0, 0)
        self.bar = progress_bar(steps, student.name, "step")
        self.last: dict[str, float] = {}
        self.started = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.run.log_time("step", time.perf_counter() - self.started, step=state.global_step)
        if self.every and state.global_step % self.every == 0:
            self.validate(state.global_step)
            if self.target_accuracy and self.last["val/accuracy"] >= self.target_accuracy:
                self.cooldown.begin(state.global_step)
        control.should_training_stop |= self.cooldown.over(state.global_step)
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        numbers = {k: v for k, v in (logs or {}).items() if not any(w in k for w in WALL_CLOCK)}
        numbers = {k: v for k, v in numbers.items() if isinstance(v, int | float) and math.isfinite(v)}
        if numbers:
            self.run.log({"step": state.global_step, **numbers})
            shown = {k: v for k, v in numbers.items() if k in ("loss", "reward", "judge_accuracy")}
            self.bar.set_postfix({k: f"{v:.3f}" for k, v in {**shown, **self.last}.items()}, refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.close()

    def validate(self, step: int) -> None:
        """Greedy rollouts on the validation items, judged; logged under `val/`."""
        if not self.validation:
            return
        with self.run.time("validation"):
            metrics = validation_metrics(self.student, self.validation)
        self.run.log({"step": step, **{f"val/{k}": v for k, v in metrics.items()}})
        self.last = {"val/accuracy": metrics["accuracy"]}
