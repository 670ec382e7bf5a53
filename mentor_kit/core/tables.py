"""Rows of a table: a local file or folder, or a data set of the hub; and its cells as texts.

Local Parquet, JSON lines, JSON and CSV are read as they are; a folder written by
`Dataset.save_to_disk` and anything that is not a path go through `datasets`. Columns are read as
data; no code of a data set is run.
"""

from __future__ import annotations

import ast
import codecs
import csv
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from mentor_kit.core.files import find_path
from mentor_kit.errors import UserError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")
KINDS = "a .parquet, .jsonl, .json or .csv file"
MAX_PARSED = 1_000_000  # characters of a cell that are looked at as a list or struct
LIST_OF_TEXTS = re.compile(r"""\[\s*['"]""")
Row = dict[str, Any]


def read_rows(
    path: str, hub_split: str = "train", *, hub_config: str = "", revision: str = ""
) -> list[Row]:
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
            rows = _read_hub(path, hub_split, hub_config, revision)
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


def _read_hub(name: str, split: str, config: str, revision: str) -> list[Row]:
    from datasets import load_dataset

    return list(load_dataset(name, config or None, split=split, revision=revision or None))


def source_name(path: str) -> str:
    """How the problems of a table are called: a hub id as it is, a local path by its last name."""
    file = find_path(path)
    return file.stem if file.exists() else path


def column(row: Mapping[str, Any], name: str, where: str) -> Any:
    """A cell by column name, or by `outer.inner` inside a nested or JSON-text column; None where
    this row has no such field.

    Args:
        where: names the row in a message.

    Raises:
        UserError: no such column; names those there are.
    """
    if name in row:
        return row[name]
    outer, _, inner = name.partition(".")
    if inner and outer in row:
        nested = {} if is_missing(row[outer]) else as_mapping(row[outer])
        if nested is not None:
            return nested.get(inner)
    raise UserError(f"{where} has no column {name!r}, only {', '.join(map(repr, row))}: name the "
                    "right one.")


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: null, or a number that is NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def question_cell(row: Mapping[str, Any], name: str, where: str) -> str:
    """A question: a text, or a chat (a list of `role` and `content`) with one user message, which
    is then the question. Its system message is left out: the teacher option `system` sets one.

    Raises:
        UserError: no such column, or a cell that is neither.
    """
    value, where = _plain(column(row, name, where)), f"{where}, column {name!r}"
    chat = [value] if isinstance(value, Mapping) else value
    if isinstance(chat, list) and chat and all(isinstance(m, Mapping) and "role" in m
                                               and "content" in m for m in chat):
        roles = [m["role"] for m in chat]
        if [r for r in roles if r not in ("system", "developer")] != ["user"]:
            raise UserError(f"{where} holds a chat of the roles {', '.join(map(str, roles))}: only "
                            "one user message can be asked; name a column with the question.")
        value = next(m["content"] for m in chat if m["role"] == "user")
        if isinstance(value, list):
            parts = [p.get("text") if isinstance(p, Mapping) else p for p in value]
            value = "".join(parts) if all(isinstance(p, str) for p in parts) else value
    return _one_text(value, where)


def answer_cell(row: Mapping[str, Any], name: str, where: str, after: str = "") -> list[str]:
    """Accepted answers: one value, a list, or a text of a list; missing and empty ones are left
    out.

    Args:
        after: where an answer holds this mark, what follows it counts (GSM8K: `####`).

    Raises:
        UserError: no such column, or a struct or a list in a list.
    """
    return as_texts(column(row, name, where), f"{where}, column {name!r}", after)


def as_texts(value: Any, where: str = "the cell", after: str = "") -> list[str]:
    """A cell as texts; see `answer_cell`."""
    value = _plain(value)
    values = value if isinstance(value, list) else [value]
    texts = [_one_text(v, where) for v in values]
    if after:
        texts = [text.rpartition(after)[2].strip() for text in texts]
    return [text for text in texts if text]


def tool_names(value: Any, where: str) -> list[str]:
    """Names of tools: a list of names or of calls (`name`, or `function` with a `name`), a text of
    such a list, or names with commas between them.

    Raises:
        UserError: another form.
    """
    value = structured(value)
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    names = []
    for item in [] if is_missing(value) else value if isinstance(value, list) else [value]:
        if isinstance(item, Mapping):
            item = (as_mapping(item.get("function")) or item).get("name")
        if not isinstance(item, str) or not re.fullmatch(r"[\w.-]+", item):
            raise UserError(f"{where} does not hold names of tools ({str(value)[:80]}): write a "
                            'list such as ["add", "subtract"].')
        names.append(item)
    return names


def structured(value: Any) -> Any:
    """A cell without numpy, and any JSON or Python text of a list or struct as what it stands
    for."""
    return _plain(value, any_list=True)


def as_mapping(value: Any) -> dict[str, Any] | None:
    """A dict, or a JSON or Python text of one, as a dict; anything else is None."""
    if isinstance(value, str):
        value = _parsed(value)
    return dict(value) if isinstance(value, Mapping) else None


def _plain(value: Any, any_list: bool = False) -> Any:
    """A cell without numpy, and a text of a list or struct as what it stands for. A text of a list
    of numbers, such as an interval, stays a text unless `any_list`."""
    value = value.tolist() if hasattr(value, "tolist") else value
    value = list(value) if isinstance(value, tuple) else value
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    found = _parsed(value)
    if isinstance(found, list) and not any_list and not (
            all(isinstance(v, str | None) for v in found) or isinstance(found[0], Mapping)):
        return value
    return value if found is None else found


def _parsed(text: str) -> Any:
    """A list or struct that a text stands for: JSON, or a Python text as pandas writes it into a
    CSV file. None for any other text."""
    text = text.strip()
    for read in (json.loads, ast.literal_eval) if len(text) <= MAX_PARSED else ():
        try:
            value = read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        # numpy writes ['a' 'b'], which Python reads as ['ab']
        exact = read is json.loads or repr(value) == text
        return value if isinstance(value, list | dict) and exact else None
    return None


def _one_text(value: Any, where: str) -> str:
    """A single value as a text, "" where it is missing."""
    hint = "write a text, or a JSON list of texts"
    if isinstance(value, Mapping):
        hint = f"name one of its fields ({', '.join(map(str, value))}) after a point"
    is_list_text = isinstance(value, str) and LIST_OF_TEXTS.match(value)
    if isinstance(value, Mapping | list | bytes) or is_list_text:
        raise UserError(f"{where} holds {str(value)[:80]!r}, not a text; {hint}.")
    return "" if is_missing(value) else str(value).strip()


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
