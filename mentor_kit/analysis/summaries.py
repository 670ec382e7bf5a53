"""From evaluated items to the numbers that figures and tables show: means, intervals, paired
differences.

`items` is always the frame of `mentor_kit.analysis.frame.Results.items`. A value of an item is its
mean over seeds and samples. Intervals are 95% bootstrap intervals over items, drawn alike for all
methods; where a rate is the same for every item, they are Wilson's.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from mentor_kit.analysis.style import label, ordered, split_label
from mentor_kit.core.problem import LEARNT_FROM
from mentor_kit.errors import UserError
from mentor_kit.metrics.bootstrap import (
    Interval,
    crossed_interval,
    interval,
    paired_rates,
    rate_interval,
    resampled_means,
)
from mentor_kit.metrics.trajectories import UNKNOWN, count_similarity

IN_DOMAIN, OUT_OF_DOMAIN = "in_domain", "out_of_domain"
SPLITS = (IN_DOMAIN, "distractor_seen", "distractor_unseen", "longer_solutions",
          "held_out_templates", "longer_chains",
          "bigger_numbers", "other_phrasing", "unseen_combinations")
# all its attempts rejected, right or not: neither in domain nor a shift of its own
LAST_SPLIT = "teacher_rejected"


def refuse_empty(items: pd.DataFrame) -> None:
    """Raise UserError where there is no item of a tested split."""
    if items.empty or not ordered_splits(items["split"]):
        raise UserError("No evaluated items: run the evaluation stage first.")


def ordered_splits(splits: Iterable[str]) -> list[str]:
    """Tested splits in their fixed order: in domain, the shifted ones, what the teacher
    rejected."""
    found = set(splits) - set(LEARNT_FROM)
    own = sorted(found - {*SPLITS, LAST_SPLIT})
    return [s for s in (*SPLITS, *own, LAST_SPLIT) if s in found]


def in_and_out(items: pd.DataFrame) -> pd.DataFrame:
    """Items with every split named `in_domain` or `out_of_domain` (all shifted splits); others left
    out. An id that two splits share becomes one of each split."""
    shifted = [s for s in ordered_splits(items["split"]) if s not in (IN_DOMAIN, LAST_SPLIT)]
    kept = items[items["split"].isin([IN_DOMAIN, *shifted])]
    shared = kept.groupby("problem_id")["split"].transform("nunique") > 1
    ids = kept["problem_id"].where(~shared, kept["split"] + "/" + kept["problem_id"])
    home = kept["split"] == IN_DOMAIN
    return kept.assign(split=np.where(home, IN_DOMAIN, OUT_OF_DOMAIN), problem_id=ids)


def per_item(items: pd.DataFrame, column: str) -> pd.DataFrame:
    """Values of a rate: index problem_id, one column a method; nan where a method has none."""
    values = items.assign(_value=pd.to_numeric(items[column]).astype(float))
    return values.pivot_table(index="problem_id", columns="method", values="_value", aggfunc="mean")


def metric_intervals(items: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean of a rate with its interval over the items that the method has: rows split, method,
    estimate, low, high, n (items)."""
    rows = []
    for split in ordered_splits(items["split"]):
        for method, values in per_item(items[items["split"] == split], column).items():
            values = values.dropna().to_numpy()
            if len(values):
                rows.append((split, method, *rate_interval(values), len(values)))
    return pd.DataFrame(rows, columns=["split", "method", "estimate", "low", "high", "n"])


def fewer_items_text(rows: pd.DataFrame) -> str:
    """Which methods answered fewer items of a split than others did, of `metric_intervals`; "" if
    none."""
    most = rows.groupby("split")["n"].transform("max")
    short = rows.assign(most=most)[rows["n"] < most]
    if short.empty:
        return ""
    methods = rows["method"].unique()
    told = [f"{label(row.method, methods)} {row.n} of {row.most} ({split_label(row.split)})"
            for row in short.itertuples()]
    return f"Fewer items than others: {', '.join(told)}."


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


def paired_difference(items: pd.DataFrame, column: str, method: str,
                      baseline: str) -> Interval | None:
    """Mean difference of two methods' rates over the items both have, with its paired interval;
    None without such items."""
    table = per_item(items[items["method"].isin([method, baseline])], column).dropna()
    if not {method, baseline} <= set(table.columns) or table.empty:
        return None
    return paired_rates(table[method].to_numpy(), table[baseline].to_numpy())


def seed_values(items: pd.DataFrame, column: str) -> pd.DataFrame:
    """Values of a rate of one method: a row a seed, a column an item, nan where it has none."""
    values = items.assign(_value=pd.to_numeric(items[column]).astype(float))
    return values.pivot_table(index="seed", columns="problem_id", values="_value", aggfunc="mean")


def seed_intervals(items: pd.DataFrame, column: str = "correct") -> pd.DataFrame:
    """Mean of a rate of every method with its interval over seeds and items: rows method, estimate,
    low, high, n (items), seeds. One split at a time."""
    rows = []
    for method in ordered(items["method"].unique()):
        values = seed_values(items[items["method"] == method], column)
        if values.size:
            found = crossed_interval(values.to_numpy())
            rows.append((method, *found, values.shape[1], len(values)))
    return pd.DataFrame(rows, columns=["method", "estimate", "low", "high", "n", "seeds"])


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


def seeds_text(frame: pd.DataFrame) -> str:
    """`1 seed`, `5 seeds`, or `2 to 5 seeds` where methods differ."""
    counts = frame.groupby("method")["seed"].nunique()
    low, high = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
    if low != high:
        return f"{low} to {high} seeds"
    return "1 seed" if low == 1 else f"{low} seeds"
