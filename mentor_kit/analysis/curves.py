"""Figures over training steps and over data sizes: training curves, reward terms, data scaling."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mentor_kit.analysis.frame import run_frame
from mentor_kit.analysis.style import (
    EXPECTED,
    STEPS,
    TEXT,
    Picture,
    label,
    legend_above,
    legend_handle,
    method_style,
    missing_note,
    note_below,
    ordered,
    picture,
    remark,
    unit_axis,
)
from mentor_kit.analysis.summaries import seeds_text
from mentor_kit.errors import UserError
from mentor_kit.runs.run import Run

# Column, title, whether it is a rate: four of training rollouts, four of validation.
PANELS = (("reward", "Reward", False), ("judge_accuracy", "Training accuracy", True),
          ("tool_calls", "Tool calls", False), ("response_length", "Response tokens", False),
          ("val/accuracy", "Validation accuracy", True), ("val/set_match", "Tool-set match", True),
          ("val/unknown_tool", "Unknown-tool rate", True), ("val/similarity", "1 − JSD", True))
ROLLOUTS = [column for column, *_ in PANELS if not column.startswith("val/")]
# bands of more methods would hide each other where lines waver as those of training rollouts do
CROWD = 4
TERM_COLORS = ("#3b4f6b", "#8fb3cf", "#e0a458", "#9a6a8c", "#a9b98c", "#c9c1b6", "#7d7d7d")


def seed_table(curves: pd.DataFrame, method: str, column: str) -> pd.DataFrame:
    """One column of the curves of a method: index step, one column a seed; steps that every seed
    has."""
    if column not in curves:
        return pd.DataFrame()
    rows = curves.loc[curves["method"] == method, ["step", "seed", column]].dropna()
    return rows.pivot_table(index="step", columns="seed", values=column).dropna()


def draw_seeds(axes: Axes, table: pd.DataFrame, method: str, among: Sequence[str],
               band: bool) -> None:
    """Mean line over the seeds; if wanted, a band from the lowest to the highest where there are at
    least two."""
    s = method_style(method, among)
    every = max(1, len(table) // 4)  # few marks, at other steps for each method
    axes.plot(table.index, table.mean(axis=1), color=s.color, linestyle=s.linestyle,
              marker=s.marker, markersize=3,
              markevery=(list(among).index(method) * every // len(among), every), label=s.label,
              clip_on=False)
    if band and table.shape[1] >= 2:
        axes.fill_between(table.index, table.min(axis=1), table.max(axis=1), color=s.color,
                          alpha=0.18, linewidth=0)


@picture
def training_curves(curves: pd.DataFrame, expected: Sequence[str] = EXPECTED) -> Picture:
    """Reward, accuracies, similarity to the teacher, tool calls and response length over optimizer
    steps.

    Args:
        curves: columns method, seed, step and any of `reward`, `judge_accuracy`, `tool_calls`,
            `response_length` (training rollouts), `val/accuracy`, `val/set_match`,
            `val/unknown_tool`, `val/similarity` (validation).
        expected: methods whose absence the figure notes (the cold start has no training curve of
            its own).

    Raises:
        UserError: no rows.
    """
    methods = ordered(curves["method"].unique())
    if not methods:
        raise UserError("No training curves: run the training stage first.")
    figure = Figure(figsize=(TEXT, 3.4))
    grid = figure.subplots(2, 4, sharex=True)
    for axes, (column, title, rate) in zip(grid.flat, PANELS, strict=True):
        _panel(axes, curves, methods, column, title, rate)
    for axes, text in zip(grid[:, 0], ("training rollouts", "validation"), strict=True):
        axes.set_ylabel(text)
    for axes in grid[1]:
        axes.set_xlabel("optimizer step")
    legend_above(figure, [legend_handle(m, methods, markersize=3.5) for m in methods])
    missing = missing_note(methods, [m for m in expected if m != "cold_start"])
    note = f"{_silent_note(curves, methods)} {missing}".strip()
    note_below(figure, note)
    return figure, f"""Training at equal optimizer steps ({seeds_text(curves)} a method; lines:
        means over seeds; {_bands_text(curves, methods)}). Top: sampled training rollouts; bottom:
        validation by the judge on the same items for every method. Rewards of different presets are
        on different scales and cannot be compared; the judge's accuracy can. {note}"""


