"""Files as a run writes them: atomically, in canonical form, with their hashes."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_atomic(path: Path | str, text: str) -> Path:
    """Write a text file so that a reader sees the old content or the new, never a half."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return path


def canonical_json(value: Any) -> str:
    """Sorted keys, no spaces, numpy scalars as numbers, nan and infinities as null."""
    return json.dumps(plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"),
                      allow_nan=False)


def plain(value: Any) -> Any:
    """A value as JSON holds it: text keys, lists, paths as text, numpy scalars as numbers, nan as
    None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "tolist"):  # a numpy or torch scalar or array
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def file_sha256(path: Path | str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def whole_lines(path: Path) -> list[str]:
    """Whole lines of a file; a last one cut by a kill is dropped."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text.split("\n")[:-1]
