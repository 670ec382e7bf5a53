"""Figures of what a study varies beside method and seed: when does which reward work?

Each takes `Results.items` (or the curves) of one study under all conditions, and draws those that
it is about; the others are held at their main values (`conditions.main_cell`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mentor_kit.analysis.conditions import (
    LEVEL,
    QUIRK,
    SIZE,
    TEMPERATURE,
    at,
    at_main,
    condition_text,
    decoded_items,
    held_text,
    levels_of,
    map_cells,
    varying_items,
)
from mentor_kit.analysis.curves import seed_table
from mentor_kit.analysis.style import (
    TEXT,
    Picture,
    error_bars,
    label,
    legend_above,
    legend_handle,
    method_style,
    ordered,
    picture,
    remark,
    row_axis,
    split_label,
    unit_axis,
)
from mentor_kit.analysis.summaries import (
    in_and_out,
    n_seeds,
    seed_intervals,
    seeds_text,
)
from mentor_kit.errors import UserError

SMOOTH = 5  # steps of the running mean in `groups_with_signal`


def over_text(items: pd.DataFrame) -> str:
    """What the intervals of these items are over."""
    return ("95% intervals over cold starts and items" if n_seeds(items) > 1
            else "95% intervals over items: one cold start")


@picture
def regime_map(items: pd.DataFrame) -> Picture:
    """Accuracy by level of the cold start and reward, in domain and out of domain, for each teacher
    that was tried at several levels.

    Raises:
        UserError: no items, or cold starts of one level only.
    """
    items, doses = map_cells(items)
    methods, splits = ordered(items["method"].unique()), list(dict.fromkeys(items["split"]))
    figure = Figure(figsize=(TEXT, 0.25 + len(doses) * (0.35 + 0.235 * len(methods))))
    grid = figure.subplots(len(doses), len(splits), squeeze=False, sharex=True, sharey=True)
    for row, dose in zip(grid, doses, strict=True):
        of_dose = items if np.isnan(dose) else at(items, {QUIRK: dose})
        teacher = condition_text({QUIRK: dose})
        for axes, split in zip(row, splits, strict=True):
            _map_panel(axes, of_dose[of_dose["split"] == split], methods, levels_of(items))
            axes.set_title(f"{split_label(split).capitalize()}{f', {teacher}' if teacher else ''}")
    counts = items.groupby("split")["problem_id"].nunique()
    asked = ", ".join(f"{counts[s]} {split_label(s)}" for s in splits)
    return figure, f"""Accuracy by how often the student succeeds before fine-tuning (columns) and
        by method (rows); brackets: {over_text(items)} ({seeds_text(items)} a method; items:
        {asked}). Methods that do not read the teacher's trajectories are the same for every
        teacher. {held_text(items)}"""


def _map_panel(axes: Axes, items: pd.DataFrame, methods: list[str], levels: list[str]) -> None:
    values = np.full((len(methods), len(levels)), np.nan)
    for column, level in enumerate(levels):
        for row in seed_intervals(items[items[LEVEL] == level]).itertuples():
            place = methods.index(row.method)
            values[place, column] = row.estimate
            color = "white" if row.estimate > 0.6 else "#202020"
            axes.text(column, place - 0.12, _short(row.estimate), ha="center", va="center",
                      fontsize=7, color=color)
            axes.text(column, place + 0.27, f"[{_short(row.low)}, {_short(row.high)}]",
                      ha="center", va="center", fontsize=5.5, color=color)
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1.1, aspect="auto")
    axes.set_xticks(range(len(levels)), levels)
    row_axis(axes, [label(m, methods) for m in methods])
    axes.grid(False)
    axes.tick_params(axis="x", length=0)


def _short(value: float) -> str:
    return f"{value:.2f}".lstrip("0") if value < 0.995 else "1.0"


@picture
def quirk_dose(items: pd.DataFrame) -> Picture:
    """Accuracy against the teacher's dose of idle calls, in domain and out of domain; methods that
    do not read the teacher are level lines.

    Raises:
        UserError: no items, or no method with two doses.
    """
    items = varying_items(items, QUIRK)
    figure = _lines(items, QUIRK, "dose of the teacher's quirks")
    return figure, f"""Accuracy against the teacher's dose: the chance that it makes a call twice
        (its answers are right at every dose). Bars: {over_text(items)} ({seeds_text(items)} a
        method). Level lines: methods that do not read its trajectories. {held_text(items)}"""


@picture
def data_scaling(items: pd.DataFrame) -> Picture:
    """Accuracy against the number of training references, in domain and out of domain; methods
    without references are level lines.

    Raises:
        UserError: no items, or no method with two numbers of references.
    """
    items = varying_items(items, SIZE)
    figure = _lines(items, SIZE, "training references")
    return figure, f"""Accuracy against training references. Bars: {over_text(items)}
        ({seeds_text(items)} a method). Level lines: methods that learn from none.
        {held_text(items)}"""


def _lines(items: pd.DataFrame, name: str, words: str) -> Figure:
    """A line a method over a condition, a panel in domain and one out of domain."""
    items, methods = in_and_out(items), ordered(items["method"].unique())
    splits, values = list(dict.fromkeys(items["split"])), sorted(items[name].dropna().unique())
    log = min(values) > 0 and max(values) > 4 * min(values)
    figure = Figure(figsize=(TEXT, 2.7))
    panels = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    for axes, split in zip(panels, splits, strict=True):
        for place, method in enumerate(methods):
            rows = items[(items["split"] == split) & (items["method"] == method)]
            shift = (place - len(methods) / 2) * 0.012
            _line(axes, rows, name, method, methods, lambda v, s=shift: v * (1 + 2 * s) if log
                  else v + s * max(values))
        axes.set(title=split_label(split).capitalize(), xlabel=words)
        if log:
            axes.set_xscale("log")
        axes.set_xticks(values, [f"{v:g}" for v in values])
        axes.minorticks_off()
        unit_axis(axes)
    panels[0].set_ylabel("accuracy")
    legend_above(figure, [legend_handle(m, methods) for m in methods])
    return figure


def _line(axes: Axes, items: pd.DataFrame, name: str, method: str, among: Sequence[str],
          nudge: Callable[[float], float]) -> None:
    s = method_style(method, among)
    if items[name].notna().any():
        rows = pd.concat([seed_intervals(group).assign(value=value)
                          for value, group in items.groupby(name)])
        axes.errorbar([nudge(v) for v in rows["value"]], rows["estimate"], error_bars(rows),
                      color=s.color, linestyle=s.linestyle, marker=s.marker, elinewidth=0.8)
    elif len(items):
        row = seed_intervals(items).iloc[0]
        axes.axhspan(row["low"], row["high"], color=s.color, alpha=0.08, linewidth=0)
        axes.axhline(row["estimate"], color=s.color, linestyle=s.linestyle)


@picture
def sampled_and_greedy(items: pd.DataFrame) -> Picture:
    """In-domain accuracy of the same students decoded greedily and sampled, by level of the cold
    start.

    Raises:
        UserError: no items, or evaluations at one temperature only.
    """
    items, warm = decoded_items(items)
    methods, levels = ordered(items["method"].unique()), levels_of(items) or [None]
    figure = Figure(figsize=(TEXT, 0.75 + 0.2 * len(methods)))
    for axes, level in zip(figure.subplots(1, len(levels), sharey=True, squeeze=False)[0], levels,
                           strict=True):
        here = items[items[LEVEL] == level] if level else items
        for temperature, face in ((warm[0], None), (warm[-1], "white")):
            for row in seed_intervals(here[here[TEMPERATURE] == temperature]).itertuples():
                s, place = method_style(row.method, methods), methods.index(row.method)
                axes.errorbar(row.estimate, place + (0.14 if face else -0.14),
                              xerr=[[row.estimate - row.low], [row.high - row.estimate]],
                              color=s.color, marker=s.marker, elinewidth=0.8,
                              markerfacecolor=face or s.color)
        row_axis(axes, [label(m, methods) for m in methods])
        axes.set(title=condition_text({LEVEL: level}).capitalize() if level else "In domain",
                 xlim=(-0.03, 1.03), xlabel="accuracy")
        axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    marks = [Line2D([], [], color="#404040", marker="o", linestyle="none", label=text,
                    markerfacecolor=face)
             for text, face in ((condition_text({TEMPERATURE: warm[0]}), "#404040"),
                                (condition_text({TEMPERATURE: warm[-1]}), "white"))]
    legend_above(figure, marks)
    return figure, f"""In-domain accuracy of the same students, {marks[0].get_label()} (filled) and
        sampled at {marks[1].get_label()} (hollow; each item's mean over its samples). Bars:
        {over_text(items)} ({seeds_text(items)} a method). Training sees samples, not the greedy
        answer."""


SIGNAL = {"differs": "groups with\ndifferent rewards", "mixed": "groups with right\nand wrong"}


def signal_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves with `differs`, the share of groups whose rewards differ, and `mixed`, the share
    whose answers are partly right.

    Raises:
        UserError: neither was logged.
    """
    curves = at_main(curves, (LEVEL,))
    answers = [c for c in curves if c.startswith("varies/answer")]
    if "frac_reward_zero_std" not in curves or curves["frac_reward_zero_std"].isna().all():
        raise UserError("No groups in the training curves: only RL methods log them.")
    mixed = curves[answers].bfill(axis=1).iloc[:, 0] if answers else np.nan
    return curves.assign(differs=1 - curves["frac_reward_zero_std"], mixed=mixed).dropna(
        subset="differs")


@picture
def groups_with_signal(curves: pd.DataFrame) -> Picture:
    """Share of groups that teach anything (their rewards differ), and of groups with right and
    wrong answers, over training steps, by level of the cold start.

    Raises:
        UserError: no RL method logged its groups.
    """
    curves = signal_curves(curves)
    methods, levels = ordered(curves["method"].unique()), levels_of(curves) or [None]
    rows = [c for c in SIGNAL if curves[c].notna().any()]
    figure = Figure(figsize=(TEXT if len(levels) > 2 else TEXT * 0.7, 0.5 + 1.35 * len(rows)))
    grid = figure.subplots(len(rows), len(levels), sharex=True, sharey=True, squeeze=False)
    for panels, column in zip(grid, rows, strict=True):
        for axes, level in zip(panels, levels, strict=True):
            here = curves[curves[LEVEL] == level] if level else curves
            for method in methods:
                table = seed_table(here, method, column).mean(axis=1)
                s = method_style(method, methods)
                axes.plot(table.index, table.rolling(SMOOTH, min_periods=1).mean(), color=s.color,
                          linestyle=s.linestyle, linewidth=1)
            unit_axis(axes)
            if not axes.lines:
                remark(axes, "not logged")
        panels[0].set_ylabel(SIGNAL[column])
    for axes, level in zip(grid[0], levels, strict=True):
        axes.set_title(condition_text({LEVEL: level}).capitalize() if level else "Training")
    for axes in grid[-1]:
        axes.set_xlabel("optimizer step")
    legend_above(figure, [legend_handle(m, methods, marker="") for m in methods])
    return figure, f"""Share of groups of rollouts that give a gradient (top: rewards differ within
        the group) and that tell right from wrong (bottom); means over {seeds_text(curves)} and
        {SMOOTH} steps. A reward that differs where answers do not pays for something else.
        {held_text(curves)}"""
