"""Whether the texts of a figure can be read in print."""

from __future__ import annotations

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def texts(figure: Figure) -> list[Text]:
    """Every visible text of a figure: axis labels, ticks, legends, annotations. Draws it first."""
    FigureCanvasAgg(figure).draw()
    unseen = {id(t) for ax in figure.axes if not ax.axison for axis in (ax.xaxis, ax.yaxis)
              for t in axis.findobj(Text)}
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                unseen |= {id(tick.label1), id(tick.label2)}
    return [t for t in figure.findobj(Text)
            if t.get_visible() and t.get_text().strip() and id(t) not in unseen]


def assert_legible(figure: Figure) -> None:
    """No text is clipped by the edge of the figure, lies over another, or is too small for
    print."""
    boxes = [(t, t.get_window_extent()) for t in texts(figure)]
    for text, box in boxes:
        inside = (box.x0 > -1 and box.y0 > -1 and box.x1 < figure.bbox.width + 1
                  and box.y1 < figure.bbox.height + 1)
        assert inside, f"{text.get_text()!r} is clipped"
        assert text.get_fontsize() >= 5.5
    straight = [(t, box.padded(-0.5)) for t, box in boxes if t.get_rotation() in (0, 90)]
    for (a, x), (b, y) in combinations(straight, 2):
        assert not x.overlaps(y), f"{a.get_text()!r} lies over {b.get_text()!r}"
