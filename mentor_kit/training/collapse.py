"""What a training's own metrics say about it: its best validation, and whether it has collapsed.

Both take in every line of the metrics file, so a resumed training knows what the killed one knew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mentor_kit.errors import UserError

ACCURACY = "val/accuracy"
GOOD = 0.9  # validation accuracy from which equal rewards in every group mean mastery, not collapse
NUMBERS = {"loss": "the loss", "reward": "the reward", "grad_norm": "the gradient's norm"}
PROBABILITY = "a token's probability"
NO_CALLS = "no rollout executed a tool call"
NO_DIFFERENCE = "all rewards were equal in every group while validation accuracy is below its best"
REMEDIES = {
    NO_CALLS: "the student has unlearnt tool use: try a lower learning_rate, kl_beta above 0, "
              "another reward, or a cold start that calls tools",
    NO_DIFFERENCE: "there is nothing left to learn from: try a lower learning_rate, a higher "
                   "temperature or group_size, kl_beta above 0, or another reward"}


class TrainingCollapsed(UserError):
    """Training was stopped because going on cannot help; the message says what, since when, and
    what to try."""


class BestValidation:
    """The best validation so far.

    Attributes:
        best: (step, greedy validation accuracy); of equal ones, the first. None before any.
        last: accuracy at the last validation.
    """

    def __init__(self) -> None:
        self.best: tuple[int, float] | None = None
        self.last = math.inf

    def update(self, line: Mapping[str, Any]) -> None:
        """Take in one line of metrics."""
        if ACCURACY in line:
            self.last = line[ACCURACY]
            if self.best is None or self.last > self.best[1]:
                self.best = (line["step"], self.last)


class CollapseDetector:
    """Stops a training that cannot recover.

    Args:
        patience: optimizer steps that one sign of collapse may last; 0 looks only for values that
            are not finite numbers.
        validations: equal rewards are a sign of collapse only below the best validation.
    """

    def __init__(self, patience: int, validations: BestValidation) -> None:
        self.patience, self.validations = patience, validations
        self.since: dict[str, int] = {}

    def update(self, line: Mapping[str, Any]) -> None:
        """Take in one line of metrics.

        Raises:
            TrainingCollapsed: a value is not a finite number, or a sign of collapse has lasted for
                `patience` steps.
        """
        step, validations = line["step"], self.validations
        for name, words in NUMBERS.items():
            if name in line and (line[name] is None or not math.isfinite(line[name])):
                raise not_a_number(words, line[name], step)
        if "executed_calls" in line:
            self._lasting(NO_CALLS, line["executed_calls"] == 0, step)
        if "frac_reward_zero_std" in line:
            worse = validations.best and validations.last < min(validations.best[1], GOOD)
            self._lasting(NO_DIFFERENCE, line["frac_reward_zero_std"] == 1 and bool(worse), step)

    def _lasting(self, sign: str, seen: bool, step: int) -> None:
        if not seen:
            self.since.pop(sign, None)
            return
        since = self.since.setdefault(sign, step)
        if self.patience and step - since + 1 >= self.patience:
            raise TrainingCollapsed(f"training stopped at step {step}: {sign} since step {since}; "
                                    f"{REMEDIES[sign]} (collapse_patience={self.patience}; 0 never "
                                    "stops for this).")


def not_a_number(what: str, value: Any, step: int) -> TrainingCollapsed:
    shown = "" if value is None else f" ({value})"
    return TrainingCollapsed(f"training stopped at step {step}: {what} is not a finite number"
                             f"{shown} since step {step}; try a lower learning_rate, or another "
                             "start.")
