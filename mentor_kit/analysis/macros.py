"""The numbers of a study for its text, as TeX macros."""

from __future__ import annotations

import re

import pandas as pd

from mentor_kit.analysis.summaries import IN_DOMAIN, in_and_out, metric_intervals, refuse_empty
from mentor_kit.analysis.tables import main_rows
from mentor_kit.errors import UserError

DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
NAMES = {"correct": "accuracy"}
SUFFIXES = {"": "estimate", "Low": "low", "High": "high"}


def macro_name(*words: str) -> str:
    r"""A TeX macro name of letters only: `mentor`, `in_domain`, `accuracy` ->
    `mentorInDomainAccuracy`."""
    spelled = [re.sub("[0-9]", lambda digit: DIGITS[int(digit[0])], w) for w in words]
    parts = [p for w in spelled for p in re.split("[^A-Za-z]+", w) if p]
    return parts[0][0].lower() + parts[0][1:] + "".join(p[0].upper() + p[1:] for p in parts[1:])


def numbers_tex(items: pd.DataFrame) -> str:
    r"""Macros for the text, e.g. `\mentorInDomainAccuracy` (percent), with `...Low` and `...High`
    bounds.

    Also for `out_of_domain` (all shifted splits pooled). `\nItems...` is the number of items of a
    split's accuracies (of each method, where they differ), `\nReferences...` that of its
    comparisons with the teacher, and `\nSeeds...` the number of seeds of a method.

    Raises:
        UserError: two numbers would share a macro.
    """
    refuse_empty(items)
    rows = main_rows(items)
    pooled = metric_intervals(in_and_out(items), "correct").assign(metric="correct")
    rows = pd.concat([rows, pooled[pooled["split"] != IN_DOMAIN]], ignore_index=True)
    macros = _Macros()
    for row in rows.to_dict("records"):
        words = (row["method"], row["split"], NAMES.get(row["metric"], row["metric"]))
        suffixes = {"": "estimate"} if row["method"] == "teacher" else SUFFIXES
        for suffix, value in suffixes.items():
            macros.add(f"{100 * row[value]:.1f}", *words, suffix=suffix)
    students = rows[rows["method"] != "teacher"]
    for metric, word in (("correct", "n_items"), ("similarity", "n_references")):
        for split, group in students[students["metric"] == metric].groupby("split"):
            macros.add(str(group["n"].max()), word, split)
            if group["n"].nunique() > 1:
                for method, n in zip(group["method"], group["n"], strict=True):
                    macros.add(str(n), word, method, split)
    for method, seeds in items.groupby("method")["seed"].nunique().items():
        macros.add(str(seeds), "n_seeds", method)
    return "% Generated from the stored results; do not edit.\n" + "".join(
        f"\\newcommand{{\\{name}}}{{{value}}}\n" for name, value in macros.values.items())


class _Macros:
    """Macro names and their values; no name has two meanings."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.meaning: dict[str, tuple[str, ...]] = {}

    def add(self, value: str, *words: str, suffix: str = "") -> None:
        name = macro_name(*words) + suffix
        if self.meaning.setdefault(name, (*words, suffix)) != (*words, suffix):
            one, other = (" ".join(filter(None, w)) for w in (self.meaning[name], (*words, suffix)))
            raise UserError(f"Macro \\{name} would stand for {one!r} and for {other!r}: give the "
                            "methods or splits names that differ in letters and digits.")
        self.values[name] = value
