"""Figures of reward design (notebook 02): what each preset pays, how rewards spread, what
advantages they become."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mentor_kit.analysis.style import (
    REMARK,
    SINGLE,
    TEXT,
    Picture,
    label,
    method_style,
    picture,
    row_axis,
)
from mentor_kit.analysis.teacher_figures import draw_heatmap
from mentor_kit.errors import UserError
from mentor_kit.rewards.advantages import group_advantages

Scheme = Callable[[np.ndarray], np.ndarray]
# what a perfect rollout earns under most presets: the dark end of every heat map of rewards
MOST = 1.1
SCHEMES: dict[str, Scheme] = {"GRPO": group_advantages,
                              "not scaled": partial(group_advantages, scale=False)}


@picture
def reward_heatmap(scores: pd.DataFrame) -> Picture:
    """What each preset pays for each behaviour.

    Args:
        scores: total scores; index behaviours, one column a preset.

    Raises:
        UserError: an empty frame.
    """
    if scores.empty:
        raise UserError("No scores to draw: score at least one behaviour with one preset.")
    values = scores.to_numpy(float)
    labels = [label(c, scores.columns) for c in scores.columns]
    figure = Figure(figsize=(min(TEXT, 1.9 + 0.62 * len(labels)), 0.75 + 0.19 * len(scores)))
    axes = figure.subplots()
    texts = [[f"{v:.2f}" for v in row] for row in values]
    top = max(float(values.max()), MOST)
    draw_heatmap(axes, values, [str(i) for i in scores.index], labels, texts, top)
    return figure, f"""Score of {len(scores)} behaviours under {len(labels)} rewards. Colour: from 0
        (white) to {top:.2f} (dark)."""


@picture
def reward_distribution(scores: pd.DataFrame) -> Picture:
    """How the rewards of sampled rollouts spread, one panel a preset. Bars stand at the values that
    occur.

    Args:
        scores: total scores; one row a rollout, one column a preset.

    Raises:
        UserError: an empty frame.
    """
    if scores.empty:
        raise UserError("No scores to draw: sample and score some rollouts first.")
    presets = list(scores.columns)
    figure = Figure(figsize=(TEXT, 1.75))
    grid = figure.subplots(1, len(presets), sharey=True, sharex=True, squeeze=False)[0]
    for axes, preset in zip(grid, presets, strict=True):
        s = method_style(preset, presets)
        shares = scores[preset].round(6).value_counts(normalize=True).sort_index()
        axes.vlines(shares.index, 0, shares, color=s.color, linewidth=3)
        axes.axvline(scores[preset].mean(), color="#202020", linewidth=0.8, linestyle=(0, (3, 2)))
        axes.set(title=s.label, xlabel="reward", ylim=(0, None))
        axes.margins(x=0.06)
    grid[0].set_ylabel("share of rollouts")
    return figure, f"""Rewards of the same {len(scores)} sampled rollouts under each preset; dashed:
        the mean. Few distinct values mean few ways for rollouts of a group to differ."""


@picture
def reward_correlation(correlations: pd.Series) -> Picture:
    """How well each reward agrees with the judge on the same rollouts.

    Args:
        correlations: preset -> correlation of reward and correctness; nan where one of them never
            varies.

    Raises:
        UserError: an empty series.
    """
    if correlations.empty:
        raise UserError("No correlations to draw: score some rollouts with at least one preset.")
    presets = list(correlations.index)
    figure = Figure(figsize=(SINGLE, 0.6 + 0.17 * len(presets)))
    axes = figure.subplots()
    for i, preset in enumerate(presets):
        value = float(correlations[preset])
        if np.isnan(value):
            axes.text(0, i, " undefined: it or correctness never varies", va="center", fontsize=6,
                      color="#606060")
            continue
        axes.barh(i, value, height=0.7, color=method_style(preset, presets).color)
        axes.text(max(value, 0), i, f" {value:.2f}".replace("-", "−"), va="center", fontsize=6)
    row_axis(axes, [label(p, presets) for p in presets])
    low = min(0.0, float(np.nan_to_num(correlations.min())))
    axes.set(xlabel="correlation with correctness", xlim=(low * 1.1, 1.15))
    return figure, """Correlation of each reward with the judge's verdict over the same rollouts.
        Below 1, a reward pays for something else than the answer."""


@picture
def advantage_bars(groups: Mapping[str, Sequence[float]],
                   schemes: Mapping[str, Scheme] | None = None) -> Picture:
    """Rewards of some groups (top) and the advantages that each scheme turns them into (below).

    Args:
        groups: title -> rewards of the group's rollouts.
        schemes: name -> function from (1, rollouts) rewards to advantages; GRPO and unscaled unless
            given.

    Raises:
        UserError: no group.
    """
    if not groups:
        raise UserError("No groups to draw: give at least one list of rewards.")
    schemes = SCHEMES if schemes is None else schemes
    lines = {"reward": lambda r: r, **schemes}
    figure = Figure(figsize=(min(TEXT, max(SINGLE, 0.5 + 1.9 * len(groups))),
                             0.4 + 1.0 * len(lines)))
    grid = figure.subplots(len(lines), len(groups), sharex="col", sharey="row", squeeze=False)
    for row, (name, scheme) in zip(grid, lines.items(), strict=True):
        for axes, rewards in zip(row, groups.values(), strict=True):
            values = np.asarray(scheme(np.array([rewards], float)))[0]
            axes.bar(range(1, len(values) + 1), values, width=0.7, color="#8a8a8a"
                     if name == "reward" else "#4a6f8f")
            axes.axhline(0, color="#202020", linewidth=0.6)
            for i, value in enumerate(values, 1):
                text = (f"{value:.2f}" if name == "reward" else f"{value:+.2f}").replace("-", "−")
                up = value >= 0
                axes.annotate(text, (i, value), (0, 1.5 if up else -1.5),
                              textcoords="offset points", ha="center",
                              va="bottom" if up else "top", fontsize=5.5)
            axes.margins(y=0.25)
            axes.set_xticks(range(1, len(values) + 1))
        row[0].set_ylabel(name if name == "reward" else f"advantage\n({name})")
    for axes, title in zip(grid[0], groups, strict=True):
        axes.set_title(title)
    for axes in grid[-1]:
        axes.set_xlabel("rollout")
    return figure, """Rewards of groups of rollouts and the advantages they become. Dividing by the
        group's standard deviation makes groups alike whose rewards differ by very different
        amounts."""


@picture
def advantage_by_calls(frame: pd.DataFrame) -> Picture:
    """Mean advantage by number of calls in groups without a right answer, one line a preset.

    Args:
        frame: of `mentor_kit.rewards.diagnostics.advantages`.
    """
    empty = frame[frame["group"] == "none right"]
    if empty.empty:
        figure = Figure(figsize=(SINGLE, 0.5))
        figure.text(0.02, 0.5, "every group has a right answer", va="center", color=REMARK)
        return figure, """Every group has a right answer, so none shows what the bonus alone
            teaches: sample more problems, or a student that is right less often."""
    presets = list(dict.fromkeys(empty["preset"]))
    figure = Figure(figsize=(SINGLE, 2.2))
    axes = figure.subplots()
    for preset in presets:
        style = method_style(preset, presets)
        means = empty[empty["preset"] == preset].groupby("calls")["advantage"].mean()
        axes.plot(means.index, means, color=style.color, marker=style.marker,
                  linestyle=style.linestyle, label=style.label)
    axes.axhline(0, color="#202020", linewidth=0.6)
    axes.set(xlabel="calls of a rollout", ylabel="mean advantage")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    share = (frame["group"] == "none right").mean()
    return figure, f"""Mean advantage by number of calls, in the {share:.0%} of groups without a
        right answer. Only small terms differ there, most of all a bonus for not inventing
        tools, which is paid for no call, too: a line that falls teaches to call less."""
