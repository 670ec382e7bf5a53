"""Figures of a teacher's collection (notebook 01): yield and reasons, pass rates, turns, tools,
tool transitions.

Each takes attempts: (Problem, accepted, reason, Trajectory) tuples, as `Collection.attempts()`
gives them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mentor_kit.analysis.style import (
    COLORBLIND,
    GREY,
    REMARK,
    SINGLE,
    TEXT,
    Picture,
    picture,
    row_axis,
    split_label,
)
from mentor_kit.analysis.summaries import LAST_SPLIT
from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError

Attempts = Iterable[tuple[Problem, bool, str, Trajectory | None]]
ACCEPTED, OTHER = "accepted", "other reasons"
PASSED = (ACCEPTED, "not_selected")  # outcomes of attempts that passed the checks
# templates drawn one by one: the worst, or where all are whole the largest
LOWEST, LARGEST = 24, 10
BAR = "#4a6f8f"
REASON_COLORS = tuple(c for c in COLORBLIND if c != GREY)[1:]


def outcome_frame(attempts: Attempts) -> pd.DataFrame:
    """Rows template (the source where a problem has no template), outcome (`accepted` or the
    reason), split.

    Raises:
        UserError: no attempts.
    """
    rows = []
    for problem, accepted, reason, _ in attempts:
        passed = accepted or reason in PASSED
        rows.append((str(problem.meta.get("template", problem.source)),
                     ACCEPTED if passed else reason or OTHER, problem.split))
    if not rows:
        raise UserError("No attempts of a teacher to draw: collect some first.")
    return pd.DataFrame(rows, columns=["template", "outcome", "split"])


def yield_frame(attempts: Attempts) -> tuple[pd.DataFrame, int]:
    """`outcome_frame` without the split whose problems were chosen because every attempt at them is
    rejected (unless there is nothing else), and how many attempts that leaves out."""
    frame = outcome_frame(attempts)
    kept = frame[frame["split"] != LAST_SPLIT]
    return (kept, len(frame) - len(kept)) if len(kept) else (frame, 0)


@picture
def teacher_yield(attempts: Attempts) -> Picture:
    """Share of each template's items that gave an accepted trajectory, and why the others were
    rejected. Problems that were chosen to be rejected are left out."""
    frame, left_out = yield_frame(attempts)
    shares = pd.crosstab(frame["template"], frame["outcome"], normalize="index")
    shares[ACCEPTED] = shares.get(ACCEPTED, 0.0)
    shares["_order"] = pd.to_numeric(shares.index, errors="coerce")
    shares = shares.sort_values([ACCEPTED, "_order"], kind="stable").drop(columns="_order")
    reasons = frame.loc[frame["outcome"] != ACCEPTED, "outcome"].value_counts().sort_index()
    reasons = reasons.sort_values(ascending=False, kind="stable")
    colors = {r: REASON_COLORS[i % len(REASON_COLORS)] for i, r in enumerate(reasons.index)}
    rows, names = _lowest(shares, frame["template"].value_counts(sort=False)[shares.index])
    figure = Figure(figsize=(TEXT, max(1.5, 0.75 + 0.125 * len(rows))))
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _stacked_rows(left, rows, names, colors)
    _reason_bars(right, reasons, len(frame), colors)
    accepted = int((frame["outcome"] == ACCEPTED).sum())
    without = f"""Not counted: {left_out} attempts at the split {split_label(LAST_SPLIT)}, whose
        problems were chosen because every attempt at them is rejected.""" if left_out else ""
    return figure, f"""Teacher yield: {accepted} of {len(frame)} attempts
        ({accepted / len(frame):.1%}) gave a verified trajectory. Left: by template, lowest yield
        first (where all are whole and many: those with most attempts). Right: why attempts were
        rejected. {without}"""


def _lowest(shares: pd.DataFrame, attempts: pd.Series) -> tuple[pd.DataFrame, list[str]]:
    """The templates that are not whole (at most LOWEST of them), and one row for the mean of all
    others.

    Where all are whole: every template, or those with most attempts where there are too many.
    """
    rows = shares[shares[ACCEPTED] < 1].head(LOWEST)
    if rows.empty:
        largest = attempts.sort_values(ascending=False, kind="stable").index[:LARGEST]
        rows = shares if len(shares) <= LOWEST else shares.loc[largest]
    rest, names = shares.drop(rows.index), list(rows.index)
    if len(rest):
        rows, names = pd.concat([rows, rest.mean().to_frame().T]), [*names, f"{len(rest)} others"]
    return rows, names


def _stacked_rows(axes: Axes, rows: pd.DataFrame, names: list[str], colors: dict[str, str]) -> None:
    start, places = np.zeros(len(rows)), np.arange(len(rows))
    for outcome, color in {ACCEPTED: "#c9d3dc", **colors}.items():
        width = rows[outcome].to_numpy()
        axes.barh(places, width, left=start, height=0.78, color=color, linewidth=0)
        start = start + width
    axes.set(title="Yield by template", xlabel="share of attempts", ylabel="template", xlim=(0, 1))
    row_axis(axes, names)
    axes.tick_params(axis="y", labelsize=5.5 if len(names) > 12 else 6.5)


def _reason_bars(axes: Axes, reasons: pd.Series, total: int, colors: dict[str, str]) -> None:
    axes.set_title("Reasons of rejection")
    if reasons.empty:
        axes.axis("off")
        axes.text(0, 0.9, "none was rejected", transform=axes.transAxes, color="#606060")
        return
    for i, (reason, count) in enumerate(reasons.items()):
        axes.barh(i, count, height=0.6, color=colors[reason])
        axes.text(count, i, f" {count} ({count / total:.1%})", va="center", fontsize=6.5)
    axes.set(xlabel="attempts", xlim=(0, reasons.max() * 1.35))
    row_axis(axes, [r.replace("_", " ") for r in reasons.index])
    _whole(axes.xaxis)
    axes.set_ylim(max(len(reasons), 5) - 0.45, -0.55)


def _accepted(attempts: Attempts) -> list[Trajectory]:
    attempts = list(attempts)
    if not attempts:
        raise UserError("No attempts of a teacher to draw: collect some first.")
    return [t for _, ok, _, t in attempts if ok and t is not None]


def _no_reference() -> tuple[Figure, str]:
    figure = Figure(figsize=(SINGLE, 0.5))
    figure.text(0.02, 0.5, "no attempt was accepted", va="center", color=REMARK)
    return figure, ("No attempt of the teacher was accepted, so there is no reference to count "
                    "tools of.")


@picture
def pass_rate(attempts: Attempts) -> Picture:
    """How often the teacher's attempts pass its checks: by problem, and by split."""
    attempts = list(attempts)
    frame = outcome_frame(attempts)
    frame["passed"] = frame["outcome"] == ACCEPTED
    rates = frame.groupby([p.id for p, *_ in attempts], sort=False)["passed"].mean()
    figure = Figure(figsize=(TEXT, 1.9))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    tries = int(frame.groupby([p.id for p, *_ in attempts]).size().max())
    edges = np.linspace(-0.5, tries + 0.5, tries + 2) / tries
    left.hist(rates, bins=edges, color=BAR, rwidth=0.85)
    left.set(title="Problems by pass rate",
             xlabel="attempt passed" if tries == 1 else f"share of {tries} attempts passed",
             ylabel="problems", xticks=[0, 0.5, 1] if tries > 1 else [0, 1])
    _whole(left.yaxis)
    means = frame.groupby("split", sort=False)["passed"].mean()
    right.barh(range(len(means)), means, height=0.68, color=BAR)
    for i, value in enumerate(means):
        right.text(value, i, f" {value:.0%}", va="center", fontsize=6.5)
    right.set(title="Attempts passed, by split", xlabel="share", xlim=(0, 1.18))
    row_axis(right, [split_label(s) for s in means.index])
    return figure, f"""Pass rate: {frame["passed"].mean():.1%} of {len(frame)} attempts at
        {len(rates)} problems passed the teacher's checks; of {(rates > 0).mean():.1%} of the
        problems at least one attempt did. An attempt that did not pass may still have the right
        answer."""


