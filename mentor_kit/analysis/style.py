"""What all figures share: sizes, one colour, marker and line style a method, and the one
`savefig`."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mentor_kit.core.files import atomic_path

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
    "sparse": MethodStyle("Sparse RL", "#0173b2", "^", (0, (4, 1, 1, 1))),
    "mentor": MethodStyle("MENTOR", "#029e73", "D", "-"),
    "any_overlap": MethodStyle("Any overlap", "#cc78bc", "v", (0, (3, 1))),
    "no_tool_match": MethodStyle("No tool match", "#56b4e9", "P", (0, (2, 1))),
    "set_f1": MethodStyle("Set F1", "#d55e00", "X", (0, (6, 1, 2, 1))),
}
# for methods of one's own
SPARE = [("#7a5195", "<"), ("#404040", ">"), ("#fbafe4", "p"), ("#ece133", "d")]
# what the comparison is about; a figure says which it lacks
EXPECTED = ("cold_start", "sft", "sparse", "mentor")


def ordered(methods: Iterable[str]) -> list[str]:
    """Methods in their fixed order; unknown ones after the known ones, by name."""
    found = set(methods)
    return [m for m in METHODS if m in found] + sorted(found - set(METHODS))


def method_style(method: str, among: Iterable[str] = ()) -> MethodStyle:
    """The style of a method. One that is not in METHODS takes the spare of its place by name
    `among` the others."""
    if method in METHODS:
        return METHODS[method]
    color, marker = SPARE[sorted({*among, method} - set(METHODS)).index(method) % len(SPARE)]
    return MethodStyle(_own_label(method, among), color, marker, (0, (3, 1, 1, 1)))


def _own_label(method: str, among: Iterable[str]) -> str:
    """`file:function` goes by its function's name, unless another method's function has the
    same."""
    names = [m.rpartition(":")[2] for m in {*among, method}]
    name = method.rpartition(":")[2]
    return (name if names.count(name) == 1 else method).replace("_", " ")


def front(method: str) -> float:
    """Where a method's marks lie in the drawing order: MENTOR, which the figures are about, over
    the others."""
    return 3.5 if method == "mentor" else 3


def label(method: str) -> str:
    return method_style(method).label


def split_label(split: str, lines: bool = False) -> str:
    """A split's name in words; in short lines when asked."""
    words = split.replace("_", " ")
    return textwrap.fill(words, 12) if lines else words


def missing_note(methods: Iterable[str], expected: Iterable[str] = EXPECTED) -> str:
    """`Not in these results: ...`, or nothing when all expected methods are there."""
    found = set(methods) | ({"cold_start"} if "base" in methods else set())
    absent = [label(m) for m in ordered(set(expected) - found)]
    return f"Not in these results: {', '.join(absent)}." if absent else ""


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
            f"{self.caption}</figcaption></figure>"
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


def show(drawn: Picture, run: Any, name: str) -> Picture:
    """Store a picture in a run's folder (NAME.pdf, NAME.png) and hand it on, to be shown as the
    cell's result."""
    savefig(drawn.figure, run.path(name))
    return drawn


def legend_handle(method: str, among: Iterable[str] = (), line: bool = True, **kwargs: Any) -> Any:
    """A proxy artist of a method for legends."""
    s = method_style(method, among)
    looks = {"color": s.color, "marker": s.marker, "linestyle": s.linestyle if line else "none",
             "label": s.label}
    return Line2D([], [], **(looks | kwargs))


def note_below(figure: Figure, text: str) -> None:
    """A remark in the lower right corner, e.g. which method is missing."""
    if text:
        figure.supxlabel(text, fontsize=6, color=REMARK, x=0.99, ha="right")


def say(axes: Axes, text: str) -> None:
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
