"""The sentences under the figures of `mentor_kit.analysis.regimes`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mentor_kit.analysis.conditions import (
    LEVEL,
    QUIRK,
    SIZE,
    TEMPERATURE,
    at,
    condition_text,
    decoded_items,
    levels_of,
    map_cells,
    varying_items,
)
from mentor_kit.analysis.regimes import signal_curves
from mentor_kit.analysis.sentences import (
    Finding,
    counted,
    joined,
    named,
    percent_text,
    seed_count,
)
from mentor_kit.analysis.style import ordered
from mentor_kit.analysis.summaries import IN_DOMAIN, seed_intervals


def regime_map(items: pd.DataFrame) -> Finding:
    """The most accurate trained method in domain for every level of the cold start and teacher.

    Raises:
        UserError: no items, or cold starts of one level only.
    """
    items, doses = map_cells(items)
    items, lines = items[items["split"] == IN_DOMAIN], []
    for dose in doses:
        here, told = items if np.isnan(dose) else at(items, {QUIRK: dose}), []
        for level in levels_of(here):
            rows = seed_intervals(here[here[LEVEL] == level]).sort_values("estimate")
            best = rows.iloc[-1]
            told.append(f"{level} {named(best['method'], items)} {percent_text(best)}")
        teacher = f", {condition_text({QUIRK: dose})}" if not np.isnan(dose) else ""
        lines.append(f"Most accurate in domain by cold start{teacher} ({seed_count(items)} a "
                     f"method): {', '.join(told)}.")
    return Finding("\n".join(lines))


def quirk_dose(items: pd.DataFrame) -> Finding:
    """In-domain accuracy at the lowest and at the highest dose of the teacher's quirks.

    Raises:
        UserError: no items, or no method with two doses.
    """
    return _first_and_last(varying_items(items, QUIRK), QUIRK, "dose {:g}")


def data_scaling(items: pd.DataFrame) -> Finding:
    """In-domain accuracy at the smallest and at the largest number of training references.

    Raises:
        UserError: no items, or no method with two numbers of references.
    """
    return _first_and_last(varying_items(items, SIZE), SIZE, "{:g} references")


def _first_and_last(items: pd.DataFrame, name: str, words: str) -> Finding:
    inside, told = items[items["split"] == IN_DOMAIN], {}
    for method in ordered(inside["method"].unique()):
        rows = inside[inside["method"] == method]
        values = sorted(rows[name].dropna().unique())
        if values:
            first, last = (percent_text(seed_intervals(rows[rows[name] == value]).iloc[0])
                           for value in (values[0], values[-1]))
            told[method] = (f"{named(method, items)} from {first} with {words.format(values[0])} "
                            f"to {last} with {words.format(values[-1])}")
    return Finding(f"In domain ({counted(inside['problem_id'].nunique(), 'item')}, "
                   f"{seed_count(inside)} a method), {joined(told)}.")


def sampled_and_greedy(items: pd.DataFrame) -> Finding:
    """In-domain accuracy of sampled answers beside greedy ones, a line a level of the cold start.

    Raises:
        UserError: no items, or evaluations at one temperature only.
    """
    items, warm = decoded_items(items)
    lines = []
    for level in levels_of(items) or [None]:
        here, told = items[items[LEVEL] == level] if level else items, {}
        for method in ordered(here["method"].unique()):
            greedy, sampled = (
                percent_text(seed_intervals(here[(here["method"] == method)
                                                 & (here[TEMPERATURE] == t)]).iloc[0])
                for t in (warm[0], warm[-1]))
            told[method] = f"{named(method, items)} {sampled} against {greedy}"
        begin = f"In domain, {condition_text({LEVEL: level})}" if level else "In domain"
        lines.append(f"{begin}, sampled at temperature {warm[-1]:g} against "
                     f"{condition_text({TEMPERATURE: warm[0]})} ({seed_count(here)} a method): "
                     f"{joined(told)}.")
    return Finding("\n".join(lines))


def groups_with_signal(curves: pd.DataFrame) -> Finding:
    """Shares of groups whose rewards differ, and whose answers do, in the first fifth of the steps.

    Raises:
        UserError: no RL method logged its groups.
    """
    curves, lines = signal_curves(curves), []
    early = curves[curves["step"] <= max(1, curves["step"].max() // 5)]
    for level in levels_of(early) or [None]:
        here, told = early[early[LEVEL] == level] if level else early, {}
        for method in ordered(here["method"].unique()):
            shares = here[here["method"] == method][["differs", "mixed"]].mean()
            told[method] = f"{named(method, here)} {100 * shares['differs']:.0f}%"
            if not pd.isna(shares["mixed"]):
                told[method] += f" ({100 * shares['mixed']:.0f}% by right and wrong answers)"
        begin = f"{condition_text({LEVEL: level}).capitalize()}: groups" if level else "Groups"
        lines.append(f"{begin} whose rewards differ in the first fifth of the steps "
                     f"({seed_count(here)} a method): {joined(told)}.")
    return Finding("\n".join(lines))
