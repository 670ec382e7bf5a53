"""What all figures share: sizes, one colour, marker and line style a method, and the one
`savefig`."""

from __future__ import annotations

import base64
import html
import io
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mentor_kit.core.files import atomic_path
from mentor_kit.errors import UserError

STYLE = Path(__file__).with_name("mentor.mplstyle")
SINGLE, TEXT = 3.25, 6.75  # inches: one column, text width
GREY = "#949494"
COLORBLIND = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", GREY,
              "#ece133", "#56b4e9")
STEPS = (1, 2, 2.5, 5, 10)  # between ticks
REMARK = "#757575"  # the colour of remarks such as a missing method
# dates and versions off: same bytes each time
METADATA = {"pdf": {"CreationDate": None}, "png": {"Software": None}}


class MethodStyle(NamedTuple):
    """How a method is drawn, everywhere."""

    label: str
    color: str
    marker: str
    linestyle: Any


METHODS = {
    "teacher": MethodStyle("Teacher", "#202020", "*", "-"),
    # a pretrained student, untrained
    "base": MethodStyle("Base model", "#505050", "d", (0, (1, 2))),
    "cold_start": MethodStyle("Cold start", GREY, "o", (0, (1, 1))),
    "cold_start_constrained": MethodStyle("Cold start, constrained decoding", "#ca9161", "h",
                                          (0, (4, 1, 1, 1, 1, 1))),
    "sft": MethodStyle("SFT", "#de8f05", "s", (0, (5, 1.5))),
    "sft_clean": MethodStyle("SFT, clean teacher", "#a65e00", "s", (0, (5, 1.5, 1, 1.5))),
    "sparse": MethodStyle("Sparse RL", "#0173b2", "^", (0, (4, 1, 1, 1))),
    "mentor": MethodStyle("MENTOR", "#029e73", "D", "-"),
    "any_overlap": MethodStyle("Any overlap", "#cc78bc", "v", (0, (3, 1))),
    "no_tool_match": MethodStyle("No tool match", "#56b4e9", "P", (0, (2, 1))),
    "set_f1": MethodStyle("Set F1", "#d55e00", "X", (0, (6, 1, 2, 1))),
    "count_f1": MethodStyle("Count F1", "#8c2d04", "<", (0, (3, 1, 1, 1))),
    "ordered": MethodStyle("Ordered", "#54278f", ">", (0, (5, 1))),
    "arguments": MethodStyle("Arguments", "#006d5b", "p", (0, (2, 2))),
    "strict": MethodStyle("Strict", "#a50f15", "8", (0, (4, 2))),
    "executed": MethodStyle("Executed", "#4a3728", "H", (0, (6, 2))),
    "matchtir": MethodStyle("MatchTIR", "#08519c", "d", (0, (1, 1.5))),
    "toolrl": MethodStyle("ToolRL", "#7b3294", "v", (0, (4, 1, 2, 1))),
    "mentor_fixed": MethodStyle("MENTOR fixed", "#00441b", "s", (0, (8, 1))),
    "mentor_no_hygiene": MethodStyle("MENTOR without hygiene", "#556b00", "P", (0, (8, 2, 2, 2))),
    "strict_no_hygiene": MethodStyle("Strict without hygiene", "#b30059", "X", (0, (3, 2, 1, 2))),
    "opd": MethodStyle("On-policy distillation", "#6a3d9a", "*", (0, (9, 2))),
    "rft": MethodStyle("Rejection sampling", "#b15928", "<", (0, (1, 2, 4, 2))),
    "dpo": MethodStyle("DPO", "#33657a", ">", (0, (2, 3))),
    "mixed": MethodStyle("Mixed groups", "#6b7a00", "h", (0, (7, 1, 1, 1, 1, 1))),
    "turn_credit": MethodStyle("Turn credit", "#c2255c", "^", (0, (5, 3, 1, 3))),
}
# for methods of one's own
SPARE = [("#7a5195", "<"), ("#404040", ">"), ("#9c1f6b", "p"), ("#7a6a00", "8"), ("#2f6f8f", "H"),
         ("#8a4b00", "h"), ("#3b6d11", "v"), ("#5b2c83", "^"), ("#914040", "s"), ("#1f5f5b", "d"),
         ("#5a5a00", "P"), ("#34495e", "X")]
