"""The one progress bar: for people who watch, and as one line in a run's folder for its batch."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic

PROGRESS = "progress.txt"  # in the run's folder while it runs; the batch shows it


class ProgressBar:
    """A tqdm bar: a widget in a notebook, a line in a terminal, nothing where nobody can see it
    (MENTOR_KIT_QUIET=1).

    Args:
        total, unit: how many of what, in the singular.
        file: also holds the progress as one line, written at most once a second.
    """

    def __init__(self, total: int, description: str, unit: str,
                 file: Path | None = None) -> None:
        from tqdm.auto import tqdm

        quiet = os.environ.get("MENTOR_KIT_QUIET") == "1"
        self.bar = tqdm(total=total, desc=description, unit=unit, disable=quiet)
        self.total, self.unit, self.file = total, unit, file
        self.done, self.before = 0, 0
        self.started, self.written = monotonic(), float("-inf")

    def skip(self, count: int) -> None:
        """So many were done before; the rate does not count them."""
        self.before += count
        self.update(count)

    def update(self, count: int = 1, note: str = "") -> None:
        """So many more are done. `note` stands behind the bar and in the line."""
        self.done += count
        if note and not self.bar.disable:
            self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(count)
        now = monotonic()
        if self.file and now - self.written >= 1:
            rate = (self.done - self.before) / max(now - self.started, 1e-9)
            line = f"{self.done} of {self.total} {self.unit}s, {rate:.1f}/s"
            self.file.write_text(f"{line}, {note}\n" if note else f"{line}\n", encoding="utf-8")
            self.written = now

    def close(self) -> None:
        self.bar.close()
        if self.file:
            self.file.unlink(missing_ok=True)