@picture
def turns_histogram(attempts: Attempts) -> Picture:
    """How many assistant turns attempts take, those that passed above the line and rejected ones
    below."""
    kinds: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    for _, ok, reason, trajectory in attempts:
        if trajectory is not None:
            kinds[ok or reason in PASSED][len(trajectory.turns)] += 1
    places = sorted({*kinds[True], *kinds[False]})
    if not places:
        raise UserError("No trajectory to draw: the teacher made no turn.")
    figure = Figure(figsize=(SINGLE, 1.9))
    axes = figure.subplots()
    for passed, sign, color in ((True, 1, BAR), (False, -1, REASON_COLORS[0])):
        if kinds[passed]:
            axes.bar(places, [sign * kinds[passed][n] for n in places], width=0.75, color=color,
                     label="passed" if passed else "rejected")
    axes.axhline(0, color="#202020", linewidth=0.6)
    _whole(axes.yaxis)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axes.set(title="Turns an attempt", xlabel="assistant turns", ylabel="attempts", xticks=places)
    figure.legend(ncols=2, loc="outside upper left")
    good = kinds[True]
    mean = sum(n * c for n, c in good.items()) / max(good.total(), 1)
    return figure, f"""Assistant turns of {good.total()} attempts that passed (above; {mean:.2f} on
        average) and of {kinds[False].total()} rejected ones (below)."""