SPARE_DASHES = [(0, (3, 1, 1, 1)), (0, (5, 2)), (0, (2, 1, 1, 1)), (0, (7, 1, 1, 1)), (0, (1, 1))]
LONGEST = 30  # characters of a label; a longer name loses its middle
# what the comparison is about; a figure says which it lacks
EXPECTED = ("cold_start", "sft", "sparse", "mentor")


def ordered(methods: Iterable[str]) -> list[str]:
    """Methods in their fixed order; unknown ones after the known ones, by name."""
    found = set(methods)
    return [m for m in METHODS if m in found] + sorted(found - set(METHODS))


def focus(methods: Iterable[str], wanted: str = "") -> str:
    """The method that a comparison is about: the wanted one, MENTOR, or else the first reward (or
    other student) that there is.

    Raises:
        UserError: the wanted method, or another one to compare with, is missing.
    """
    students = [m for m in ordered(methods) if m != "teacher"]
    rewards = [m for m in students if m not in ("base", "cold_start", "cold_start_constrained",
                                                "sft", "sparse")]
    first = next(iter(["mentor"] if "mentor" in students else rewards or students), "")
    chosen = wanted or first
    if chosen not in students or len(students) < 2:
        raise UserError(f"A comparison with {wanted or 'mentor'!r} needs it and another method; "
                        f"these results have {', '.join(students) or 'none'}.")
    return chosen


def method_style(method: str, among: Iterable[str] = ()) -> MethodStyle:
    """The style of a method. One that is not in METHODS takes the spare of its place by name
    `among` the others."""
    if method in METHODS:
        return METHODS[method]
    own = sorted({*among, method} - set(METHODS))
    place = own.index(method)
    color, marker = SPARE[place % len(SPARE)]
    return MethodStyle(_own_labels(own)[method], color, marker,
                       SPARE_DASHES[place % len(SPARE_DASHES)])


def _own_labels(own: Sequence[str]) -> dict[str, str]:
    """Labels of methods of one's own, no two alike: `file:function` goes by its function's name,
    and by its whole name where another one's reads the same."""
    words = {m: m.rpartition(":")[2].replace("_", " ") or "(no name)" for m in own}
    words = {m: text[0].upper() + text[1:] for m, text in words.items()}
    alike, labels = Counter(words.values()), {}
    taken = {style.label for style in METHODS.values()}
    for method in own:
        text = words[method] if alike[words[method]] == 1 else method
        if len(text) > LONGEST:
            text = f"{text[:17]}...{text[-10:]}"
        numbered = (f"{text} ({n})" for n in count(2))
        labels[method] = next(t for t in chain([text], numbered) if t not in taken)
        taken.add(labels[method])
    return labels


def zorder(method: str) -> float:
    """MENTOR, which the figures are about, is drawn over the others."""
    return 3.5 if method == "mentor" else 3


def label(method: str, among: Iterable[str] = ()) -> str:
    return method_style(method, among).label


def split_label(split: str, lines: bool = False) -> str:
    """A split's name in words; in short lines when asked."""
    words = split.replace("_", " ")
    if not lines:
        return words
    lines = textwrap.fill(words.replace("/", "/ "), 13, break_long_words=False)
    return lines.replace("/ ", "/")


def missing_note(methods: Iterable[str], expected: Iterable[str] = EXPECTED) -> str:
    """`Not in these results: ...`, or nothing when all expected methods are there."""
    found = set(methods) | ({"cold_start"} if "base" in methods else set())
    absent = [label(m) for m in ordered(set(expected) - found)]
    return f"Not in these results: {', '.join(absent)}." if absent else ""


def escape_html(text: str) -> str:
    """The text for HTML. A dollar sign stands in an element of its own, where it cannot start a
    formula."""
    return html.escape(text).replace("$", "<span>$</span>")


