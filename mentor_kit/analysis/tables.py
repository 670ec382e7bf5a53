"""The tables of a study; rows are methods.

    from mentor_kit.analysis import tables
    tables.main_table(results.main_items)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from mentor_kit.analysis.conditions import held_text
from mentor_kit.analysis.style import focus, label, ordered, split_label
from mentor_kit.analysis.summaries import (
    LAST_SPLIT,
    fewer_items_text,
    metric_intervals,
    ordered_splits,
    paired_difference,
    refuse_empty,
    seed_scores,
    seeds_text,
    similarity_intervals,
)
from mentor_kit.analysis.table import ABSENT, Table, percent, points, readable
from mentor_kit.errors import UserError
from mentor_kit.metrics.bootstrap import Interval, probability_of_improvement

__all__ = ["Table", "budget_table", "difference_table", "main_rows", "main_table", "percent",
           "points", "process_table", "readable", "split_rates", "summary_markdown",
           "wall_time_table"]
SIMILARITY = {"set_match": "set match", "unknown_tool": "unknown tool", "similarity": "1 - JSD"}


def similarity_rows(items: pd.DataFrame) -> pd.DataFrame:
    """Set match, unknown-tool rate and 1 - JSD with intervals: rows metric, split, method,
    estimate, low, high, n."""
    frames = [metric_intervals(items, "set_match").assign(metric="set_match"),
              metric_intervals(items, "unknown_tool").assign(metric="unknown_tool"),
              similarity_intervals(items).assign(metric="similarity")]
    return pd.concat(frames, ignore_index=True)


def teacher_rows(items: pd.DataFrame) -> pd.DataFrame:
    """The teacher's row: how often the judge calls its attempts right, over every item, as for any
    student; its similarity to itself is 1.

    A right attempt need not be a reference (one that was rejected for its calls is still right), so
    this is more than the share that was accepted, which the caption tells. Splits that the teacher
    was not asked are left out.
    """
    rows = []
    for split in ordered_splits(items["split"]):
        once = items[items["split"] == split].groupby("problem_id").first()
        right = once["teacher_correct"].dropna().astype(float)
        references = int(once["teacher_tools"].notna().sum())
        if len(right):
            rows.append(("correct", split, right.mean(), len(right)))
        if references:
            rows += [(metric, split, float(metric != "unknown_tool"), references)
                     for metric in SIMILARITY]
    frame = pd.DataFrame(rows, columns=["metric", "split", "estimate", "n"])
    return frame.assign(method="teacher", low=frame["estimate"], high=frame["estimate"])


def accepted_share(items: pd.DataFrame) -> float:
    """Share of the evaluated items that have a reference."""
    return float(items.groupby(["split", "problem_id"])["teacher_tools"].first().notna().mean())


def main_rows(items: pd.DataFrame) -> pd.DataFrame:
    """All numbers of the main table: rows metric, split, method, estimate, low, high, n."""
    measured = pd.concat([metric_intervals(items, "correct").assign(metric="correct"),
                          similarity_rows(items)])
    teacher = [] if "teacher" in set(items["method"]) else [teacher_rows(items)]
    columns = ["metric", "split", "method", "estimate", "low", "high", "n"]
    return pd.concat([*teacher, measured], ignore_index=True)[columns]


def main_table(items: pd.DataFrame) -> Table:
    """Methods and the teacher as rows; accuracy on every split with intervals, and similarity to
    the teacher. The best student of a column is bold, all of them when tied, none where every
    student has the same; a method with fewer items than others is not compared.

    Raises:
        UserError: no items.
    """
    refuse_empty(items)
    rows, splits = main_rows(items), ordered_splits(items["split"])
    home = splits[0]
    headers = {("correct", s): ("Accuracy (%)", split_label(s)) for s in splits}
    group = f"Similarity to the teacher (%), {split_label(home)}"
    headers |= {(metric, home): (group, name) for metric, name in SIMILARITY.items()}
    bounds = (rows["metric"] == "correct") & (rows["method"] != "teacher")
    rows["cell"] = [percent(row, b) for row, b in zip(rows.to_dict("records"), bounds, strict=True)]
    methods, keys = ordered(rows["method"].unique()), pd.MultiIndex.from_tuples(headers)
    cells, values, n = (
        rows.pivot(index="method", columns=["metric", "split"], values=v).reindex(methods, axis=0)
        .reindex(keys, axis=1) for v in ("cell", "estimate", "n"))
    values = values.astype(float).where(n == n.max()).drop(index="teacher", errors="ignore")
    values["unknown_tool"] *= -1
    best = np.isclose(values, values.max()) & (values.max() > values.min()).to_numpy()
    best = pd.DataFrame(best, values.index, keys).reindex(methods, fill_value=False)
    short = fewer_items_text(rows[rows["metric"] == "correct"])
    return Table(_labelled(cells.fillna(ABSENT), headers.values()), rows.drop(columns="cell"),
                 "Accuracy by the judge in percent, with 95% intervals over items (bootstrap; "
                 f"Wilson's where every item is alike; {seeds_text(items)} a method, "
                 f"{_n_text(rows)}); set match, unknown-tool rate and 1 - JSD in bits on "
                 f"{split_label(home)}. Best student bold. The teacher's row is the judge's "
                 "verdict on its own attempts, rejected ones included; "
                 f"{accepted_share(items):.0%} of the items have an accepted one. {short} "
                 f"{held_text(items)}".strip(),
                 _labelled(best, headers.values()))


def _labelled(cells: pd.DataFrame, headers: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Cells with the methods of their index as they are shown, under these headers."""
    index = pd.Index([label(m, cells.index) for m in cells.index])
    return pd.DataFrame(cells.to_numpy(), index, pd.MultiIndex.from_tuples(headers))


