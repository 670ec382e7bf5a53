"""From evaluated items to the numbers that figures and tables show: means, intervals, paired
differences.

`items` is always the frame of `mentor_kit.analysis.frame.Results.items`. A value of an item is its
mean over seeds and samples; intervals are 95% bootstrap intervals over items, drawn alike for all
methods.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from mentor_kit.metrics.bootstrap import (
    Interval,
    bootstrap_interval,
    interval,
    paired_bootstrap,
    resampled_means,
)
from mentor_kit.metrics.trajectories import UNKNOWN, count_similarity

IN_DOMAIN, OUT_OF_DOMAIN = "in_domain", "out_of_domain"
SPLITS = (IN_DOMAIN, "distractor_seen", "distractor_unseen", "longer_solutions",
          "held_out_templates", "longer_chains",
          "bigger_numbers", "other_phrasing", "unseen_combinations")
# all its attempts rejected, right or not: neither in domain nor a shift of its own
LAST_SPLIT = "teacher_rejected"
NOT_TESTED = ("train", "validation")


def ordered_splits(splits: Iterable[str]) -> list[str]:
    """Tested splits in their fixed order: in domain, the shifted ones, what the teacher
    rejected."""
    found = set(splits) - set(NOT_TESTED)
    own = sorted(found - {*SPLITS, LAST_SPLIT})
    return [s for s in (*SPLITS, *own, LAST_SPLIT) if s in found]


def in_and_out(items: pd.DataFrame) -> pd.DataFrame:
    """Items with every split named `in_domain` or `out_of_domain` (all shifted splits); others left
    out."""
    shifted = [s for s in ordered_splits(items["split"]) if s not in (IN_DOMAIN, LAST_SPLIT)]
    kept = items[items["split"].isin([IN_DOMAIN, *shifted])]
    return kept.assign(split=np.where(kept["split"] == IN_DOMAIN, IN_DOMAIN, OUT_OF_DOMAIN))


def per_item(items: pd.DataFrame, column: str) -> pd.DataFrame:
    """Values of a metric: index problem_id, one column a method. Only items that every method has a
    value for."""
    values = items.assign(_value=pd.to_numeric(items[column]).astype(float))
    return values.pivot_table(index="problem_id", columns="method", values="_value",
                              aggfunc="mean").dropna()


def metric_intervals(items: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean of a metric with its interval over items: rows split, method, estimate, low, high, n
    (items)."""
    rows = []
    for split in ordered_splits(items["split"]):
        table = per_item(items[items["split"] == split], column)
        for method in table.columns if len(table) else []:
            rows.append((split, method, *bootstrap_interval(table[method].to_numpy()), len(table)))
    return pd.DataFrame(rows, columns=["split", "method", "estimate", "low", "high", "n"])


def similarity_intervals(items: pd.DataFrame) -> pd.DataFrame:
    """Pooled tool similarity (1 - JSD, bits) with its interval over items: columns as
    `metric_intervals`."""
    rows = []
    for split in ordered_splits(items["split"]):
        for method, group in items[items["split"] == split].groupby("method"):
            teacher, student, names = count_arrays(group)
            if len(teacher):
                sums = resampled_means(np.hstack([teacher, student]))
                drawn = count_similarity(sums[:, :len(names)], sums[:, len(names):])
                pooled = count_similarity(teacher.sum(0), student.sum(0))
                rows.append((split, method, *interval(float(pooled), drawn), len(teacher)))
    return pd.DataFrame(rows, columns=["split", "method", "estimate", "low", "high", "n"])


def count_arrays(items: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Teacher and student tool counts by item with a reference, summed over seeds: two (items,
    tools) arrays, names."""
    rows = items.dropna(subset="teacher_tools")
    names = sorted({n for c in ("tools", "teacher_tools") for t in rows[c]
                    for n in t} - {UNKNOWN}) + [UNKNOWN]
    column = {n: i for i, n in enumerate(names)}
    index = {p: i for i, p in enumerate(sorted(rows["problem_id"].unique()))}
    teacher, student = (np.zeros((len(index), len(names))) for _ in range(2))
    for problem, wanted, called in rows[["problem_id", "teacher_tools",
                                         "tools"]].itertuples(index=False):
        for array, tools in ((teacher, wanted), (student, called)):
            np.add.at(array[index[problem]], [column[n] for n in tools], 1)
    return teacher, student, names


def pooled_similarity(items: pd.DataFrame) -> float:
    """1 - JSD (bits) of all calls of these items against their references'; nan where none has a
    reference."""
    teacher, student, _ = count_arrays(items)
    return float(count_similarity(teacher.sum(0), student.sum(0))) if len(teacher) else float("nan")


def paired_difference(
    items: pd.DataFrame, column: str, method: str, baseline: str
) -> Interval | None:
    """Mean difference of two methods over the items both have, with its paired interval; None
    without such items."""
    table = per_item(items[items["method"].isin([method, baseline])], column)
    if not {method, baseline} <= set(table.columns) or table.empty:
        return None
    return paired_bootstrap(table[method].to_numpy(), table[baseline].to_numpy())


def by_seed(items: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean of a metric by split, method and seed (column `value`); `similarity_pooled` is the
    pooled 1 - JSD."""
    groups = items.groupby(["split", "method", "seed"])
    if column == "similarity_pooled":
        rows = [(*key, pooled_similarity(group)) for key, group in groups]
        return pd.DataFrame(rows, columns=["split", "method", "seed", "value"]).dropna()
    values = items.assign(value=pd.to_numeric(items[column]).astype(float))
    return values.groupby(["split", "method", "seed"])["value"].mean().dropna().reset_index()


def seed_scores(items: pd.DataFrame, method: str, column: str = "correct") -> np.ndarray:
    """Scores of a method as (seeds, splits), the splits in their fixed order; seeds that lack a
    split are left out."""
    table = by_seed(items[items["method"] == method], column).pivot(index="seed", columns="split",
                                                                    values="value")
    return table.reindex(columns=ordered_splits(table.columns)).dropna().to_numpy()


def n_seeds(frame: pd.DataFrame) -> int:
    """The smallest number of seeds that a method of this frame has (0 for an empty frame)."""
    return int(frame.groupby("method")["seed"].nunique().min()) if len(frame) else 0


def seeds_said(frame: pd.DataFrame) -> str:
    """`1 seed`, `5 seeds`, or `2 to 5 seeds` where methods differ."""
    counts = frame.groupby("method")["seed"].nunique()
    low, high = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
    return f"{low} to {high} seeds" if low != high else f"{low} seed{'s' * (low != 1)}"
