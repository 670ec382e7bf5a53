"""The live bar of a training, fed by lines of its metrics file: by the trainer itself, or by who
follows the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mentor_kit.runs.progress import ProgressBar

SHOWN = ("loss", "reward", "judge_accuracy", "val/accuracy")


class StepBar:
    """Steps done, and the last values of what is worth watching."""

    def __init__(self, steps: int, name: str) -> None:
        self.bar = ProgressBar(steps, name, "step")
        self.last: dict[str, str] = {}

    def show(self, line: Mapping[str, Any]) -> None:
        """One line of metrics, with its `step`."""
        self.last |= {k: f"{line[k]:.3f}" for k in SHOWN if line.get(k) is not None}
        note = ", ".join(f"{name}={value}" for name, value in self.last.items())
        self.bar.update(line["step"] - self.bar.done, note)

    def close(self) -> None:
        self.bar.close()