def _silent(curves: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    """Methods without training rollouts, such as SFT."""
    logged = curves[[c for c in ROLLOUTS if c in curves]].notna().any(axis=1)
    return [m for m in methods if not logged[curves["method"] == m].any()]


def _silent_note(curves: pd.DataFrame, methods: Sequence[str]) -> str:
    silent = _silent(curves, methods)
    if not 0 < len(silent) < len(methods):
        return ""
    names = ", ".join(label(m, methods) for m in silent)
    return f"{names}: no training rollouts, so no line in the top row."


def _bands_text(curves: pd.DataFrame, methods: Sequence[str]) -> str:
    """Which methods have bands, and where."""
    seeds = curves.groupby("method")["seed"].nunique()
    several = [label(m, methods) for m in methods if seeds[m] >= 2]
    if not several:
        return "no bands: one seed"
    text = "bands: lowest to highest seed"
    if len(several) < len(methods):
        text += f" of {', '.join(several)}; one seed has no band"
    if len(methods) - len(_silent(curves, methods)) > CROWD:
        text += "; bottom row only, above they would hide each other"
    return text


def _panel(axes: Axes, curves: pd.DataFrame, methods: list[str], column: str, title: str,
           rate: bool) -> None:
    axes.set_title(title)
    tables = {m: seed_table(curves, m, column) for m in methods}
    drawn = [m for m in methods if len(tables[m])]
    for method in drawn:
        draw_seeds(axes, tables[method], method, methods, band=column not in ROLLOUTS
                   or len(drawn) <= CROWD)
    if rate:
        unit_axis(axes)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
        low, high = axes.dataLim.intervaly
        if 0 <= low <= high < np.inf:  # amounts start at zero, so that small wiggles look small
            axes.set_ylim(0, 1.08 * high or 1)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=STEPS))
    if not drawn:
        remark(axes, "not logged")


@picture
def run_curves(run: Run) -> Picture:
    """Everything that one run logged, training rollouts and validation; for notebook 03, also while
    it trains.

    Raises:
        UserError: nothing was logged yet.
    """
    curves = run_frame(run)
    panels = [p for p in (("loss", "Loss", False), *PANELS) if p[0] in curves
              and curves[p[0]].notna().any()]
    if not panels:
        raise UserError(f"The run {str(run)!r} has logged nothing to draw: train it first.")
    # as few empty places as possible
    columns = min(len(panels), min((4, 5, 3), key=lambda n: -len(panels) % n))
    rows, width = -(-len(panels) // columns), min(TEXT, max(columns, 2) * TEXT / 4)
    figure, methods = Figure(figsize=(width, 0.3 + 1.45 * rows)), list(curves["method"].unique())
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (column, title, rate) in zip(grid.flat, panels, strict=False):
        _panel(axes, curves, methods, column, title, rate)
        axes.set(ylabel="validation" if column.startswith("val/") else "training",
                 xlabel="optimizer step")
    for axes in list(grid.flat)[len(panels):]:
        axes.axis("off")
    return figure, f"""{label(methods[0])}, one run (seed {curves["seed"].iloc[0]}):
        training batches, and validation by the judge."""


def term_names(curves: pd.DataFrame) -> list[str]:
    """Names of the logged reward terms, the gate last."""
    names = [c.removeprefix("term/") for c in curves.columns if c.startswith("term/")]
    return sorted(names, key=lambda n: (n == "gate", n))


@picture
def reward_terms(curves: pd.DataFrame) -> Picture:
    """What the training reward consists of, stacked over steps, one panel a method.

    Args:
        curves: columns method, seed, step and `term/<name>` (mean contribution of a term; they sum
            to the reward).

    Raises:
        UserError: no term was logged.
    """
    names = term_names(curves)
    has_terms = curves[curves[[f"term/{n}"
                               for n in names]].notna().any(axis=1)] if names else curves.iloc[:0]
    methods = ordered(has_terms["method"].unique())
    if not methods:
        raise UserError("No reward terms in the training curves: only RL methods log "
                        "`term/<name>`.")
    columns = len(methods) if len(methods) <= 5 else 4
    rows = -(-len(methods) // columns)
    figure = Figure(figsize=(TEXT, 0.7 + 1.4 * rows))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    colors = {n: TERM_COLORS[i % len(TERM_COLORS)] for i, n in enumerate(names)}
    for axes, method in zip(grid.flat, methods, strict=False):
        _stack(axes, has_terms, method, methods, colors)
    for axes in list(grid.flat)[len(methods):]:
        axes.axis("off")
    for axes in list(grid.flat)[max(0, len(methods) - columns):len(methods)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("optimizer step")
    for axes in grid[:, 0]:
        axes.set_ylabel("mean reward")
    legend_above(figure, [Patch(color=colors[n], label=n.replace("_", " ")) for n in names])
    return figure, f"""Contribution of each reward term to the mean training reward (means over
        {seeds_text(has_terms)}; the stack's upper edge is the reward). "gate" is what truncated or
        unboxed rollouts receive."""


def _stack(axes: Axes, curves: pd.DataFrame, method: str, among: list[str],
           colors: dict[str, str]) -> None:
    rows = curves[curves["method"] == method]
    steps = rows.groupby("step")[[f"term/{n}" for n in colors]].mean().fillna(0.0)
    for sign in (1, -1):  # penalties stack downwards
        values = np.clip(sign * steps.to_numpy().T, 0, None) * sign
        axes.stackplot(steps.index, values, colors=list(colors.values()), linewidth=0)
    axes.plot(steps.index, steps.sum(axis=1), color="#202020", linewidth=0.8)
    axes.set_title(textwrap.shorten(label(method, among), 24))
    axes.margins(x=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=STEPS))
