"""Draw docs/img/NN.png, the thumbnails of the README, from the executed notebooks.

    python docs/make_thumbnails.py

Each is a picture that the notebook shows, made small: its first, or the one that PICTURE counts. A
notebook without pictures gets a trajectory's card. `make readme` runs this.
"""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import matplotlib as mpl
from fill import HERO, REFERENCE
from make_hero import card_height, draw_card, inches
from matplotlib.figure import Figure
from PIL import Image

from mentor_kit.analysis.style import STYLE
from mentor_kit.core.records import load_records

IMAGES = Path(__file__).parent / "img"
WIDTH, HEIGHT = 240, 135  # pixels
PICTURE = {"03": -1}  # notebook -> which of its pictures
EMBEDDED = re.compile(r'src="data:image/png;base64,([^"]+)"')


def pictures(notebook: Path) -> list[Image.Image]:
    """The pictures of an executed notebook, in order: plain outputs, and those inside HTML."""
    found = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            html = "".join(data.get("text/html", ""))
            found += EMBEDDED.findall(html) or [data[kind] for kind in ("image/png",)
                                                if kind in data]
    return [Image.open(io.BytesIO(base64.b64decode(source))) for source in found]


def thumbnail(picture: Image.Image) -> Image.Image:
    """The whole picture on a white card of one size."""
    small = picture.convert("RGB")
    small.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    card = Image.new("RGB", (WIDTH, HEIGHT), "white")
    card.paste(small, ((WIDTH - small.width) // 2, (HEIGHT - small.height) // 2))
    return card


def trajectory_card() -> Image.Image:
    """The hero's first trajectory."""
    record = load_records(REFERENCE / HERO / "before_after.parquet")[0]
    height, width = card_height(record), 3.3
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=(width, height), layout="none")
        draw_card(inches(figure, 0, 0, width, height), record, "student")
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=100)
    return Image.open(buffer)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for executed in sorted((REFERENCE / "notebooks").glob("*.ipynb")):
        number = executed.stem[:2]
        shown = pictures(executed) or [trajectory_card()]
        thumbnail(shown[PICTURE.get(number, 0)]).save(IMAGES / f"{number}.png", optimize=True)