def _whole(axis: Axis) -> None:
    """Ticks of counts: whole numbers only."""
    axis.set_major_locator(MaxNLocator(5, integer=True, steps=(1, 2, 5, 10)))


@picture
def tool_histogram(attempts: Attempts) -> Picture:
    """How often the accepted trajectories use each tool, and how many calls they make."""
    trajectories = _accepted(attempts)
    if not trajectories:
        return _no_reference()
    called = [t.tool_names for t in trajectories]
    used = Counter(name for names in called for name in names)
    lengths = Counter(map(len, called))
    names = sorted(used, key=lambda n: (-used[n], n))
    figure = Figure(figsize=(TEXT * 0.8, max(1.7, 0.7 + 0.16 * len(names))))
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    left.barh(range(len(names)), [used[n] for n in names], height=0.68, color=BAR)
    for i, name in enumerate(names):
        left.text(used[name], i, f" {used[name] / used.total():.0%}", va="center", fontsize=6.5)
    left.set(title="Tools", xlabel="calls", xlim=(0, max(used.values()) * 1.15))
    row_axis(left, names)
    _whole(left.xaxis)
    places = range(min(lengths), max(lengths) + 1)
    right.bar(places, [lengths[n] / len(trajectories) for n in places], width=0.75, color=BAR)
    right.set(title="Calls a trajectory", xlabel="calls", ylabel="share of trajectories",
              xticks=list(places))
    return figure, f"""Tool use of {len(trajectories)} accepted teacher trajectories ({used.total()}
        calls, {used.total() / len(trajectories):.2f} a trajectory)."""


@picture
def tool_transitions(attempts: Attempts) -> Picture:
    """Which tool follows which in accepted trajectories: a row-normalised heat map with start and
    end."""
    trajectories = _accepted(attempts)
    if not trajectories:
        return _no_reference()
    pairs = Counter(pair for t in trajectories
                    for pair in zip(("start", *t.tool_names), (*t.tool_names, "end"), strict=True))
    counts = Counter(n for t in trajectories for n in t.tool_names)
    names = sorted(counts, key=lambda n: (-counts[n], n))
    rows, columns = ["start", *names], [*names, "end"]
    table = np.array([[pairs[a, b] for b in columns] for a in rows], float)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    size = 1.15 + 0.3 * len(columns)
    figure = Figure(figsize=(max(SINGLE, size + 0.35), size))
    axes = figure.subplots()
    texts = [[f"{v:.2f}".lstrip("0") if v >= 0.005 else "" for v in row] for row in shares]
    draw_heatmap(axes, shares, rows, columns, texts)
    axes.set(xlabel="next", ylabel="tool")
    return figure, f"""Tool transitions of {len(trajectories)} accepted teacher trajectories: share
        of each row's calls that are followed by the column's tool (below half a percent left
        blank)."""


def draw_heatmap(axes: Axes, values: np.ndarray, rows: list[str], columns: list[str],
                 texts: list[list[str]],
                 top: float = 1.0) -> None:
    """A heat map from white (0) to dark blue (`top`), each cell with its text in a legible
    colour."""
    axes.imshow(values, cmap="Blues", vmin=0, vmax=top * 1.15, aspect="auto")
    for i, line in enumerate(texts):
        for j, text in enumerate(line):
            axes.text(j, i, text, ha="center", va="center", fontsize=6.5,
                      color="white" if values[i, j] > 0.62 * top else "#202020")
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