def _n_text(rows: pd.DataFrame) -> str:
    counts = rows.loc[rows["metric"] == "correct", "n"]
    low, high = int(counts.min()), int(counts.max())
    return f"n = {low} items a split" if low == high else f"n = {low} to {high} items a split"


def split_rates(items: pd.DataFrame) -> pd.DataFrame:
    """Accuracy, set match, unknown-tool rate and 1 - JSD of every method on every split (rates; no
    intervals), rows (split, method) as they are shown."""
    rows = main_rows(items)
    table = rows.pivot(index=["split", "method"], columns="metric", values="estimate")
    methods = ordered(rows["method"].unique())
    wanted = [(s, m) for s in ordered_splits(items["split"]) for m in methods]
    columns = {"correct": "accuracy", **SIMILARITY}
    table = table.reindex([w for w in wanted if w in table.index]).reindex(columns=list(columns))
    table.index = pd.MultiIndex.from_tuples(
        [(split_label(s), label(m, methods)) for s, m in table.index], names=["split", "method"])
    return table.rename(columns=columns).rename_axis(columns=None).round(3)


def summary_markdown(items: pd.DataFrame) -> str:
    """`split_rates` as a Markdown table: what a batch prints at its end."""
    refuse_empty(items)
    table = split_rates(items)
    lines = [["split", "method", *table.columns]]
    for key, row in zip(table.index, table.to_numpy(), strict=True):
        lines.append([*key, *("" if pd.isna(v) else f"{v:.3f}" for v in row)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
            for line in lines]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([text[0], rule, *text[1:]]) + "\n"


def difference_table(items: pd.DataFrame, method: str = "") -> Table:
    """One method (MENTOR where it is there, see `style.focus`) minus each other in accuracy, on
    every split, with paired intervals over items.

    With at least two seeds also the probability of improvement over seeds and splits.

    Raises:
        UserError: the method, or everything else, is missing.
    """
    refuse_empty(items)
    method = focus(items["method"].unique(), method)
    items = items[items["split"] != LAST_SPLIT]
    splits, methods = ordered_splits(items["split"]), ordered(items["method"].unique())
    name, rows, cells = label(method, methods), [], {}
    for other in [m for m in methods if m != method]:
        line = []
        for split in splits:
            found = paired_difference(items[items["split"] == split], "correct", method, other)
            line.append(points(found))
            rows += [(other, split, *found)] if found else []
        better = _improvement(items, method, other)
        rows += [(other, "probability of improvement", *better)] if better else []
        cells[other] = [*line, f"{better.estimate:.2f} [{better.low:.2f}, {better.high:.2f}]"
                        if better else ABSENT]
    headers = [(f"{name} minus ..., accuracy (points)", split_label(s)) for s in splits]
    numbers = pd.DataFrame(rows, columns=["other", "split", "estimate", "low", "high"])
    frame = pd.DataFrame.from_dict(cells, orient="index")
    frame.index = pd.Index([label(m, methods) for m in frame.index])
    frame.columns = pd.MultiIndex.from_tuples([*headers, ("Seeds", "P(better)")])
    return Table(frame, numbers.assign(method=method),
                 f"Accuracy of {name} minus each row's, in points, with 95% paired intervals over "
                 f"the items both have (bootstrap; after Wilson where every item is alike; "
                 f"{seeds_text(items)} a method). P(better): probability that a seed of {name} "
                 "beats one of the row's, averaged over splits, with a 95% stratified bootstrap "
                 "interval over seeds (needs two seeds).")


def _improvement(items: pd.DataFrame, method: str, other: str) -> Interval | None:
    a, b = seed_scores(items, method), seed_scores(items, other)
    alike = len(a) and len(b) and a.shape[1] == b.shape[1]
    return probability_of_improvement(a, b) if alike else None


PROCESS = {"n_executed": "executed calls", "n_failed": "failed calls",
           "n_malformed": "malformed calls", "turns": "turns"}


def process_table(items: pd.DataFrame) -> Table:
    """How answers came about and how they failed, over all tested items: calls and turns an item,
    failures by kind."""
    refuse_empty(items)
    items = items[items["split"].isin(ordered_splits(items["split"]))]
    means = items.groupby("method")[list(PROCESS)].mean()
    kinds = sorted(items["failure"].dropna().unique())
    for kind in kinds:
        means[kind] = (items["failure"] == kind).groupby(items["method"]).mean()
    means = means.loc[ordered(means.index)]
    cells = means.map("{:.2f}".format)
    cells[kinds] = (100 * means[kinds]).map("{:.1f}".format)
    headers = [("An item", name) for name in PROCESS.values()]
    headers += [("Failures (%)", kind.replace("_", " ")) for kind in kinds]
    return Table(_labelled(cells, headers), means.reset_index(),
                 "Calls and turns an item, and items without a judged answer by kind (all count as "
                 f"wrong), over all splits ({seeds_text(items)} a method).")


def budget_table(budgets: pd.DataFrame) -> Table:
    """What each method used: optimizer steps, sampled and teacher tokens (means over seeds). No
    wall times.

    Raises:
        UserError: no training run stored a budget.
    """
    names = [c for c in ("optimizer_steps", "sampled_tokens", "teacher_tokens", "teacher_forwards",
                         "parameters")
             if c in budgets]
    if budgets.empty or not names:
        raise UserError("No budgets: training runs write them to budget.json.")
    means = budgets.groupby("method")[names].mean()
    means = means.loc[ordered(means.index)]
    cells = means.map(lambda v: ABSENT if pd.isna(v) else f"{v:,.0f}")
    return Table(_labelled(cells, [("Used", c.replace("_", " ")) for c in names]),
                 means.reset_index(),
                 f"What each method used in training (means over {seeds_text(budgets)}). Wall "
                 "times are in wall_times.csv: they differ from machine to machine.")


def wall_time_table(wall_times: pd.DataFrame) -> Table:
    """Runs, and minutes a run, of every stage and method. Not reproducible."""
    runs = wall_times.groupby(["stage", "method", "key"])["seconds"].sum()
    means = (runs.groupby(["stage", "method"]).agg(["size", "mean"]) * (1, 1 / 60)).reset_index()
    means.columns = ["stage", "method", "runs", "minutes"]
    methods = set(means["method"]) - {""}
    rows = [(row.stage.replace("_", " "), label(row.method, methods) if row.method else "")
            for row in means.itertuples()]
    cells = pd.DataFrame({("Wall time", "runs"): means["runs"].map("{:.0f}".format),
                          ("Wall time", "minutes a run"): means["minutes"].map("{:.2f}".format)})
    cells.index = pd.MultiIndex.from_tuples(rows, names=["stage", "method"])
    return Table(cells, means, "Wall time by stage and method, means over runs; it differs from "
                               "machine to machine.")
