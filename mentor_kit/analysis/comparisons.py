"""Figures that compare methods on evaluated items: accuracy by split, ablations, seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mentor_kit.analysis.style import (
    EXPECTED,
    TEXT,
    Picture,
    front,
    label,
    legend_handle,
    method_style,
    missing_note,
    note_below,
    ordered,
    picture,
    row_axis,
    say,
    split_label,
    unit_axis,
)
from mentor_kit.analysis.summaries import (
    IN_DOMAIN,
    LAST_SPLIT,
    by_seed,
    in_and_out,
    metric_intervals,
    n_seeds,
    ordered_splits,
    paired_difference,
    seed_scores,
    seeds_said,
)
from mentor_kit.errors import UserError
from mentor_kit.metrics.bootstrap import iqm, performance_profile, stratified_bootstrap

CONTROLS = ("sft", "cold_start_constrained")  # drawn as level lines
# splits on which no method's accuracy is above this are named, not drawn (if items suffice to tell)
FLOOR = 0.02
ITEM_BARS = "bars: 95% bootstrap intervals over items, each item's mean over seeds"


def methods_of(items: pd.DataFrame) -> list[str]:
    if items.empty:
        raise UserError("No evaluated items: run the evaluation stage first.")
    return ordered(items["method"].unique())


def row_labels(methods: Sequence[str]) -> list[str]:
    return [method_style(m, methods).label.replace(", ", ",\n") for m in methods]


def dots_said(items: pd.DataFrame) -> str:
    return "; small dots: seeds" if n_seeds(items) >= 2 else ""


@picture
def accuracy_by_split(items: pd.DataFrame, expected: Sequence[str] = EXPECTED) -> Picture:
    """Accuracy of every method on every split; SFT and the constrained cold start as level lines.

    Splits on which every method is at the floor are named in the note and the caption (if all are,
    all are drawn).

    Args:
        items: columns method, seed, split, problem_id, correct.

    Raises:
        UserError: no items.
    """
    methods, table, seeds = (
        methods_of(items),
        metric_intervals(items, "correct"),
        by_seed(items, "correct"),
    )
    splits, floors = _drawn_splits(ordered_splits(items["split"]), table)
    points = [m for m in methods if m not in CONTROLS] or methods
    levels = [m for m in methods if m not in points]
    figure = Figure(figsize=(TEXT, 2.9))
    axes = figure.subplots()
    for method in methods:
        rows, dots = (t[(t["method"] == method) & t["split"].isin(splits)] for t in (table, seeds))
        rows = rows.assign(x=rows["split"].map(splits.index))
        if method in points:
            _split_points(axes, rows, dots, method, methods, points, splits)
        else:
            _level_lines(axes, rows, method, width=1.8 - 0.7 * levels.index(method))
    _split_axis(axes, splits, table)
    handles = [legend_handle(m, methods, line=False) if m in points
               else legend_handle(m, methods, marker="")
               for m in methods]
    figure.legend(handles=handles, ncols=min(len(handles), 5), loc="outside upper left")
    missing, names = missing_note(methods, expected), ", ".join(map(split_label, floors))
    note_below(figure, f"{missing} No method above {FLOOR:g} and not drawn: {names}.".strip()
               if floors else missing)
    controls = _controls_said(levels)
    return figure, f"""Accuracy by the judge on every split, all asked items in the denominator
        ({seeds_said(items)} a method; {ITEM_BARS}{dots_said(items)}). {controls}
        {_rules_said(splits)} {_floors_said(floors)} {missing}"""


def _drawn_splits(splits: list[str], table: pd.DataFrame) -> tuple[list[str], dict[str, float]]:
    """The splits to draw, and those at the floor with the highest accuracy there (none if all of
    them are)."""
    highest = table[table["n"] >= 1 / FLOOR].groupby("split")["estimate"].max()
    floors = {s: float(highest[s]) for s in splits if s in highest and highest[s] <= FLOOR}
    return (splits, {}) if len(floors) == len(splits) else ([s for s in splits if s not in floors],
                                                            floors)


def _controls_said(levels: list[str]) -> str:
    said = {
        "sft": "SFT on clean trajectories",
        "cold_start_constrained": "the cold start, decoded so that it writes only tools that exist",
    }
    names = " and ".join(said[m] for m in CONTROLS if m in levels)
    return f"Level lines with shaded intervals are controls: {names}." if names else ""


def _rules_said(splits: list[str]) -> str:
    home = (
        "Left of the first dark rule: in domain."
        if splits[0] == IN_DOMAIN and len(splits) > 1
        else ""
    )
    last = """Right of the last: problems for which every attempt of the teacher was rejected, its
        answer right or wrong.""" if splits[-1] == LAST_SPLIT and len(splits) > 1 else ""
    return f"{home} {last}"


def _floors_said(floors: dict[str, float]) -> str:
    said = ", ".join(f"{split_label(s)} (at most {highest:.3f})" for s, highest in floors.items())
    return (
        f"Not drawn, as no method's accuracy is above {FLOOR:g} there (see the tables): {said}."
        if floors
        else ""
    )


def _level_lines(axes: Axes, rows: pd.DataFrame, method: str, width: float) -> None:
    """A level line a split with its interval; lines of different width stay visible where they
    coincide."""
    s = method_style(method)
    axes.bar(rows["x"], rows["high"] - rows["low"], width=0.86, bottom=rows["low"], color=s.color,
             alpha=0.15,
             linewidth=0)
    axes.hlines(rows["estimate"], rows["x"] - 0.43, rows["x"] + 0.43, color=s.color,
                linestyle=s.linestyle,
                linewidth=width)


def _split_points(axes: Axes, rows: pd.DataFrame, seeds: pd.DataFrame, method: str,
                  methods: list[str],
                  points: list[str], splits: list[str]) -> None:
    s, width = method_style(method, methods), 0.72 / max(len(points), 2)
    shift = (points.index(method) - (len(points) - 1) / 2) * width
    spread = np.abs(rows[["low", "high"]].to_numpy().T - rows["estimate"].to_numpy())
    axes.errorbar(rows["x"] + shift, rows["estimate"], spread, color=s.color, marker=s.marker,
                  linestyle="none",
                  elinewidth=0.9, markersize=4.2, zorder=front(method))
    if seeds["seed"].nunique() >= 2:
        axes.plot(seeds["split"].map(splits.index) + shift + 0.36 * width, seeds["value"], ".",
                  color=s.color,
                  markersize=1.6)


def _split_axis(axes: Axes, splits: list[str], table: pd.DataFrame) -> None:
    counts = table.groupby("split")["n"].max()
    axes.set_xticks(range(len(splits)),
                    [f"{split_label(s, lines=True)}\n(n = {counts.get(s, 0)})" for s in splits])
    axes.set(xlim=(-0.5, len(splits) - 0.5), ylabel="accuracy")
    unit_axis(axes)
    axes.tick_params(axis="x", length=0)
    for i in range(len(splits) - 1):
        rule = splits[i] == IN_DOMAIN or splits[i + 1] == LAST_SPLIT
        axes.axvline(i + 0.5, color="#404040" if rule else "#e4e4e4", linewidth=0.6)


ABLATIONS = (("correct", "Accuracy"), ("set_match", "Tool-set match"),
             ("unknown_tool", "Unknown-tool rate"))


@picture
def ablation_bars(items: pd.DataFrame, baseline: str = "mentor") -> Picture:
    """Difference of every other method to MENTOR, in and out of domain, with paired intervals over
    items.

    Raises:
        UserError: the baseline, or everything else, is missing.
    """
    methods = [m for m in methods_of(items) if m != baseline]
    if not methods or baseline not in set(items["method"]):
        found = ", ".join(ordered(items["method"].unique()))
        raise UserError(f"Ablation bars need {baseline!r} and another method; these results have "
                        f"{found}.")
    items = in_and_out(items)
    figure = Figure(figsize=(TEXT, 1.0 + 0.22 * len(methods)))
    panels = figure.subplots(1, len(ABLATIONS), sharey=True)
    for axes, (column, title) in zip(panels, ABLATIONS, strict=True):
        for row, method in enumerate(methods):
            _difference_bars(axes, items, column, row, method, baseline, methods)
        if not axes.dataLim.width:
            say(axes, "all 0" if axes.patches else "not measured")
        axes.axvline(0, color="#202020", linewidth=0.7)
        axes.set(title=title, xlabel=f"difference to {label(baseline)}")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        row_axis(axes, row_labels(methods))
    figure.legend(handles=[Patch(color="#707070", label="in domain"),
                           Patch(facecolor="white", edgecolor="#707070", hatch="//////",
                                 label="out of domain")],
                  ncols=2, loc="outside upper left")
    return figure, f"""Each method minus {label(baseline)}: filled bars in domain, hatched bars over
        all shifted splits ({seeds_said(items)} a method; lines: 95% paired bootstrap intervals over
        items, each item's mean over seeds)."""


def _difference_bars(axes: Axes, items: pd.DataFrame, column: str, row: int, method: str,
                     baseline: str,
                     methods: list[str]) -> None:
    color = method_style(method, methods).color
    for i, split in enumerate(sorted(items["split"].unique())):
        found = paired_difference(items[items["split"] == split], column, method, baseline)
        if found is not None:
            y = row + 0.38 * (i - 0.5)
            axes.barh(y, found.estimate, height=0.34, color=color if not i else "white",
                      edgecolor=color,
                      hatch=None if not i else "//////")
            axes.plot([found.low, found.high], [y, y], color="#202020", linewidth=0.9,
                      solid_capstyle="butt")


@picture
def seeds_summary(items: pd.DataFrame) -> Picture:
    """Interquartile mean over seeds and splits with its interval, and performance profiles. Needs
    two seeds.

    Raises:
        UserError: a method has only one seed, for which there is no interval.
    """
    methods = methods_of(items)
    scores = {m: seed_scores(items[items["split"] != LAST_SPLIT], m) for m in methods}
    if min(len(s) for s in scores.values()) < 2:
        raise UserError("Intervals over seeds need at least two seeds of every method: add seeds "
                        "to the study.")
    figure = Figure(figsize=(TEXT * 0.85, 1.2 + 0.2 * max(len(methods), 5)))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    taus = np.linspace(0, 1, 201)
    for row, method in enumerate(methods):
        s, found = method_style(method, methods), stratified_bootstrap(scores[method], iqm)
        left.barh(row, found.high - found.low, left=found.low, height=0.5, color=s.color,
                  alpha=0.35)
        left.plot(found.estimate, row, s.marker, color=s.color)
        right.plot(taus, performance_profile(scores[method], taus), color=s.color,
                   linestyle=s.linestyle, linewidth=1.1,
                   marker=s.marker, markersize=3, markevery=(5 + 3 * row, 40))
    left.set(title="Interquartile mean", xlabel="accuracy")
    left.use_sticky_edges = False
    row_axis(left, row_labels(methods))
    right.set(title="Performance profile", xlabel="accuracy τ",
              ylabel="share of (seed, split) above τ")
    unit_axis(right)
    figure.legend(handles=[legend_handle(m, methods, markersize=3.5) for m in methods],
                  ncols=min(len(methods), 4),
                  loc="outside upper left")
    return figure, f"""Over {seeds_said(items)} and {scores[methods[0]].shape[1]} splits (without
        the teacher-rejected items): interquartile mean with its 95% stratified bootstrap interval
        over seeds (left; bars), and the share of (seed, split) pairs above each accuracy
        (right)."""
