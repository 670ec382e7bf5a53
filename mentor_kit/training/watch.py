"""What a training's own metrics say about it: the best validation so far, and whether it has
collapsed.

It sees every line of the metrics file, so a resumed training knows what the killed one knew.
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


class Watch:
    """Sees the metrics of each step.

    Args:
        patience: optimizer steps that one sign of collapse may last; 0 looks only for numbers that
            are none.

    Attributes:
        best: (step, greedy validation accuracy) of the best validation; of equal ones, the first.
            None before any.
    """

    def __init__(self, patience: int = 0) -> None:
        self.patience = patience
        self.best: tuple[int, float] | None = None
        self.accuracy = math.inf
        self.since: dict[str, int] = {}

    def see(self, line: Mapping[str, Any]) -> None:
        """Take in one line of metrics.

        Raises:
            TrainingCollapsed: a number is none, or a sign of collapse has lasted for `patience`
                steps.
        """
        step = line["step"]
        if ACCURACY in line:
            self.accuracy = line[ACCURACY]
            if self.best is None or self.accuracy > self.best[1]:
                self.best = (step, self.accuracy)
        for name, words in NUMBERS.items():
            if name in line and (line[name] is None or not math.isfinite(line[name])):
                raise not_a_number(words, line[name], step)
        if "executed_calls" in line:
            self._lasting(NO_CALLS, line["executed_calls"] == 0, step)
        if "frac_reward_zero_std" in line:
            worse = self.best is not None and self.accuracy < min(self.best[1], GOOD)
            self._lasting(NO_DIFFERENCE, line["frac_reward_zero_std"] == 1 and worse, step)

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
    return TrainingCollapsed(f"training stopped at step {step}: {what} is no finite number{shown} "
                             f"since step {step}; try a lower learning_rate, or another start.")
