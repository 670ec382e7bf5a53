"""One progress bar for people who watch; silent in batches (MENTOR_KIT_QUIET=1) and where nobody
can see it."""

from __future__ import annotations

import os
from typing import Any


def progress_bar(total: int, description: str, unit: str = "it") -> Any:
    """A tqdm bar: a widget in a notebook, a line in a terminal."""
    from tqdm.auto import tqdm

    quiet = os.environ.get("MENTOR_KIT_QUIET") == "1"
    return tqdm(total=total, desc=description, unit=unit, disable=quiet, leave=True)
