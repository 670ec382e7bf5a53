"""Tables of a study and the numbers for its text: CSV, LaTeX (booktabs, escaped, best bold), HTML,
macros.

Rows are methods, rates are percentages. A table keeps its numbers (for CSV) beside the cells as
printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mentor_kit.analysis.style import label, method_style, ordered, split_label
from mentor_kit.analysis.summaries import (
    IN_DOMAIN,
    LAST_SPLIT,
    in_and_out,
    metric_intervals,
    ordered_splits,
    paired_difference,
    seed_scores,
    seeds_said,
    similarity_intervals,
)
from mentor_kit.errors import UserError
from mentor_kit.metrics.bootstrap import Interval, probability_of_improvement

DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
ABSENT = "n/a"
LIKENESS = {"set_match": "set match", "unknown_tool": "unknown tool", "similarity": "1 - JSD"}


@dataclass(frozen=True)
class Table:
    """A table in its three forms.

    Args:
        cells: the cells as printed; index row labels, columns (group, name).
        best: which cells are bold; same shape.
        numbers: tidy rows of the values behind the cells, for CSV.
        caption: states seeds, intervals and n.
    """

    cells: pd.DataFrame
    best: pd.DataFrame
    numbers: pd.DataFrame
    caption: str

    def to_csv(self) -> str:
        return self.numbers.to_csv(index=False, float_format=lambda v: f"{round(v, 9) + 0.0:.6g}",
                                   lineterminator="\n")

    def to_latex(self) -> str:
        """A `tabular` with booktabs rules, scaled to the text width where it is wider."""
        styler = self.cells.style.format(escape="latex")
        for axis in (0, 1):
            styler = styler.format_index(escape="latex", axis=axis)
        styler = styler.apply(lambda _: np.where(self.best, "textbf:--rwrap;", ""), axis=None)
        body = styler.to_latex(hrules=True, multicol_align="c",
                               column_format="l" + "r" * self.cells.shape[1])
        return (f"% Needs the packages booktabs and adjustbox. {self.caption}\n"
                "\\begin{adjustbox}{max width=\\textwidth}\n" + body + "\\end{adjustbox}\n")

    def to_html(self, name: str = "table") -> str:
        styler = (
            self.cells.style.format(escape="html")
            .set_uuid(name)
            .set_table_attributes('class="table"')
        )
        styler = styler.apply(lambda _: np.where(self.best, "font-weight:bold", ""), axis=None)
        return styler.to_html()

    def _repr_html_(self) -> str:
        return self.to_html() + f"<p>{self.caption}</p>"


def percent(row: pd.Series | Mapping[str, float], bounds: bool = True) -> str:
    """`79.3 [74.0, 84.5]`: an estimate and its interval in percent."""
    if pd.isna(row["estimate"]):
        return ABSENT
    text = f"{100 * row['estimate']:.1f}"
    return f"{text} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]" if bounds else text


def points(difference: Interval | None) -> str:
    """`+2.1 [-3.5, +7.0]`: a difference of two rates and its interval in percentage points."""
    if difference is None:
        return ABSENT
    middle, low, high = (_signed(100 * v) for v in difference)
    return f"{middle} [{low}, {high}]"


def _signed(value: float) -> str:
    """One decimal; more where a value that is not 0 would read as 0, because 0 decides."""
    value = round(value, 6) + 0.0
    for digits in range(1, 7):
        text = f"{value:+.{digits}f}"
        if float(text) or not value:
            return text
    return text


def likeness_rows(items: pd.DataFrame) -> pd.DataFrame:
    """Set match, unknown-tool rate and 1 - JSD with intervals: rows metric, split, method,
    estimate, low, high, n."""
    frames = [metric_intervals(items, "set_match").assign(metric="set_match"),
              metric_intervals(items, "unknown_tool").assign(metric="unknown_tool"),
              similarity_intervals(items).assign(metric="similarity")]
    return pd.concat(frames, ignore_index=True)


def teacher_rows(items: pd.DataFrame) -> pd.DataFrame:
    """The teacher's row: how often the judge calls its attempts right, over every item, as for any
    student; its likeness to itself is 1.

    A right attempt need not be a reference (one that was rejected for its calls is still right), so
    this is more than the share that was accepted, which the caption tells. Splits that the teacher
    was not asked are left out.
    """
    rows = []
    for split in ordered_splits(items["split"]):
        asked = items[items["split"] == split].groupby("problem_id")[["teacher_correct",
                                                                      "teacher_tools"]].first()
        right, references = (
            asked["teacher_correct"].dropna().astype(float),
            int(asked["teacher_tools"].notna().sum()),
        )
        if len(right):
            rows.append(("correct", split, right.mean(), len(right)))
        if references:
            rows += [(metric, split, float(metric != "unknown_tool"), references)
                     for metric in LIKENESS]
    frame = pd.DataFrame(rows, columns=["metric", "split", "estimate", "n"])
    return frame.assign(method="teacher", low=frame["estimate"], high=frame["estimate"])


def accepted_share(items: pd.DataFrame) -> float:
    """Share of the evaluated items that have a reference."""
    return float(items.groupby(["split", "problem_id"])["teacher_tools"].first().notna().mean())


def main_rows(items: pd.DataFrame) -> pd.DataFrame:
    """All numbers of the main table: rows metric, split, method, estimate, low, high, n."""
    measured = pd.concat([metric_intervals(items, "correct").assign(metric="correct"),
                          likeness_rows(items)])
    teacher = [] if "teacher" in set(items["method"]) else [teacher_rows(items)]
    columns = ["metric", "split", "method", "estimate", "low", "high", "n"]
    return pd.concat([*teacher, measured], ignore_index=True)[columns]


def main_table(items: pd.DataFrame) -> Table:
    """Methods and the teacher as rows; accuracy on every split with intervals, and likeness to the
    teacher.

    Raises:
        UserError: no items.
    """
    if items.empty:
        raise UserError("No evaluated items: run the evaluation stage first.")
    rows, splits = main_rows(items), ordered_splits(items["split"])
    home = IN_DOMAIN if IN_DOMAIN in splits else splits[0]
    keys = [("correct", s) for s in splits] + [(m, home) for m in LIKENESS]
    headers = [("Accuracy (%)", split_label(s)) for s in splits]
    headers += [(f"Teacher likeness (%), {split_label(home)}", name) for name in LIKENESS.values()]
    methods = ordered(rows["method"].unique())
    found = rows.set_index(["metric", "split", "method"])
    cells, values = [], []
    for method in methods:
        line = [found.loc[(*key, method)] if (*key, method) in found.index
                else pd.Series({"estimate": np.nan})
                for key in keys]
        cells.append([percent(v, bounds=key[0] == "correct" and method != "teacher")
                      for key, v in zip(keys, line, strict=True)])
        values.append([np.nan if method == "teacher" else v["estimate"] for v in line])
    sign = [-1 if metric == "unknown_tool" else 1 for metric, _ in keys]
    return Table(_frame(cells, methods, headers), _best(np.array(values) * sign, methods, headers),
                 rows,
                 "Accuracy by the judge in percent, with 95% bootstrap intervals over items "
                 f"({seeds_said(items)} a method, {_n_said(rows)}); set match, unknown-tool rate "
                 f"and 1 - JSD in bits on {split_label(home)}. Best student bold. The teacher's "
                 "row is the judge's verdict on its own attempts, rejected ones included; "
                 f"{accepted_share(items):.0%} of the items have an accepted one.")


def _frame(
    cells: list[list[str]], methods: Iterable[str], headers: list[tuple[str, str]]
) -> pd.DataFrame:
    methods = list(methods)
    return pd.DataFrame(cells, index=[method_style(m, methods).label for m in methods],
                        columns=pd.MultiIndex.from_tuples(headers))


def _best(values: np.ndarray, methods: Iterable[str], headers: list[tuple[str,
                                                                          str]]) -> pd.DataFrame:
    """Marks the largest value of each column, all of them when tied."""
    top = np.nanmax(np.where(np.isnan(values), -np.inf, values), axis=0)
    return _frame((np.isclose(values, top) & np.isfinite(values)).tolist(), methods, headers)


def _n_said(rows: pd.DataFrame) -> str:
    counts = rows.loc[rows["metric"] == "correct", "n"]
    low, high = int(counts.min()), int(counts.max())
    return f"n = {low} items a split" if low == high else f"n = {low} to {high} items a split"


def before_and_after(items: pd.DataFrame) -> pd.DataFrame:
    """Accuracy, set match, unknown-tool rate and 1 - JSD of every method on every split (rates; no
    intervals)."""
    rows = main_rows(items)
    table = rows.pivot_table(index=["split", "method"], columns="metric", values="estimate")
    wanted = [(s, m) for s in ordered_splits(items["split"])
              for m in ordered(rows["method"].unique())]
    columns = {"correct": "accuracy", **LIKENESS}
    table = table.reindex(index=[w for w in wanted if w in table.index], columns=list(columns))
    return table.rename(columns=columns).round(3)


def summary_markdown(items: pd.DataFrame) -> str:
    """`before_and_after` as a Markdown table: what a batch prints at its end."""
    table = before_and_after(items)
    cells = [["" if pd.isna(v) else f"{v:.3f}" for v in row] for row in table.to_numpy()]
    lines = [["split", "method", *table.columns],
             *([split_label(split), label(m), *row] for (split, m),
               row in zip(table.index, cells, strict=True))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
            for line in lines]
    return "\n".join([text[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|",
                      *text[1:]]) + "\n"


def difference_table(items: pd.DataFrame, method: str = "mentor") -> Table:
    """One method minus each other in accuracy, on every split, with paired intervals over items.

    With at least two seeds also the probability of improvement over seeds and splits.

    Raises:
        UserError: the method, or everything else, is missing.
    """
    splits = [s for s in ordered_splits(items["split"]) if s != LAST_SPLIT]
    others = [m for m in ordered(items["method"].unique()) if m != method]
    if not others or method not in set(items["method"]):
        raise UserError(f"Differences to {method!r} need it and another method in the results.")
    rows, cells = [], []
    for other in others:
        line = [paired_difference(items[items["split"] == s], "correct", method, other)
                for s in splits]
        rows += [(other, s, *d) for s, d in zip(splits, line, strict=True) if d is not None]
        better = _improvement(items[items["split"].isin(splits)], method, other)
        rows += [(other, "probability of improvement", *better)] if better else []
        chance = (
            f"{better.estimate:.2f} [{better.low:.2f}, {better.high:.2f}]" if better else ABSENT
        )
        cells.append([*map(points, line), chance])
    name = method_style(method).label
    headers = [(f"{name} minus ..., accuracy (points)",
                split_label(s)) for s in splits] + [("Seeds", "P(better)")]
    frame = _frame(cells, others, headers)
    numbers = pd.DataFrame(rows, columns=["other", "split", "estimate", "low",
                                          "high"]).assign(method=method)
    return Table(frame, pd.DataFrame(False, frame.index, frame.columns), numbers,
                 f"Accuracy of {name} minus each row's, in points, with 95% paired bootstrap "
                 f"intervals over items ({seeds_said(items)} a method). P(better): probability "
                 f"that a seed of {name} beats one of the row's, averaged over splits, with a 95% "
                 "stratified bootstrap interval over seeds (needs two seeds).")


def _improvement(items: pd.DataFrame, method: str, other: str) -> Interval | None:
    a, b = seed_scores(items, method), seed_scores(items, other)
    return (
        probability_of_improvement(a, b) if len(a) and len(b) and a.shape[1] == b.shape[1] else None
    )


PROCESS = {"n_executed": "executed calls", "n_failed": "failed calls",
           "n_malformed": "malformed calls", "turns": "turns"}


def process_table(items: pd.DataFrame) -> Table:
    """How answers came about and how they failed, over all tested items: calls and turns an item,
    failures by kind."""
    if items.empty:
        raise UserError("No evaluated items: run the evaluation stage first.")
    items = items[items["split"].isin(ordered_splits(items["split"]))]
    means = items.groupby("method")[list(PROCESS)].mean()
    kinds = sorted(items["failure"].dropna().unique())
    for kind in kinds:
        means[kind] = (items["failure"] == kind).groupby(items["method"]).mean()
    methods = ordered(means.index)
    headers = [("An item", name) for name in PROCESS.values()] + [("Failures (%)",
                                                                   k.replace("_", " "))
                                                                  for k in kinds]
    cells = [[f"{means.loc[m, c]:.2f}" for c in PROCESS]
             + [f"{100 * means.loc[m, k]:.1f}" for k in kinds] for m in methods]
    frame = _frame(cells, methods, headers)
    return Table(frame, pd.DataFrame(False, frame.index, frame.columns),
                 means.loc[methods].reset_index(),
                 "Calls and turns an item, and items without a judged answer by kind (all count as "
                 f"wrong), over all splits ({seeds_said(items)} a method).")


def budget_table(budgets: pd.DataFrame) -> Table:
    """What each method used: optimizer steps, sampled and teacher tokens (means over seeds). No
    wall times.

    Raises:
        UserError: no training run stored a budget.
    """
    names = [c for c in ("optimizer_steps", "sampled_tokens", "teacher_tokens", "parameters")
             if c in budgets]
    if budgets.empty or not names:
        raise UserError("No budgets: training runs write them to budget.json.")
    means = budgets.groupby("method")[names].mean()
    methods = ordered(means.index)
    frame = _frame([[f"{means.loc[m, c]:,.0f}" for c in names] for m in methods], methods,
                   [("Used", c.replace("_", " ")) for c in names])
    return Table(frame, pd.DataFrame(False, frame.index, frame.columns),
                 means.loc[methods].reset_index(),
                 f"What each method used in training (means over {seeds_said(budgets)}). Wall "
                 "times are in wall_times.csv: they differ from machine to machine.")


def macro_name(*words: str) -> str:
    r"""A TeX macro name of letters only: `mentor`, `in_domain`, `accuracy` ->
    `mentorInDomainAccuracy`."""
    spelled = [re.sub("[0-9]", lambda digit: DIGITS[int(digit[0])], w) for w in words]
    parts = [p for w in spelled for p in re.split("[^A-Za-z]+", w) if p]
    return parts[0][0].lower() + parts[0][1:] + "".join(p[0].upper() + p[1:] for p in parts[1:])


def numbers_tex(items: pd.DataFrame) -> str:
    r"""Macros for the text, e.g. `\mentorInDomainAccuracy` (percent), with `...Low` and `...High`
    bounds.

    Also for `out_of_domain` (all shifted splits pooled), `\nItems...` by split and `\nSeeds` of
    each method.
    """
    rows = main_rows(items)
    pooled = metric_intervals(in_and_out(items), "correct").assign(metric="correct")
    rows = pd.concat([rows, pooled[pooled["split"] != IN_DOMAIN]], ignore_index=True)
    lines = {}
    for row in rows.to_dict("records"):
        name = macro_name(row["method"], row["split"],
                          {"correct": "accuracy"}.get(row["metric"], row["metric"]))
        for suffix, value in (
            {"": "estimate"}.items() if row["method"] == "teacher" else SUFFIXES.items()
        ):
            lines[name + suffix] = f"{100 * row[value]:.1f}"
        lines[macro_name("n_items", row["split"])] = str(row["n"])
    for method, seeds in items.groupby("method")["seed"].nunique().items():
        lines[macro_name("n_seeds", method)] = str(seeds)
    return "% Generated from the stored results; do not edit.\n" + "".join(
        f"\\newcommand{{\\{name}}}{{{value}}}\n" for name, value in lines.items())


SUFFIXES = {"": "estimate", "Low": "low", "High": "high"}