class Picture(NamedTuple):
    """A figure and its caption. Shows itself with the caption in Jupyter."""

    figure: Figure
    caption: str

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        with mpl.rc_context(fname=STYLE):
            self.figure.savefig(buffer, format="png", dpi=150, metadata=METADATA["png"])
        image = base64.b64encode(buffer.getvalue()).decode()
        width = round(self.figure.get_figwidth() * 130)
        return (
            f'<figure style="margin:0"><img style="width:{width}px;max-width:100%" '
            f'src="data:image/png;base64,{image}"/>'
            f'<figcaption style="max-width:{width}px;font-size:90%">'
            f"{escape_html(self.caption)}</figcaption></figure>"
        )


def picture(draw: Callable[..., tuple[Figure, str]]) -> Callable[..., Picture]:
    """Decorator of figure functions: draw in the one style, return a Picture."""

    @wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Picture:
        with mpl.rc_context(fname=STYLE):
            figure, caption = draw(*args, **kwargs)
            return Picture(figure, " ".join(caption.split()))

    return drawn


def savefig(figure: Figure, path: Path | str) -> list[Path]:
    """Write PATH.pdf and PATH.png at the figure's own size, each atomically; the same figure gives
    the same bytes."""
    paths = []
    for kind, metadata in METADATA.items():
        target = Path(path).with_name(f"{Path(path).name}.{kind}")
        with atomic_path(target) as temporary, mpl.rc_context(fname=STYLE):
            figure.savefig(temporary, format=kind, metadata=metadata)
        paths.append(target)
    return paths


def show(drawn: Any, run: Any = None, name: str = "") -> None:
    """Show a picture (or a sentence) in Jupyter; with `run`, store the picture in the run's folder
    as NAME.pdf and NAME.png first."""
    if run is not None:
        savefig(drawn.figure, run.path(name))
    ipython = sys.modules.get("IPython")  # only a running notebook has it imported
    if ipython is not None and ipython.get_ipython() is not None:
        ipython.display.display(drawn)


def legend_handle(method: str, among: Iterable[str] = (), line: bool = True, **kwargs: Any) -> Any:
    """A proxy artist of a method for legends."""
    s = method_style(method, among)
    looks = {"color": s.color, "marker": s.marker, "linestyle": s.linestyle if line else "none",
             "label": s.label}
    return Line2D([], [], **(looks | kwargs))


def legend_above(figure: Figure, handles: Sequence[Any]) -> None:
    """A legend over all panels, in as few lines as the figure's width allows; more than two make
    the figure higher."""
    inches = [0.48 + 0.051 * len(h.get_label()) for h in handles]  # the mark, and 6.5 pt letters
    for rows in range(1, len(handles) + 1):  # filled column by column
        columns = [inches[i:i + rows] for i in range(0, len(handles), rows)]
        if sum(map(max, columns)) < figure.get_figwidth():
            break
    figure.set_figheight(figure.get_figheight() + 0.14 * max(0, rows - 2))
    figure.legend(handles=handles, ncols=len(columns), loc="outside upper left")


def error_bars(rows: pd.DataFrame) -> np.ndarray:
    """Distances of estimates to their bounds, as `errorbar` takes them: (2, rows)."""
    return np.abs(rows[["low", "high"]].to_numpy().T - rows["estimate"].to_numpy())


def note_below(figure: Figure, text: str) -> None:
    """A remark in the lower right corner, e.g. which method is missing."""
    if text:
        figure.supxlabel(text, fontsize=6, color=REMARK, x=0.99, ha="right")


def remark(axes: Axes, text: str) -> None:
    """A remark in the middle of a panel where there is nothing to see, e.g. `all 0`."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=REMARK,
              bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})


def unit_axis(axes: Axes) -> None:
    """The y axis of a rate shows all of 0..1, so that small wiggles look small."""
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])


def row_axis(axes: Axes, labels: Iterable[str] | None = None) -> None:
    """Horizontal bars: named rows from top to bottom, grid along the values."""
    if labels is not None:
        names = list(labels)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.45, -0.55)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
