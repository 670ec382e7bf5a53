"""What a training run reports while it runs: one metrics file, validation by the judge, a progress
bar."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from mentor_kit.core.records import Record
from mentor_kit.evaluation.evaluate import validation_metrics
from mentor_kit.runs.run import Run
from mentor_kit.students.sampling import ScoresNotFinite
from mentor_kit.students.student import Student
from mentor_kit.training import processes
from mentor_kit.training.bar import StepBar
from mentor_kit.training.checkpoints import drop_older_best, save_best, seal
from mentor_kit.training.collapse import (
    ACCURACY,
    PROBABILITY,
    BestValidation,
    CollapseDetector,
    not_a_number,
)
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.optimizers import WSDSchedule
from mentor_kit.training.tracker import Tracker, run_name

WALL_CLOCK = ("step_time", "profiling", "train_", "epoch", "total_flos", "_runtime", "per_second")


class RunCallback(TrainerCallback):
    """Writes TRL's logs to the run's metrics file, validates with the judge, stops at a target or a
    collapse.

    Validation never uses the training reward, so curves of different methods can be compared:
    greedy rollouts on the same items at the same steps. With several processes all of them validate
    all items: sharded weights need every process at every forward pass, and the copies agree on
    when to stop.

    Args:
        run: metrics go to `run.log`, wall times to `run.log_time`.
        validation: records whose reference is the teacher's trajectory; every one is asked.
        schedule: its decay begins at the target accuracy, and the end of that stops the training.

    Attributes:
        tracker: gets validations as well, and whatever else is sent to it.
        measure: what is logged at a validation besides, under `val/`.
        spent: what an optimizer step cost, by the names of the metrics; for trainers that do not
            log it themselves.

    Raises:
        TrainingCollapsed: from within the training, when going on cannot help.
    """

    def __init__(self, run: Run, student: Student, validation: Sequence[Record],
                 config: TrainConfig, schedule: WSDSchedule | None = None) -> None:
        self.run, self.student, self.validation, self.config = run, student, validation, config
        self.target = config.sft_plan.target_accuracy if config.kind == "cold_start" else 0.0
        self.schedule = schedule or WSDSchedule(0, 0)
        self.validations = BestValidation()
        self.collapse = CollapseDetector(config.collapse_patience, self.validations)
        for line in processes.share(run.metrics()):  # of the training that is resumed
            self._update(line)
        self.measure: Callable[[], Mapping[str, float]] = dict
        self.spent: Callable[[int], Mapping[str, float]] = lambda step: {}
        self.tracker = Tracker(config.report_to, run_name(config.method, config.seed, run))
        self.bar = StepBar(config.total_steps, student.name)
        self.started = 0.0
        self.best_before = 0  # step of the best student at the checkpoint before the last

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.tracker.open()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            # the last backward pass and the optimizer's step may still be under way
            torch.cuda.synchronize()
        self.run.log_time("step", time.perf_counter() - self.started, step=state.global_step)
        if self.config.validate_every and state.global_step % self.config.validate_every == 0:
            self.validate(state.global_step)
            if self.target and self.validations.last >= self.target:
                self.schedule.begin_decay(state.global_step)
        control.should_training_stop |= self.schedule.is_over(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None,
               **kwargs: Any) -> None:
        logged = {k: v for k, v in (logs or {}).items() if not any(w in k for w in WALL_CLOCK)}
        numbers = {k: v for k, v in logged.items() if isinstance(v, int | float)
                   and math.isfinite(v)}
        if not numbers:
            return
        if "loss" in numbers:
            numbers |= self.spent(state.global_step)
        self.run.log({"step": state.global_step, **numbers})
        self.bar.show({"step": state.global_step, **numbers})
        self._update({"step": state.global_step, **logged})
        self._check_weights(state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seal(self.run, state.global_step)
        if self.config.keep == "best" and self.validations.best and processes.is_first():
            drop_older_best(self.run, self.best_before)
            self.best_before = self.validations.best[0]

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.close()

    def validate(self, step: int) -> None:
        """Greedy rollouts on the validation items, judged; logged under `val/`."""
        if not self.validation:
            return
        try:
            with self.run.time("validation"):
                metrics = processes.share(validation_metrics(self.student, self.validation))
                metrics = {**metrics, **self.measure()}
        except ScoresNotFinite as error:
            raise not_a_number(PROBABILITY, None, step) from error
        line = {"step": step, **{f"val/{k}": v for k, v in metrics.items()}}
        self.run.log(line)
        self.tracker.send(step, {k: v for k, v in line.items() if k != "step"})
        self.bar.show({"step": step, ACCURACY: line[ACCURACY]})
        self._update(line)
        if self.config.keep == "best" and self.validations.best[0] == step:
            save_best(self.student.model, self.run, step)

    def _update(self, line: dict[str, Any]) -> None:
        self.validations.update(line)
        if self.config.method == "opd":  # which learns from equal rewards as well
            line = {name: value for name, value in line.items() if name != "frac_reward_zero_std"}
        self.collapse.update(line)

    def _check_weights(self, step: int) -> None:
        """Stop, in all processes alike, if a weight of any of them is not a finite number."""
        finite = all(bool(torch.isfinite(getattr(p, "to_local", lambda p=p: p)()).all())
                     for p in self.student.model.parameters() if p.requires_grad)
        if not all(processes.gather([finite])):
            raise not_a_number("a weight", None, step)
