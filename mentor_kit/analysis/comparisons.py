"""Figures that compare methods on evaluated items: splits, teacher likeness, tool usage, ablations, seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mentor_kit.analysis.statistics import iqm, performance_profile, stratified_bootstrap
from mentor_kit.analysis.style import (
    EXPECTED,
    METHODS,
    TEXT,
    Picture,
    label,
    legend_handle,
    method_style,
    missing_note,
    note_below,
    ordered,
    picture,
    row_axis,
    split_label,
    unit_axis,
)
from mentor_kit.analysis.summaries import (
    IN_DOMAIN,
    LAST_SPLIT,
    by_seed,
    count_arrays,
    in_and_out,
    metric_intervals,
    n_seeds,
    ordered_splits,
    paired_difference,
    seed_scores,
    seeds_said,
    similarity_intervals,
)
from mentor_kit.errors import UserError
from mentor_kit.evaluation.metrics import UNKNOWN, count_similarity

# Digitised from the paper's figure (Qwen2.5-7B, math, one seed): method -> (1 - JSD, accuracy in percent).
PAPER_POINTS = {"base": (0.479, 21.46), "sft": (0.447, 22.75), "sparse": (0.868, 25.35), "mentor": (0.886, 27.88)}
PAPER_LABELS = {"base": "Vanilla", "sft": "SFT", "sparse": "Sparse", "mentor": "MENTOR"}
CONTROLS = ("sft", "base_masked")  # drawn as level lines
ITEM_BARS = "bars: 95% bootstrap intervals over items, each item's mean over seeds"


def _need(items: pd.DataFrame) -> list[str]:
    if items.empty:
        raise UserError("No evaluated items: run the evaluation stage first.")
    return ordered(items["method"].unique())


def row_labels(methods: Sequence[str]) -> list[str]:
    return [method_style(m, methods).label.replace(", ", ",\n") for m in methods]


def _dots(items: pd.DataFrame) -> str:
    return "; small dots: seeds" if n_seeds(items) >= 2 else ""


@picture
def accuracy_by_split(items: pd.DataFrame, expected: Sequence[str] = EXPECTED) -> Picture:
    """Accuracy of every method on every split; SFT and the masked cold start as level lines.

    Args:
        items: columns method, seed, split, problem_id, correct.

    Raises:
        UserError: no items.
    """
    methods, splits = _need(items), ordered_splits(items["split"])
    table, seeds = metric_intervals(items, "correct"), by_seed(items, "correct")
    points = [m for m in methods if m not in CONTROLS] or methods
    figure = Figure(figsize=(TEXT, 2.9))
    axes = figure.subplots()
    for method in methods:
        rows = table[table["method"] == method].assign(x=lambda t: t["split"].map(splits.index))
        if method in points:
            _split_points(axes, rows, seeds[seeds["method"] == method], method, methods, points, splits)
        else:
            s = method_style(method)
            axes.hlines(rows["estimate"], rows["x"] - 0.43, rows["x"] + 0.43, color=s.color, linestyle=s.linestyle)
    _split_axis(axes, splits, table)
    handles = [legend_handle(m, methods, line=False) if m in points else legend_handle(m, methods, marker="")
               for m in methods]
    figure.legend(handles=handles, ncols=min(len(handles), 5), loc="outside upper left")
    note = missing_note(methods, expected)
    note_below(figure, note)
    return figure, f"""Accuracy by the judge on every split, all asked items in the denominator ({seeds_said(items)} a
        method; {ITEM_BARS}{_dots(items)}). Level lines are controls: SFT on clean trajectories, and the cold start with
        unknown tool names masked at decoding. Left of the first rule: in domain; right of the last: problems that the
        teacher itself failed on. {note}"""


def _split_points(axes: Axes, rows: pd.DataFrame, seeds: pd.DataFrame, method: str, methods: list[str],
                  points: list[str], splits: list[str]) -> None:
    s, width = method_style(method, methods), 0.72 / max(len(points), 2)
    shift = (points.index(method) - (len(points) - 1) / 2) * width
    spread = np.abs(rows[["low", "high"]].to_numpy().T - rows["estimate"].to_numpy())
    axes.errorbar(rows["x"] + shift, rows["estimate"], spread, color=s.color, marker=s.marker, linestyle="none",
                  elinewidth=0.9, markersize=4.2, zorder=3)
    if seeds["seed"].nunique() >= 2:
        axes.plot(seeds["split"].map(splits.index) + shift + 0.36 * width, seeds["value"], ".", color=s.color,
                  markersize=1.6)


def _split_axis(axes: Axes, splits: list[str], table: pd.DataFrame) -> None:
    counts = table.groupby("split")["n"].max()
    axes.set_xticks(range(len(splits)), [f"{split_label(s, lines=True)}\n(n = {counts.get(s, 0)})" for s in splits])
    axes.set(xlim=(-0.5, len(splits) - 0.5), ylabel="accuracy")
    unit_axis(axes)
    axes.tick_params(axis="x", length=0)
    for i in range(len(splits) - 1):
        rule = splits[i] == IN_DOMAIN or splits[i + 1] == LAST_SPLIT
        axes.axvline(i + 0.5, color="#404040" if rule else "#e4e4e4", linewidth=0.6)


@picture
def similarity_vs_accuracy(items: pd.DataFrame, expected: Sequence[str] = EXPECTED) -> Picture:
    """Tool-distribution similarity (1 - JSD) against accuracy: ours in and out of domain, and the paper's points.

    Args:
        items: columns method, seed, split, problem_id, correct, tools, teacher_tools.

    Raises:
        UserError: no items, or none with a reference.
    """
    methods = _need(items)
    grouped = in_and_out(items)
    grouped = grouped[grouped["teacher_tools"].notna()]
    if grouped.empty:
        raise UserError("No evaluated item has a teacher reference: evaluate a split of accepted problems.")
    groups = list(dict.fromkeys(sorted(grouped["split"])))
    figure = Figure(figsize=(TEXT, 2.6))
    panels = figure.subplots(1, len(groups) + 1, squeeze=False)[0]
    for axes, split in zip(panels, groups, strict=False):
        _likeness_panel(axes, grouped[grouped["split"] == split], methods)
        axes.set(title=f"Ours, {split_label(split)}", ylabel="accuracy", xlabel="1 − JSD to the teacher")
    _paper_panel(panels[-1])
    figure.legend(handles=[legend_handle(m, methods, line=False) for m in methods], ncols=min(4, len(methods)),
                  loc="outside upper left")
    note = missing_note(methods, expected)
    note_below(figure, note)
    return figure, f"""Similarity of the tool distribution to the teacher's (1 - Jensen-Shannon divergence in bits, all
        parsed calls, unknown names in one bin) against accuracy, over items with a reference ({seeds_said(grouped)} a
        method; {ITEM_BARS}{_dots(grouped)}). Right, hollow: the paper's published points (Qwen2.5-7B, math, digitised
        from its figure, one seed), on scales of their own and not comparable with ours in level. {note}"""


def _likeness_panel(axes: Axes, items: pd.DataFrame, methods: list[str]) -> None:
    x = similarity_intervals(items).set_index("method")
    y = metric_intervals(items, "correct").set_index("method")
    dots_x, dots_y = (by_seed(items, column).set_index(["method", "seed"])["value"]
                      for column in ("similarity_pooled", "correct"))
    for method in (m for m in methods if m in x.index and m in y.index):
        s = method_style(method, methods)
        (a, across), (b, along) = (_error(table.loc[method]) for table in (x, y))
        axes.errorbar(a, b, along, across, color=s.color, marker=s.marker, elinewidth=0.7, markersize=5, zorder=3)
        if len(dots_x[method]) >= 2:
            axes.plot(dots_x[method], dots_y[method], ".", color=s.color, markersize=2, alpha=0.7)
    axes.grid(True, axis="both")
    axes.margins(0.08)


def _error(row: pd.Series) -> tuple[float, list[list[float]]]:
    """An estimate and its distances to the bounds, as errorbar takes them (never negative)."""
    return row["estimate"], [[max(0, row["estimate"] - row["low"])], [max(0, row["high"] - row["estimate"])]]


def _paper_panel(axes: Axes) -> None:
    offsets = {"base": (6, -9), "sft": (6, 4), "sparse": (-6, -2), "mentor": (-6, -2)}
    for method, (x, y) in PAPER_POINTS.items():
        s = METHODS[method]
        axes.plot(x, y, s.marker, markerfacecolor="white", markeredgecolor=s.color, markeredgewidth=1.1, markersize=5)
        axes.annotate(PAPER_LABELS[method], (x, y), offsets[method], textcoords="offset points", fontsize=6.5,
                      color="#404040", ha="left" if offsets[method][0] > 0 else "right")
    axes.set(title="Paper, Qwen2.5-7B, math", xlabel="1 − JSD to the teacher", ylabel="accuracy (%)", xlim=(0.35, 1),
             ylim=(20, 29))
    axes.set_facecolor("#f7f7f5")
    axes.grid(True, axis="both")


@picture
def tool_usage(items: pd.DataFrame, methods: Sequence[str] | None = None) -> Picture:
    """Share of calls by tool: the teacher as bars, each student as a mark.

    Args:
        items: columns method, split, problem_id, tools, teacher_tools (in-domain items are used where there are any).

    Raises:
        UserError: no item with a reference.
    """
    items = items[items["split"] == IN_DOMAIN] if (items["split"] == IN_DOMAIN).any() else items
    items = items.dropna(subset="teacher_tools")
    drawn = [m for m in methods or _need(items) if m != "teacher"]
    shares, similarity = _tool_shares(items, drawn)
    names = sorted((n for n in shares.index if n != UNKNOWN), key=lambda n: (-shares.loc[n, "teacher"], n))
    names = names + [UNKNOWN] * (UNKNOWN in shares.index)
    figure = Figure(figsize=(TEXT * 0.75, 0.75 + 0.24 * len(names)))
    axes = figure.subplots()
    rows = np.arange(len(names))
    axes.barh(rows, shares.loc[names, "teacher"], height=0.72, color="#d9d9d9", edgecolor="#202020", linewidth=0.6,
              label="Teacher")
    for i, method in enumerate(drawn):
        s, shift = method_style(method, drawn), 0.5 * ((i + 0.5) / len(drawn) - 0.5)
        axes.plot(shares.loc[names, method], rows + shift, s.marker, color=s.color, markersize=3.8, clip_on=False,
                  label=f"{s.label}  ({similarity[method]:.2f})", zorder=3)
    axes.set(xlabel="share of calls", xlim=(0, None))
    row_axis(axes, [n.replace(UNKNOWN, "unknown names") for n in names])
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[-1:] + handles[:-1], labels[-1:] + labels[:-1], loc="outside right center",
                  title="(1 − JSD to the teacher)", title_fontsize=6.5, alignment="left")
    return figure, f"""Distribution of tool calls, teacher (bars) against students (marks), over
        {items["problem_id"].nunique()} items with a reference, in domain where there are any ({seeds_said(items)} a
        method pooled; no intervals). In brackets: 1 - JSD to the teacher. Tools that nobody called are not listed."""


def _tool_shares(items: pd.DataFrame, methods: Sequence[str]) -> tuple[pd.DataFrame, dict[str, float]]:
    """Share of calls (index tool, columns teacher and methods) and 1 - JSD by method."""
    shares, similarity = {}, {}
    for method in methods:
        teacher, student, names = count_arrays(items[items["method"] == method])
        shares[method] = pd.Series(student.sum(0) / max(student.sum(), 1), index=names)
        shares.setdefault("teacher", pd.Series(teacher.sum(0) / max(teacher.sum(), 1), index=names))
        similarity[method] = float(count_similarity(teacher.sum(0), student.sum(0)))
    table = pd.DataFrame(shares).fillna(0.0)
    return table[(table > 0).any(axis=1)], similarity


ABLATIONS = (("correct", "Accuracy"), ("set_match", "Tool-set match"), ("unknown_tool", "Unknown-tool rate"))


@picture
def ablation_bars(items: pd.DataFrame, baseline: str = "mentor") -> Picture:
    """Difference of every other method to MENTOR, in and out of domain, with paired intervals over items.

    Raises:
        UserError: the baseline, or everything else, is missing.
    """
    methods = [m for m in _need(items) if m != baseline]
    if not methods or baseline not in set(items["method"]):
        found = ", ".join(ordered(items["method"].unique()))
        raise UserError(f"Ablation bars need {baseline!r} and another method; these results have {found}.")
    items = in_and_out(items)
    figure = Figure(figsize=(TEXT, 1.0 + 0.22 * len(methods)))
    panels = figure.subplots(1, len(ABLATIONS), sharey=True)
    for axes, (column, title) in zip(panels, ABLATIONS, strict=True):
        for row, method in enumerate(methods):
            _difference_bars(axes, items, column, row, method, baseline, methods)
        axes.axvline(0, color="#202020", linewidth=0.7)
        axes.set(title=title, xlabel=f"difference to {label(baseline)}")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        row_axis(axes, row_labels(methods))
    figure.legend(handles=[Patch(color="#707070", label="in domain"),
                           Patch(facecolor="white", edgecolor="#707070", hatch="//////", label="out of domain")],
                  ncols=2, loc="outside upper left")
    return figure, f"""Each method minus {label(baseline)}: filled bars in domain, hatched bars over all shifted splits
        ({seeds_said(items)} a method; lines: 95% paired bootstrap intervals over items, each item's mean over
        seeds)."""


def _difference_bars(axes: Axes, items: pd.DataFrame, column: str, row: int, method: str, baseline: str,
                     methods: list[str]) -> None:
    color = method_style(method, methods).color
    for i, split in enumerate(sorted(items["split"].unique())):
        found = paired_difference(items[items["split"] == split], column, method, baseline)
        if found is not None:
            y = row + 0.38 * (i - 0.5)
            axes.barh(y, found.estimate, height=0.34, color=color if not i else "white", edgecolor=color,
                      hatch=None if not i else "//////")
            axes.plot([found.low, found.high], [y, y], color="#202020", linewidth=0.9, solid_capstyle="butt")


@picture
def seeds_summary(items: pd.DataFrame) -> Picture:
    """Interquartile mean over seeds and splits with its interval, and performance profiles. Needs two seeds.

    Raises:
        UserError: a method has only one seed, for which there is no interval.
    """
    methods = _need(items)
    scores = {m: seed_scores(items[items["split"] != LAST_SPLIT], m) for m in methods}
    if min(len(s) for s in scores.values()) < 2:
        raise UserError("Intervals over seeds need at least two seeds of every method: add seeds to the study.")
    figure = Figure(figsize=(TEXT * 0.85, 0.9 + 0.2 * max(len(methods), 5)))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    taus = np.linspace(0, 1, 201)
    for row, method in enumerate(methods):
        s, found = method_style(method, methods), stratified_bootstrap(scores[method], iqm)
        left.barh(row, found.high - found.low, left=found.low, height=0.5, color=s.color, alpha=0.35)
        left.plot(found.estimate, row, s.marker, color=s.color)
        right.plot(taus, performance_profile(scores[method], taus), color=s.color, linestyle=s.linestyle, linewidth=1.1)
    left.set(title="Interquartile mean", xlabel="accuracy")
    left.use_sticky_edges = False
    row_axis(left, row_labels(methods))
    right.set(title="Performance profile", xlabel="accuracy τ", ylabel="share of (seed, split) above τ")
    unit_axis(right)
    return figure, f"""Over {seeds_said(items)} and {scores[methods[0]].shape[1]} splits (without the teacher-rejected
        items): interquartile mean with its 95% stratified bootstrap interval over seeds (left; bars), and the share of
        (seed, split) pairs above each accuracy (right)."""
