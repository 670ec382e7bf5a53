"""Figures that compare methods on evaluated items: accuracy by split, ablations, seeds."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mentor_kit.analysis.conditions import held_text
from mentor_kit.analysis.style import (
    EXPECTED,
    STEPS,
    TEXT,
    Picture,
    error_bars,
    focus,
    label,
    legend_above,
    legend_handle,
    method_style,
    missing_note,
    note_below,
    ordered,
    picture,
    remark,
    row_axis,
    split_label,
    unit_axis,
    zorder,
)
from mentor_kit.analysis.summaries import (
    IN_DOMAIN,
    LAST_SPLIT,
    OUT_OF_DOMAIN,
    by_seed,
    fewer_items_text,
    in_and_out,
    metric_intervals,
    n_seeds,
    ordered_splits,
    paired_difference,
    refuse_empty,
    seed_scores,
    seeds_text,
)
from mentor_kit.errors import UserError
from mentor_kit.metrics.bootstrap import iqm, performance_profile, stratified_bootstrap

# drawn as level lines, with what they are; SFT only where there is no SFT on a clean teacher
CONTROLS = {"sft": "SFT on the teacher's trajectories",
            "sft_clean": "SFT on a clean teacher's trajectories",
            "cold_start_constrained": "the cold start, decoded so that it writes only tools that "
                                      "exist"}
# splits on which no method's accuracy is above this are named, not drawn (if items suffice to tell)
FLOOR = 0.02
ROW = 7  # splits beside each other
ITEM_BARS = ("bars: 95% intervals over items, each item's mean over seeds; bootstrap, Wilson's "
             "where every item is alike")


def methods_of(items: pd.DataFrame) -> list[str]:
    refuse_empty(items)
    return ordered(items["method"].unique())


def row_labels(methods: Sequence[str]) -> list[str]:
    """Labels of rows, in lines that leave room for the rows."""
    return [textwrap.fill(label(m, methods), 22) for m in methods]


def dots_text(items: pd.DataFrame) -> str:
    return "; small dots: seeds" if n_seeds(items) >= 2 else ""


@picture
def accuracy_by_split(items: pd.DataFrame, expected: Sequence[str] = EXPECTED) -> Picture:
    """Accuracy of every method on every split; SFT and the constrained cold start as level lines.

    Splits on which every method is at the floor are named in the note and the caption (if all are,
    all are drawn). Many splits take several rows.

    Args:
        items: columns method, seed, split, problem_id, correct.

    Raises:
        UserError: no items.
    """
    methods, table = methods_of(items), metric_intervals(items, "correct")
    seeds = by_seed(items, "correct")
    splits, floors = _drawn_splits(ordered_splits(items["split"]), table)
    controls = set(CONTROLS) - ({"sft"} if "sft_clean" in methods else set())
    points = [m for m in methods if m not in controls] or methods
    levels = [m for m in methods if m not in points]
    rows = -(-len(splits) // ROW)
    columns = -(-len(splits) // rows)
    figure = Figure(figsize=(TEXT, 0.5 + 2.4 * rows))
    for i, axes in enumerate(figure.subplots(rows, 1, squeeze=False)[:, 0]):
        drawn = splits[i * columns:(i + 1) * columns]
        for method in methods:
            of_method = table[(table["method"] == method) & table["split"].isin(drawn)]
            of_method = of_method.assign(x=of_method["split"].map(drawn.index))
            if method in levels:
                _level_lines(axes, of_method, method, width=1.8 - 0.7 * levels.index(method))
                continue
            dots = seeds[(seeds["method"] == method) & seeds["split"].isin(drawn)]
            dots = dots.assign(x=dots["split"].map(drawn.index))
            _split_points(axes, of_method, dots, method, methods, points)
        _split_axis(axes, drawn, table, columns)
    handles = [legend_handle(m, methods, line=False) if m in points
               else legend_handle(m, methods, marker="") for m in methods]
    legend_above(figure, handles)
    missing, names = missing_note(methods, expected), ", ".join(map(split_label, floors))
    low = f"No method above {FLOOR:g} and not drawn: {names}." if floors else ""
    note_below(figure, f"{missing} {low}".strip())
    return figure, f"""Accuracy by the judge on every split, all asked items in the denominator
        ({seeds_text(items)} a method; {ITEM_BARS}{dots_text(items)}). {_controls_text(levels)}
        {_rules_text(splits)} {_floors_text(floors)} {fewer_items_text(table)}
        {held_text(items)} {missing}"""


def _drawn_splits(splits: list[str], table: pd.DataFrame) -> tuple[list[str], dict[str, float]]:
    """The splits to draw, and those at the floor with the highest accuracy there (none if all of
    them are)."""
    highest = table[table["n"] >= 1 / FLOOR].groupby("split")["estimate"].max()
    floors = {s: float(highest[s]) for s in splits if s in highest and highest[s] <= FLOOR}
    if len(floors) == len(splits):
        return splits, {}
    return [s for s in splits if s not in floors], floors


def _controls_text(levels: list[str]) -> str:
    names = " and ".join(text for method, text in CONTROLS.items() if method in levels)
    return f"Level lines with shaded intervals are controls: {names}." if names else ""


def _rules_text(splits: list[str]) -> str:
    if len(splits) < 2:
        return ""
    home = "Left of the first dark rule: in domain." if splits[0] == IN_DOMAIN else ""
    last = """Right of the last: problems for which every attempt of the teacher was rejected, its
        answer right or wrong.""" if splits[-1] == LAST_SPLIT else ""
    return f"{home} {last}"


def _floors_text(floors: dict[str, float]) -> str:
    if not floors:
        return ""
    names = ", ".join(f"{split_label(s)} (at most {highest:.3f})" for s, highest in floors.items())
    return f"Not drawn, as no method's accuracy is above {FLOOR:g} there (see the tables): {names}."


def _level_lines(axes: Axes, rows: pd.DataFrame, method: str, width: float) -> None:
    """A level line a split with its interval; lines of different width stay visible where they
    coincide."""
    s = method_style(method)
    axes.bar(rows["x"], rows["high"] - rows["low"], width=0.86, bottom=rows["low"], color=s.color,
             alpha=0.15, linewidth=0)
    axes.hlines(rows["estimate"], rows["x"] - 0.43, rows["x"] + 0.43, color=s.color,
                linestyle=s.linestyle, linewidth=width)


def _split_points(axes: Axes, rows: pd.DataFrame, dots: pd.DataFrame, method: str,
                  methods: list[str], points: list[str]) -> None:
    s, width = method_style(method, methods), 0.72 / max(len(points), 2)
    shift = (points.index(method) - (len(points) - 1) / 2) * width
    size = 4.2 if len(points) <= 8 else 3.2
    axes.errorbar(rows["x"] + shift, rows["estimate"], error_bars(rows), color=s.color,
                  marker=s.marker, linestyle="none", elinewidth=0.9, markersize=size,
                  zorder=zorder(method))
    if dots["seed"].nunique() >= 2:
        axes.plot(dots["x"] + shift + 0.36 * width, dots["value"], ".", color=s.color,
                  markersize=1.6)


def _split_axis(axes: Axes, splits: list[str], table: pd.DataFrame, columns: int) -> None:
    counts = table.groupby("split")["n"].agg(["min", "max"])
    ticks = [f"{split_label(s, lines=True)}\n(n = {low}{f' to {high}' if high > low else ''})"
             for s, (low, high) in zip(splits, counts.loc[splits].to_numpy(), strict=True)]
    axes.set_xticks(range(len(splits)), ticks)
    axes.set(xlim=(-0.5, columns - 0.5), ylabel="accuracy")
    unit_axis(axes)
    axes.tick_params(axis="x", length=0)
    for i in range(len(splits) - 1):
        rule = splits[i] == IN_DOMAIN or splits[i + 1] == LAST_SPLIT
        axes.axvline(i + 0.5, color="#404040" if rule else "#e4e4e4", linewidth=0.6)


ABLATIONS = (("correct", "Accuracy"), ("set_match", "Tool-set match"),
             ("unknown_tool", "Unknown-tool rate"))


@picture
def ablation_bars(items: pd.DataFrame, baseline: str = "") -> Picture:
    """Difference of every other method to MENTOR (where it is there, see `style.focus`), in and out
    of domain, with paired intervals over items.

    Raises:
        UserError: the baseline, or everything else, is missing.
    """
    methods = methods_of(items)
    baseline = focus(methods, baseline)
    name, others = label(baseline, methods), [m for m in methods if m != baseline]
    items = in_and_out(items)
    figure = Figure(figsize=(TEXT, 1.0 + 0.22 * len(others)))
    panels = figure.subplots(1, len(ABLATIONS), sharey=True)
    for axes, (column, title) in zip(panels, ABLATIONS, strict=True):
        for row, method in enumerate(others):
            _difference_bars(axes, items, column, row, method, baseline, methods)
        if not axes.dataLim.width:
            remark(axes, "all 0" if axes.patches else "not measured")
        axes.axvline(0, color="#202020", linewidth=0.7)
        axes.set(title=title, xlabel=f"difference to {textwrap.shorten(name, 16)}")
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
        row_axis(axes, row_labels(others))
    legend_above(figure, [Patch(color="#707070", label="in domain"),
                          Patch(facecolor="white", edgecolor="#707070", hatch="//////",
                                label="out of domain")])
    return figure, f"""Each method minus {name}: filled bars in domain, hatched bars over all
        shifted splits ({seeds_text(items)} a method; lines: 95% paired intervals over the items
        both have, each item's mean over seeds)."""


def _difference_bars(axes: Axes, items: pd.DataFrame, column: str, row: int, method: str,
                     baseline: str, methods: list[str]) -> None:
    color = method_style(method, methods).color
    for split in (IN_DOMAIN, OUT_OF_DOMAIN):
        found = paired_difference(items[items["split"] == split], column, method, baseline)
        if found is not None:
            home = split == IN_DOMAIN
            y = row + (-0.19 if home else 0.19)
            axes.barh(y, found.estimate, height=0.34, color=color if home else "white",
                      edgecolor=color, hatch=None if home else "//////")
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
    figure = Figure(figsize=(TEXT * 0.85, 1.2 + 0.23 * max(len(methods), 5)))
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
    left.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    row_axis(left, row_labels(methods))
    right.set(title="Performance profile", xlabel="accuracy τ",
              ylabel="share of (seed, split) above τ")
    unit_axis(right)
    legend_above(figure, [legend_handle(m, methods, markersize=3.5) for m in methods])
    return figure, f"""Over {seeds_text(items)} and {scores[methods[0]].shape[1]} splits (without
        the teacher-rejected items): interquartile mean with its 95% stratified bootstrap interval
        over seeds (left; bars), and the share of (seed, split) pairs above each accuracy
        (right)."""
