"""A table in its three forms (CSV, LaTeX, HTML) and how its cells are written.

Rates are percentages, differences percentage points. A table keeps its numbers (for CSV) beside the
cells as printed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from mentor_kit.analysis.style import escape_html
from mentor_kit.metrics.bootstrap import Interval

ABSENT = "n/a"


@dataclass(frozen=True)
class Table:
    """A table in its three forms.

    Args:
        cells: the cells as printed; index row labels, columns (group, name).
        numbers: tidy rows of the values behind the cells, for CSV.
        caption: states seeds, intervals and n.
        best: which cells are bold, same shape as `cells`; None for none.
    """

    cells: pd.DataFrame
    numbers: pd.DataFrame
    caption: str
    best: pd.DataFrame | None = None

    def to_csv(self) -> str:
        """Numbers with all their digits, to nine decimals; never as 1e+08."""
        return self.numbers.to_csv(
            index=False, lineterminator="\n",
            float_format=lambda v: np.format_float_positional(round(v, 9) + 0.0, trim="-"))

    def to_latex(self) -> str:
        """A `tabular` with booktabs rules, scaled to the text width where it is wider."""
        styler = self._styler("latex", "textbf:--rwrap;")
        columns = "l" * self.cells.index.nlevels + "r" * self.cells.shape[1]
        body = styler.to_latex(hrules=True, multicol_align="c", column_format=columns)
        return (f"% Needs the packages booktabs and adjustbox. {' '.join(self.caption.split())}\n"
                "\\begin{adjustbox}{max width=\\textwidth}\n" + body + "\\end{adjustbox}\n")

    def to_html(self) -> str:
        """The table alone. Its ids are a hash of its contents: the style of one table never reaches
        another on the same page."""
        styler = self._styler("html", "font-weight:bold").set_table_attributes('class="table"')
        contents = self.cells.to_csv() + ("" if self.best is None else self.best.to_csv())
        styler.set_uuid(hashlib.sha256(contents.encode()).hexdigest()[:12])
        return styler.to_html().replace("$", "<span>$</span>")  # no formula

    def _styler(self, escape: str, bold: str) -> Styler:
        styler = self.cells.style.format(escape=escape)
        for axis in (0, 1):
            styler = styler.format_index(escape=escape, axis=axis)
        if self.best is None:
            return styler
        return styler.apply(lambda _: np.where(self.best, bold, ""), axis=None)

    def _repr_html_(self) -> str:
        return self.to_html() + f"<p>{escape_html(self.caption)}</p>"


def readable(frame: pd.DataFrame) -> Styler:
    """A frame for people: whole numbers as such, others with two decimals, blanks for missing
    ones."""
    formats = {}
    for place, name in enumerate(frame.columns):
        column = frame.iloc[:, place]
        if pd.api.types.is_float_dtype(column):
            whole = (column.dropna() % 1 == 0).all()
            formats[name] = "{:.0f}" if whole else "{:.2f}"
    styler = frame.style.format(formats, na_rep="", escape="html")
    # the same table has the same ids, in every execution of a notebook
    return styler.set_uuid(hashlib.sha256(frame.to_csv().encode()).hexdigest()[:12])


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
