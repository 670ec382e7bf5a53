"""Whether one method is better than another: the difference with its interval, and a verdict.

The interval of a difference is over seeds (cold starts) and items: seeds are resampled first, then
items. A verdict compares methods, from 3 seeds on. With fewer a sentence speaks of these students,
and the interval is over items alone.

- `supported`: the whole 95% interval is on the claim's side of 0: the first method is more
  accurate, or lower in the unknown-tool rate.
- `not supported`: the whole interval is on the other side, and the other method is ahead.
- `cannot be told`: the interval holds 0, there are too few seeds, or a method has no items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from mentor_kit.analysis.sentences import Finding, counted, named, seed_count, where
from mentor_kit.analysis.style import label
from mentor_kit.analysis.summaries import (
    IN_DOMAIN,
    OUT_OF_DOMAIN,
    in_and_out,
    paired_difference,
    seed_values,
)
from mentor_kit.analysis.table import points
from mentor_kit.metrics.bootstrap import Interval, crossed_interval

SUPPORTED, NOT_SUPPORTED, CANNOT_TELL = "supported", "not supported", "cannot be told"
ENOUGH = 3  # seeds from which on a sentence compares methods
METRICS = {"correct": "", "set_match": " in tool-set match",
           "unknown_tool": " in unknown-tool rate"}
LOWER_IS_BETTER = ("unknown_tool",)


class Comparison(NamedTuple):
    """Two methods on the items both have: the difference, of how many items, and of each seed that
    both have."""

    difference: Interval | None
    items: int = 0
    by_seed: tuple[float, ...] = ()


def compare(items: pd.DataFrame, column: str, method: str, baseline: str) -> Comparison:
    """`method` minus `baseline` in a metric: over seeds and items from 3 common seeds on, else over
    items."""
    first, second = (seed_values(items[items["method"] == m], column) for m in (method, baseline))
    values = (first - second).dropna(how="all").dropna(how="all", axis=1)
    by_seed = tuple(values.mean(axis=1))
    if len(values) >= ENOUGH:
        return Comparison(crossed_interval(values.to_numpy(), -1, 1), values.shape[1], by_seed)
    found = paired_difference(items, column, method, baseline)
    shared = first.columns.intersection(second.columns)
    return Comparison(found, len(shared) if found else 0, by_seed)


def verdict(found: Comparison, lower_is_better: bool = False) -> str:
    """Whether the claim that the first method is better is supported, by the rules on top."""
    enough = len(found.by_seed) >= ENOUGH
    return _side(found, lower_is_better) if enough else CANNOT_TELL


def _side(found: Comparison, lower_is_better: bool) -> str:
    """The verdict by the interval alone."""
    if found.difference is None:
        return CANNOT_TELL
    sign = -1 if lower_is_better else 1
    ends = [sign * round(v, 9) for v in (found.difference.low, found.difference.high)]
    if min(ends) > 0:
        return SUPPORTED
    return NOT_SUPPORTED if max(ends) < 0 else CANNOT_TELL


def difference(items: pd.DataFrame, method: str = "mentor", baseline: str = "sparse",
               split: str = IN_DOMAIN, column: str = "correct") -> Finding:
    """One method minus another on one split, with interval, items, seeds and verdict.

    Args:
        items: `Results.main_items`.
        split: a split, or `out_of_domain` for all shifted ones together.
        column: `correct`, `set_match` or `unknown_tool` (there lower is better).
    """
    items = on_split(items, split)
    found = compare(items, column, method, baseline)
    names = [named(m, items) for m in (method, baseline)]
    if found.difference is None:
        return Finding(f"{where(split)} {names[0]} against {names[1]}{METRICS[column]}: "
                       f"{CANNOT_TELL}, {missing_text(items, method, baseline)}.")
    words = judged_text(found, names, column in LOWER_IS_BETTER)
    return Finding(f"{where(split)} {names[0]} minus {names[1]}{METRICS[column]} is "
                   f"{points_text(found.difference)} over {counted(found.items, 'item')}, "
                   f"{seed_count(items, method, baseline)}. That it is better: {words}.")


def on_split(items: pd.DataFrame, split: str) -> pd.DataFrame:
    """The items of a split, or of all shifted ones together (`out_of_domain`)."""
    items = in_and_out(items) if split == OUT_OF_DOMAIN else items
    return items[items["split"] == split]


def missing_text(items: pd.DataFrame, *methods: str) -> str:
    absent = [label(m) for m in methods if m not in set(items["method"])]
    return f"no items of {' and '.join(absent)}" if absent else "no item that both answered"


def points_text(found: Interval) -> str:
    return points(found).replace(" ", " points ", 1)


def judged_text(found: Comparison, names: Sequence[str], lower_is_better: bool = False) -> str:
    """The verdict with its reason; with few seeds what holds of these students."""
    side = _side(found, lower_is_better)
    ahead = f"{names[1]} is {'lower' if lower_is_better else 'ahead'}"
    few = {SUPPORTED: "it holds", NOT_SUPPORTED: f"it does not hold, {ahead}",
           CANNOT_TELL: f"it {CANNOT_TELL}"}
    if len(found.by_seed) < ENOUGH:
        return f"of these students {few[side]}"
    return {SUPPORTED: side, NOT_SUPPORTED: f"{side}, {ahead}",
            CANNOT_TELL: f"{side}, the interval holds 0"}[side]
