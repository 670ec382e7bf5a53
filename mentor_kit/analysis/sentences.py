"""What every generated sentence is made of: names, counts, percentages and lists."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mentor_kit.analysis.style import EXPECTED, escape_html, label, split_label
from mentor_kit.analysis.summaries import IN_DOMAIN, OUT_OF_DOMAIN

MANY = 5  # methods that one sentence names


class Finding(str):
    """A sentence (or a few lines). Shows itself as a paragraph a line in Jupyter."""

    def _repr_html_(self) -> str:
        return "".join(f"<p>{escape_html(line)}</p>" for line in self.splitlines())


def where(split: str) -> str:
    """`In domain`, `On longer chains`: how a sentence begins."""
    words = split_label(split)
    return words.capitalize() if split in (IN_DOMAIN, OUT_OF_DOMAIN) else f"On {words}"


def named(method: str, frame: pd.DataFrame) -> str:
    """The label of a method among those of a frame."""
    return label(method, frame["method"].unique())


def percent_text(row: pd.Series) -> str:
    """`79.3% [73.5, 84.0]`."""
    low, high = (f"{100 * row[bound]:.1f}" for bound in ("low", "high"))
    return f"{100 * row['estimate']:.1f}% [{low}, {high}]"


def counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def seed_count(frame: pd.DataFrame, *methods: str) -> str:
    """`one seed`, `5 seeds`, `1 to 5 seeds`: of the named methods, or of all."""
    frame = frame[frame["method"].isin(methods)] if methods else frame
    counts = frame.groupby("method")["seed"].nunique()
    low, high = counts.min(), counts.max()
    if low != high:
        return f"{low} to {high} seeds"
    return "one seed" if low == 1 else f"{low} seeds"


def joined(by_method: dict[str, str]) -> str:
    """The text of each method; of many only those of the main comparison, and how many others."""
    if len(by_method) <= MANY:
        return "; ".join(by_method.values())
    named = [text for method, text in by_method.items() if method in EXPECTED]
    named = named or list(by_method.values())[:MANY]
    return "; ".join(named) + f" (and {counted(len(by_method) - len(named), 'other method')})"


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)
