"""Draw docs/hero.png from stored results: no model, no browser.

    python docs/make_hero.py

Left: one question, answered before and after training (`before_after.parquet`). Right: validation
accuracy and tool-set match, a line a seed and the mean (`curves.csv`). `docs/store_reference.py`
writes both files into results/reference/NAME.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from fill import HERO, REFERENCE
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from mentor_kit.analysis.style import METADATA, STYLE, method_style, ordered, unit_axis
from mentor_kit.core.html import KINDS, RIGHT, WARN, compact_call
from mentor_kit.core.problem import known_tools
from mentor_kit.core.records import Record, load_records

DOCS = Path(__file__).parent
WIDTH, LEAST_HEIGHT = 11.0, 3.5  # inches
# inches: a line of text, between steps, inside a box, title of a card
LINE, GAP, EDGE, HEAD = 0.19, 0.06, 0.08, 0.34
MONO, SANS, SIZE = "DejaVu Sans Mono", "DejaVu Sans", 8.5
CHARACTERS = 36  # of a line in a card
CURVES = {"accuracy": "Validation accuracy", "set_match": "Tool-set match"}
TITLES = ("before: the cold start", "after: trained with MENTOR")


def steps_of(record: Record) -> list[tuple[str, str, list[str], str]]:
    """(kind, label, lines, trouble) of each step."""
    known, number, steps = known_tools(record.problem), 0, []
    for step in record.trajectory.steps:
        label, text, trouble = step.kind, step.text, ""
        if step.kind == "T":
            number += 1
            text = compact_call(step.call)
            trouble = "" if step.call.name in known else "unknown tool"
        elif step.kind == "O":
            trouble = "" if step.call.ok else "error"
            text = text.removeprefix("{'error': '").removesuffix("'}")
        if step.kind in "TO":
            label += str(number)
        steps.append((step.kind, label, textwrap.wrap(text, CHARACTERS), trouble))
    return steps


def card_height(record: Record) -> float:
    return HEAD + sum(LINE * len(lines) + EDGE + GAP for _, _, lines, _ in steps_of(record))


def draw_card(axes: Axes, record: Record, title: str) -> None:
    """A card in inches from the upper left corner: title, verdict, one box a step."""
    width = axes.get_xlim()[1]
    right = record.trajectory.meta["correct"]
    text(axes, 0, 0.14, title, weight="bold")
    text(axes, width, 0.14, "✓ right" if right else "✗ wrong", color=RIGHT if right else WARN,
         weight="bold", ha="right")
    top = HEAD
    for kind, label, lines, trouble in steps_of(record):
        strong, pale = KINDS[kind][1:]
        height = LINE * len(lines) + EDGE
        axes.add_patch(FancyBboxPatch(
            (0.04, top), width - 0.08, height, boxstyle="round,pad=0,rounding_size=0.04",
            facecolor=pale, edgecolor=WARN if trouble else pale,
            linestyle="--" if trouble else "-", linewidth=1.3))
        axes.add_patch(Rectangle((0.04, top), 0.3, height, facecolor=strong, edgecolor="none"))
        text(axes, 0.19, top + height / 2, label, weight="bold", ha="center", family=MONO, size=7.5)
        for i, line in enumerate(lines):
            text(axes, 0.42, top + EDGE / 2 + LINE * (i + 0.5), line,
                 family=MONO if kind in "TO" else SANS)
        if trouble:
            text(axes, width - 0.12, top + height / 2, "✗ " + trouble, color=WARN, ha="right",
                 size=7.5, weight="bold")
        top += height + GAP


def text(axes: Axes, x: float, y: float, words: str, **looks: object) -> None:
    axes.text(x, y, words, **{"va": "center", "size": SIZE, "family": SANS, "color": "#222",
                              "parse_math": False} | looks)


def inches(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """An empty axes whose unit is an inch, y downwards."""
    wide, high = figure.get_size_inches()
    axes = figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return axes


def draw_curves(figure: Figure, curves: pd.DataFrame) -> None:
    methods = ordered(curves["method"].unique())
    for i, (column, title) in enumerate(CURVES.items()):
        axes = figure.add_axes(((7.4 + 1.85 * i) / WIDTH, 0.16, 1.6 / WIDTH, 0.66))
        for method in methods:
            style = method_style(method)
            table = curves[curves["method"] == method].pivot(index="step", columns="seed",
                                                             values=column)
            if table.shape[1] > 1:
                axes.plot(table.index, table, color=style.color, linewidth=0.6, alpha=0.35)
            axes.plot(table.index, table.mean(axis=1), color=style.color, linewidth=2,
                      marker=style.marker, markersize=5, label=style.label, clip_on=False)
        unit_axis(axes)
        axes.set_title(title, size=9)
        axes.set_xlabel("optimizer step", size=8)
        axes.tick_params(labelsize=8)
        if i:
            axes.set_yticklabels([])
    figure.legend(*axes.get_legend_handles_labels(), ncols=min(len(methods), 3), fontsize=8.5,
                  loc="upper left", bbox_to_anchor=(7.2 / WIDTH, 1), columnspacing=1.2,
                  labelspacing=0.2, handlelength=1.6)
    seeds = curves["seed"].nunique()
    said = f"thin lines: {seeds} seeds; thick: their mean" if seeds > 1 else "one seed"
    figure.text(10.9 / WIDTH, 0.015, said, size=7.5, ha="right", color="#666")


def hero(records: list[Record], curves: pd.DataFrame) -> Figure:
    """The picture on top of the README."""
    problem = records[0].problem
    lines = textwrap.wrap(f"{problem.question} (Answer: {problem.answers[0]}.)", 98)
    top = 0.2 + LINE * len(lines)
    height = max(map(card_height, records))
    figure = Figure(figsize=(WIDTH, max(LEAST_HEIGHT, top + height)), facecolor="white",
                    layout="none")
    head = inches(figure, 0.1, 0.08, 6.8, top)
    for i, line in enumerate(lines):
        text(head, 0, 0.1 + LINE * i, line)
    for i, (record, title) in enumerate(zip(records, TITLES, strict=True)):
        draw_card(inches(figure, 0.1 + 3.45 * i, top, 3.3, height), record, title)
    draw_curves(figure, curves)
    return figure


if __name__ == "__main__":
    with mpl.rc_context(fname=STYLE):
        drawn = hero(load_records(REFERENCE / HERO / "before_after.parquet"),
                     pd.read_csv(REFERENCE / HERO / "curves.csv"))
        drawn.savefig(DOCS / "hero.png", dpi=160, metadata=METADATA["png"], bbox_inches=None)
