"""What methods reach, and what it costs: accuracy in and out of domain against the tokens that the
student sampled and the tokens of a teacher.

    rows = evaluated_students("results/rivals")
    figures.show(accuracy_by_cost(rows))

A study may cross methods with levels of the cold start and with teachers; each of these cells is a
row of panels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mentor_kit.analysis.conditions import LEVEL, QUIRK, TEACHERLESS, run_conditions
from mentor_kit.analysis.frame import EVALUATE, find_runs
from mentor_kit.analysis.style import (
    TEXT,
    Picture,
    legend_above,
    legend_handle,
    method_style,
    ordered,
    picture,
    split_label,
    unit_axis,
)
from mentor_kit.analysis.summaries import IN_DOMAIN
from mentor_kit.core.records import load_records
from mentor_kit.errors import UserError
from mentor_kit.runs.open import load_run
from mentor_kit.runs.run import Run

CELL = ["level", "teacher"]
COSTS = {"sampled_tokens": "sampled tokens (thousands)",
         "teacher_tokens": "teacher tokens (thousands)"}
TOKENS = [*COSTS, "teacher_forwards"]
CLEAN, QUIRKY, NONE = "clean", "quirky", "none read"


def evaluated_students(where: Path | str) -> pd.DataFrame:
    """One row an evaluated student of a study.

    Returns:
        level (of the cold start), teacher (`clean`, `quirky`, or `none read`), method, seed,
        in_domain and out_of_domain (accuracy; out of domain the mean of the other splits), the
        accuracy of each split under its name, and the budget of its training.

    Raises:
        UserError: there is no finished evaluation.
    """
    found = [load_run(folder) for folder in find_runs([where])[0]
             if folder.parent.name.startswith(EVALUATE)]
    if not found:
        raise UserError(f"No finished evaluation below {str(where)!r}: run the study's stage "
                        "`evaluate` first.")
    return pd.DataFrame([_row(run) for run in found]).sort_values(
        [*CELL, "method", "seed"], ignore_index=True)


def _row(run: Run) -> dict[str, Any]:
    correct = pd.DataFrame([(r.problem.split, bool(r.trajectory.meta["correct"]))
                            for r in load_records(run.path("trajectories.parquet"))],
                           columns=["split", "correct"])
    splits = correct.groupby("split")["correct"].mean()
    student = load_run(run.dir.parent.parent / run.inputs["student_run"])
    budget = json.loads((student.dir / "budget.json").read_text(encoding="utf-8"))
    trained = student.stage.startswith("train")
    others = splits.drop(IN_DOMAIN, errors="ignore")
    conditions = run_conditions(run, load_run)
    method = student.params["method"] if trained else student.stage
    read = trained and method not in TEACHERLESS
    return {"level": conditions[LEVEL],
            "teacher": (QUIRKY if conditions[QUIRK] else CLEAN) if read else NONE,
            "method": method, "seed": student.params["seed"], IN_DOMAIN: splits.get(IN_DOMAIN),
            "out_of_domain": others.mean(), **others,
            **{name: budget.get(name, 0) if trained else 0 for name in TOKENS}}


@picture
def accuracy_by_cost(rows: pd.DataFrame) -> Picture:
    """Accuracy in domain (upper panels of a level) and out of domain (lower) against sampled and
    against teacher tokens; a mark is the mean over seeds, its bar their range.

    Args:
        rows: see `evaluated_students`.

    Raises:
        UserError: no student was trained.
    """
    trained = rows[rows[TOKENS].sum(axis=1) > 0]
    if trained.empty:
        raise UserError("No evaluated student was trained: a cost figure needs methods.")
    levels = list(dict.fromkeys(trained["level"]))
    panels = [(level, split) for level in levels for split in (IN_DOMAIN, "out_of_domain")]
    figure = Figure(figsize=(TEXT, 1.9 * len(panels)))
    grid = figure.subplots(len(panels), len(COSTS), squeeze=False, sharey=True)
    for line, (level, split) in zip(grid, panels, strict=True):
        for axes, cost in zip(line, COSTS, strict=True):
            _panel(axes, trained[trained["level"] == level], split, cost)
            axes.set_title(f"{split_label(split).capitalize()}, {level} cold start")
        line[0].set_ylabel("accuracy")
    for axes, name in zip(grid[-1], COSTS.values(), strict=True):
        axes.set_xlabel(name)
    methods = ordered(trained["method"].unique())
    legend_above(figure, [legend_handle(m, methods, line=False) for m in methods])
    seeds = trained["seed"].nunique()
    return figure, f"""Accuracy against the tokens that a training sampled (left) and the tokens of
        the teacher's trajectories that it was trained on (right). Filled: the clean teacher's
        references, or none read; open: the quirky teacher's. Means over {seeds} cold start(s), bars
        from the lowest to the highest. A white-box teacher's forward passes are no tokens."""


def _panel(axes: Axes, rows: pd.DataFrame, split: str, cost: str) -> None:
    methods = ordered(rows["method"].unique())
    for (method, teacher), group in rows.groupby(["method", "teacher"]):
        style, y = method_style(method, methods), group[split]
        axes.errorbar([group[cost].mean() / 1e3], [y.mean()],
                      [[y.mean() - y.min()], [y.max() - y.mean()]], color=style.color,
                      marker=style.marker, linestyle="none", elinewidth=0.8,
                      markerfacecolor="white" if teacher == QUIRKY else style.color)
    axes.set_xlim(left=-0.02 * max(rows[cost].max() / 1e3, 1e-3))
    unit_axis(axes)
