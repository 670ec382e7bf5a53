"""Figures of similarity to the teacher: tool distributions against accuracy, and which tools are
used."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mentor_kit.analysis.comparisons import ITEM_BARS, dots_text, methods_of
from mentor_kit.analysis.style import (
    EXPECTED,
    METHODS,
    STEPS,
    TEXT,
    Picture,
    error_bars,
    legend_above,
    legend_handle,
    method_style,
    missing_note,
    note_below,
    picture,
    remark,
    row_axis,
    split_label,
    zorder,
)
from mentor_kit.analysis.summaries import (
    IN_DOMAIN,
    by_seed,
    count_arrays,
    in_and_out,
    metric_intervals,
    seeds_text,
    similarity_intervals,
)
from mentor_kit.errors import UserError
from mentor_kit.metrics.trajectories import UNKNOWN, count_similarity

# Digitised from the paper's figure (Qwen2.5-7B, math, one seed): method -> (1 - JSD, accuracy in
# percent).
PAPER_POINTS = {"base": (0.479, 21.46), "sft": (0.447, 22.75), "sparse": (0.868, 25.35),
                "mentor": (0.886, 27.88)}


@picture
def similarity_vs_accuracy(items: pd.DataFrame, expected: Sequence[str] = EXPECTED) -> Picture:
    """Tool-distribution similarity (1 - JSD) against accuracy: ours in and out of domain, and the
    paper's points.

    Args:
        items: columns method, seed, split, problem_id, correct, tools, teacher_tools.

    Raises:
        UserError: no items, or none with a reference.
    """
    methods = methods_of(items)
    grouped = in_and_out(items)
    grouped = grouped[grouped["teacher_tools"].notna()]
    if grouped.empty:
        raise UserError("No evaluated item has a teacher reference: evaluate a split of accepted "
                        "problems.")
    groups = list(dict.fromkeys(sorted(grouped["split"])))
    figure = Figure(figsize=(TEXT, 2.6))
    panels = figure.subplots(1, len(groups) + 1, squeeze=False,
                             width_ratios=[1.2] * len(groups) + [1])[0]
    for axes, split in zip(panels, groups, strict=False):
        _similarity_panel(axes, grouped[grouped["split"] == split], methods)
        axes.set(title=f"Ours, {split_label(split)}", ylabel="accuracy",
                 xlabel="1 − JSD to the teacher")
    _paper_panel(panels[-1])
    legend_above(figure, [legend_handle(m, methods, line=False) for m in methods])
    note = missing_note(methods, expected)
    note_below(figure, note)
    return figure, f"""Similarity of the tool distribution to the teacher's (1 - Jensen-Shannon
        divergence in bits, all parsed calls, unknown names in one bin) against accuracy, over items
        with a reference ({seeds_text(grouped)} a method; {ITEM_BARS}{dots_text(grouped)}). Right
        panel: the paper's published points (Qwen2.5-7B, math, digitised from its figure, one seed),
        on scales of their own and not comparable with ours in level. {note}"""


def _similarity_panel(axes: Axes, items: pd.DataFrame, methods: list[str]) -> None:
    x = similarity_intervals(items).set_index("method", drop=False)
    y = metric_intervals(items, "correct").set_index("method", drop=False)
    dots_x, dots_y = (by_seed(items, column).set_index(["method", "seed"])["value"]
                      for column in ("similarity_pooled", "correct"))
    for method in (m for m in methods if m in x.index and m in y.index):
        s = method_style(method, methods)
        across, along = x.loc[[method]], y.loc[[method]]
        axes.errorbar(across["estimate"], along["estimate"], error_bars(along), error_bars(across),
                      color=s.color, marker=s.marker, elinewidth=0.7, markersize=5,
                      markerfacecolor=(s.color, 0.3), markeredgecolor=s.color, markeredgewidth=0.9,
                      zorder=zorder(method), clip_on=False)
        if len(dots_x[method]) >= 2:
            axes.plot(dots_x[method], dots_y[method], ".", color=s.color, markersize=2, alpha=0.7,
                      zorder=4)
    axes.grid(True, axis="both")
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_data_interval()
        # points that coincide still get an axis that reads well
        pad = max(0.08 * (high - low), 0.05)
        axis.set_view_interval(max(low - pad, 0), min(high + pad, 1.02), ignore=True)
        axis.set_major_locator(MaxNLocator(5, steps=STEPS))
    if not axes.dataLim.max.any():
        remark(axes, "all methods at 0")


def _paper_panel(axes: Axes) -> None:
    offsets = {"base": (6, -9), "sft": (6, 4), "sparse": (-6, -2), "mentor": (-6, -2)}
    for method, (x, y) in PAPER_POINTS.items():
        s = METHODS[method]
        axes.plot(x, y, s.marker, markerfacecolor="white", markeredgecolor=s.color,
                  markeredgewidth=1.1, markersize=5)
        axes.annotate(s.label, (x, y), offsets[method], textcoords="offset points", fontsize=6.5,
                      color="#404040", ha="left" if offsets[method][0] > 0 else "right")
    axes.set(title="Paper, Qwen2.5-7B, math", xlabel="1 − JSD to the teacher",
             ylabel="accuracy (%)", xlim=(0.35, 1), ylim=(20, 29))
    axes.set_facecolor("#f7f7f5")
    axes.grid(True, axis="both")


@picture
def tool_usage(items: pd.DataFrame, methods: Sequence[str] | None = None) -> Picture:
    """Share of calls by tool: the teacher as bars, each student as a mark.

    Args:
        items: columns method, split, problem_id, tools, teacher_tools (in-domain items are used
            where there are any).

    Raises:
        UserError: no item with a reference.
    """
    items = items[items["split"] == IN_DOMAIN] if (items["split"] == IN_DOMAIN).any() else items
    items = items.dropna(subset="teacher_tools")
    drawn = [m for m in methods or methods_of(items) if m != "teacher"]
    shares, similarity = _tool_shares(items, drawn)
    names = sorted((n for n in shares.index if n != UNKNOWN),
                   key=lambda n: (-shares.loc[n, "teacher"], n))
    names = names + [UNKNOWN] * (UNKNOWN in shares.index)
    height = max(0.75 + 0.24 * len(names), 0.5 + 0.16 * len(drawn))  # of the rows, the legend
    figure = Figure(figsize=(TEXT * 0.85, height))
    axes = figure.subplots()
    rows = np.arange(len(names))
    axes.barh(rows, shares.loc[names, "teacher"], height=0.72, color="#d9d9d9",
              edgecolor="#202020", linewidth=0.6, label="Teacher")
    for i, method in enumerate(drawn):
        s, shift = method_style(method, drawn), 0.5 * ((i + 0.5) / len(drawn) - 0.5)
        axes.plot(shares.loc[names, method], rows + shift, s.marker, color=s.color,
                  markersize=3.8, clip_on=False, zorder=3,
                  label=f"{textwrap.fill(s.label, 22)}  ({similarity[method]:.2f})")
    axes.set(xlabel="share of calls", xlim=(0, None))
    row_axis(axes, [n.replace(UNKNOWN, "unknown names") for n in names])
    axes.tick_params(axis="y", pad=5)  # marks at 0 reach over the axis
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[-1:] + handles[:-1], labels[-1:] + labels[:-1],
                  loc="outside right center", title="(1 − JSD to the teacher)",
                  title_fontsize=6.5, alignment="left")
    return figure, f"""Distribution of tool calls, teacher (bars) against students (marks), over
        {items["problem_id"].nunique()} items with a reference, in domain where there are any
        ({seeds_text(items)} a method pooled; no intervals). In brackets: 1 - JSD to the teacher.
        Tools that nobody called are not listed."""


def _tool_shares(
    items: pd.DataFrame, methods: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Share of calls (index tool, columns teacher and methods) and 1 - JSD by method."""
    shares, similarity = {}, {}
    for method in methods:
        teacher, student, names = count_arrays(items[items["method"] == method])
        shares[method] = pd.Series(student.sum(0) / max(student.sum(), 1), index=names)
        shares.setdefault("teacher", pd.Series(teacher.sum(0) / max(teacher.sum(), 1), index=names))
        similarity[method] = float(count_similarity(teacher.sum(0), student.sum(0)))
    table = pd.DataFrame(shares).fillna(0.0)
    return table[(table > 0).any(axis=1)], similarity
