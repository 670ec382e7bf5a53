"""What a run's tracker gets besides the trainer's own metrics: validation, and rollouts as a table.

trackio and wandb have the same `log` and `Table`; what they get here stands under the names of
`metrics.jsonl`, and tables under `rollouts`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import pandas as pd

from mentor_kit.core.records import Record
from mentor_kit.runs.run import Run
from mentor_kit.training import processes

PROJECT = "mentor-kit"
WITH_TABLES = ("trackio", "wandb")
ROWS = 32  # of a table: the first rollouts of the step, so groups stay together
CHARACTERS = 4000  # of a prompt or a completion


class Tracker:
    """Sends to the tracker that a training reports to, from the first process.

    The trainer opens the tracker when its training begins; what is sent before waits for that.

    Args:
        name: `report_to` of the training; others than trackio and wandb get nothing from here.
        run_name: the tracker's name of the run.
    """

    def __init__(self, name: str, run_name: str) -> None:
        used = name in WITH_TABLES and processes.is_first()
        self.package = importlib.import_module(name) if used else None
        if self.package and name == "trackio":
            # the first opening of a project in a notebook would show its dashboard there, whose
            # address holds a key: not for a stored notebook
            self.package.init(PROJECT, run_name, resume="allow", embed=False, auto_log_cpu=False,
                              auto_log_gpu=False)
            self.package.finish()
        self.is_open = False
        self.waiting: list[tuple[int, dict[str, Any]]] = []

    def open(self) -> None:
        """The trainer has opened the tracker."""
        self.is_open = True
        for step, values in self.waiting:
            self.send(step, values)
        self.waiting.clear()

    def send(self, step: int, values: dict[str, Any]) -> None:
        """Values of an optimizer step, by name."""
        if self.package and self.is_open:
            self.package.log({**values, "train/global_step": step})
        elif self.package:
            self.waiting.append((step, values))

    def send_rollouts(self, step: int, rollouts: Sequence[Record]) -> None:
        """The first rollouts of a step, as a table; see `rollout_rows`."""
        if self.package:
            frame = pd.DataFrame(rollout_rows(step, rollouts[:ROWS]))
            self.send(step, {"rollouts": self.package.Table(dataframe=frame)})


def run_name(method: str, seed: int, run: Run) -> str:
    """The tracker's name of a run: a training that continues continues there too."""
    return f"{method}-seed{seed}-{run.key}"


def rollout_rows(step: int, rollouts: Sequence[Record]) -> list[dict[str, Any]]:
    """Scored rollouts as rows of a table: what was asked and written, the reward, its terms and
    the judge's word. Long texts are cut at `CHARACTERS`."""
    names = sorted({name for r in rollouts for name in r.trajectory.meta["terms"]})
    rows = []
    for record in rollouts:
        meta = record.trajectory.meta
        row = {"step": step, "problem": record.problem.id,
               "prompt": record.problem.question[:CHARACTERS],
               "completion": record.trajectory.to_text()[:CHARACTERS], "reward": meta["reward"]}
        row |= {f"term/{name}": meta["terms"].get(name, 0.0) for name in names}
        rows.append(row | {"correct": bool(meta["correct"]), "tokens": meta["tokens"]})
    return rows
