"""The field cases beside the checkout: what public bug reports showed, as inputs and right
values."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

SHARED = Path(os.environ.get("MENTOR_KIT_SHARED", Path(__file__).parents[3] / "shared"))
CASES = SHARED / "cases"


def read_cases(area: str) -> dict[str, dict[str, Any]]:
    """id -> row of an area's file; nothing where the file is not there."""
    file = CASES / f"field_{area}.jsonl"
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8") as lines:
        return {row["id"]: row for row in map(json.loads, lines)}
