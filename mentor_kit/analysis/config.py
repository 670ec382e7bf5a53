"""What notebook 05 is asked to do."""

from __future__ import annotations

from pydantic import Field

from mentor_kit.runs.parameters import StageConfig


class FiguresConfig(StageConfig):
    """Notebook 05: figures and tables from stored runs."""

    runs: list[str] = Field(
        [], description="run folders to read; [] is the latest study under results/")
