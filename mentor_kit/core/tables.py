"""Rows of a table: a local file or folder, or a data set of the hub.

Local Parquet, JSON lines, JSON and CSV are read as they are; a folder written by
`Dataset.save_to_disk` and anything that is not a path go through `datasets`. Columns are read as
data; no code of a data set is run.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from mentor_kit.core.files import find_path
from mentor_kit.errors import UserError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")
KINDS = "a .parquet, .jsonl, .json or .csv file"
Row = dict[str, Any]


def read_rows(path: str, hub_split: str = "train", *, hub_config: str = "",
              revision: str = "") -> list[Row]:
    """All rows of a table. A key that some JSON rows lack is None there.

    Args:
        path: a file (.parquet, .jsonl, .json, .csv), a folder of `save_to_disk`, or a hub id such
            as `owner/name`.
        hub_split, hub_config, revision: which part and version of a hub data set; a folder may have
            splits too.

    Raises:
        UserError: not found or not reachable, unreadable, a line that does not fit, or no row.
    """
    file = find_path(path)
    check_path(path)
    try:
        if file.is_file():
            rows = _read_file(file)
        elif file.exists():
            rows = _read_folder(file, hub_split)
        else:
            from datasets import load_dataset

            rows = list(load_dataset(path, hub_config or None, split=hub_split,
                                     revision=revision or None))
    except UserError as error:
        raise UserError(f"The table {path!r} cannot be read: {error}") from None
    # readers raise errors of every kind for a bad file or a missing network
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        where = "is it a whole file of its kind?" if file.exists() else \
            "is the hub reachable (HF_HUB_OFFLINE), are split and config right?"
        raise UserError(f"The table {path!r} cannot be read ({type(error).__name__}: {reason}); "
                        f"{where}") from error
    if not rows:
        raise UserError(f"The table {path!r} holds no row: give one with at least one row.")
    return rows


def check_path(path: str) -> None:
    """Raise UserError for a file of another kind, or where there is no such file or folder and the
    name cannot be a hub id."""
    file = find_path(path)
    is_local = file.suffix in SUFFIXES or path.startswith((".", "/", "~")) or path.count("/") > 1
    if is_local and not file.exists():
        raise UserError(f"There is no file {path!r}: give {KINDS}, or a hub id.")
    if file.is_file() and file.suffix not in SUFFIXES:
        raise UserError(f"The file {path!r} is not a table that can be read: give {KINDS}, not "
                        "compressed.")


def _read_file(file: Path) -> list[Row]:
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(file).to_pylist()
    text = _decoded(file.read_bytes())
    if file.suffix == ".csv":
        return _read_csv(text)
    if file.suffix == ".json":
        found = json.loads(text)
        if not isinstance(found, list):
            raise UserError("it holds one JSON value, not a list of rows; write [{...}, {...}], or "
                            "JSON lines into a .jsonl file.")
        return _whole_rows(enumerate(found), "row")
    return _whole_rows(_json_lines(text), "line")


def _decoded(data: bytes) -> str:
    """The text of UTF-8, or of UTF-16 that says so, without its byte order mark."""
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"line {line} is not UTF-8 text; save the file as UTF-8.") from None


def _read_csv(text: str) -> list[Row]:
    csv.field_size_limit(1 << 30)  # questions may be longer than the 131,072 of the default
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    names: list[str] = []
    try:
        for fields in reader:
            if names and fields and len(fields) != len(names):
                raise UserError(f"the row that ends in line {reader.line_num} has {len(fields)} "
                                f"fields, the header has {len(names)}; put a text that holds a "
                                "comma into double quotes.")
            if names and fields:
                rows.append(dict(zip(names, fields, strict=True)))
            elif not names:
                names = [name.strip() for name in fields]
    except csv.Error as error:
        raise UserError(f"line {reader.line_num}: {error}; see to the double quotes.") from None
    if len(set(names)) < len(names):
        raise UserError(f"the header names a column twice: {', '.join(map(repr, names))}.")
    return rows


def _json_lines(text: str) -> Iterable[tuple[int, Any]]:
    """(line number, value). Only a line feed ends a line: JSON texts may hold U+2028 and others."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise UserError(f"line {number} is not JSON ({error}).") from None


def _whole_rows(found: Iterable[tuple[int, Any]], unit: str) -> list[Row]:
    """Rows that all have the same keys."""
    rows = []
    for number, row in found:
        if not isinstance(row, Mapping):
            raise UserError(f"{unit} {number} is a JSON {type(row).__name__}, not an object with "
                            "columns.")
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return [names | row for row in rows]


def _read_folder(folder: Path, split: str) -> list[Row]:
    from datasets import DatasetDict, load_from_disk

    data = load_from_disk(str(folder))
    return list(data[split] if isinstance(data, DatasetDict) else data)


def source_name(path: str) -> str:
    """How the problems of a table are called: a hub id as it is, a local path by its last name."""
    file = find_path(path)
    return file.stem if file.exists() else path


def deal(
    rows: Sequence[int], sizes: Mapping[str, int], seed: int, path: str
) -> dict[str, list[int]]:
    """Row numbers of each split: one seeded shuffle, dealt in the order of `sizes`, so no two
    splits share a row.

    A negative size takes all that is left.

    Raises:
        UserError: fewer rows than asked for.
    """
    order = np.random.default_rng(seed).permutation(np.asarray(rows, dtype=np.int64)).tolist()
    asked = sum(n for n in sizes.values() if n > 0)
    if asked > len(order):
        raise UserError(f"{path!r} has {len(order)} usable problems, {asked} were asked for: lower "
                        "split_sizes.")
    dealt, start = {}, 0
    for split, n in sizes.items():
        end = len(order) if n < 0 else start + n
        dealt[split], start = order[start:end], end
    return dealt
