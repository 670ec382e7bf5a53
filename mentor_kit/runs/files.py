"""Texts, JSON and JSONL as runs keep them: whole or not at all, in canonical form, with hashes."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mentor_kit.core.files import atomic_path
from mentor_kit.core.records import to_json
from mentor_kit.errors import UserError


def write_atomic(path: Path | str, text: str) -> Path:
    """Write a text file whole or not at all, also when the machine crashes."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def canonical_json(value: Any) -> str:
    """Sorted keys, no spaces, numpy scalars as numbers, nan and infinities as null."""
    return to_json(plain(value))


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


def read_json(path: Path | str) -> dict[str, Any] | None:
    """The mapping that a JSON file holds; None where there is no file, or a damaged one, as a crash
    of the machine may leave."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """The rows of a JSONL file, none if there is no file. A last line that a kill cut is dropped,
    and zeros that a crash of the machine left at the end.

    Raises:
        UserError: a line is damaged.
    """
    path = Path(path)
    lines = (path.read_bytes() if path.is_file() else b"").rstrip(b"\0").split(b"\n")[:-1]
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is not a JSON object; delete the folder "
                            f"{str(path.parent)!r} and repeat the run.")
        rows.append(row)
    return rows


def append_jsonl(path: Path | str, row: Mapping[str, Any]) -> None:
    """Append a row in canonical form; a last line that a kill cut is removed first."""
    with open(path, "a+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end and (file.seek(end - 1), file.read(1))[1] != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.write(canonical_json(row).encode() + b"\n")
