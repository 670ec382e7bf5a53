"""Rows of a table of problems: a local file or folder, or a data set of the hub.

Local Parquet, JSON lines, JSON and CSV are read as they are; a folder written by
`Dataset.save_to_disk` and anything that is no path go through `datasets`. Columns are read as data;
no code of a data set is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mentor_kit.errors import UserError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")
Row = dict[str, Any]


def read_rows(
    path: str, hub_split: str = "train", *, hub_config: str = "", revision: str = ""
) -> list[Row]:
    """All rows of a table.

    Args:
        path: a file (.parquet, .jsonl, .json, .csv), a folder of `save_to_disk`, or a hub id such
            as `owner/name`.
        hub_split, hub_config, revision: which part and version of a hub data set; a folder may have
            splits too.

    Raises:
        UserError: not found or not reachable, unreadable, or without a row.
    """
    file = Path(path)
    try:
        if file.suffix in SUFFIXES and file.is_file():
            rows = _read_file(file)
        elif file.exists():
            rows = _read_folder(file, hub_split)
        else:
            check_path(path)
            rows = _read_hub(path, hub_split, hub_config, revision)
    except UserError:
        raise
    # readers raise errors of every kind for a bad file or a missing network
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"The problems {path!r} cannot be read ({type(error).__name__}: {reason}); "
                        "is it a table, is the hub reachable (HF_HUB_OFFLINE), are split and "
                        "config right?") from error
    if not rows:
        raise UserError(f"The problems {path!r} hold no row: give a table with at least one "
                        "problem.")
    return rows


def check_path(path: str) -> None:
    """Raise UserError where there is no such file or folder, and the name can be no hub id
    either."""
    file = Path(path)
    is_local = file.suffix in SUFFIXES or path.startswith((".", "/", "~")) or path.count("/") > 1
    if is_local and not file.exists():
        raise UserError(f"There is no file {path!r}: give a .parquet, .jsonl, .json or .csv file, "
                        "or a hub id.")


def _read_file(file: Path) -> list[Row]:
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(file).to_pylist()
    if file.suffix == ".csv":
        import pandas as pd

        return pd.read_csv(file, dtype=str, keep_default_na=False).to_dict("records")
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _read_folder(folder: Path, split: str) -> list[Row]:
    from datasets import DatasetDict, load_from_disk

    data = load_from_disk(str(folder))
    return list(data[split] if isinstance(data, DatasetDict) else data)


def _read_hub(name: str, split: str, config: str, revision: str) -> list[Row]:
    from datasets import load_dataset

    return list(load_dataset(name, config or None, split=split, revision=revision or None))


def source_name(path: str) -> str:
    """How the problems of a table are called: a hub id as it is, a local path by its last name."""
    return Path(path).stem if Path(path).exists() else path


def column(row: Mapping[str, Any], name: str, path: str) -> Any:
    """A cell by column name, or by `outer.inner` inside a nested or JSON-text column.

    Raises:
        UserError: no such column; names those there are.
    """
    if name in row:
        return row[name]
    outer, _, inner = name.partition(".")
    nested = as_mapping(row.get(outer))
    if inner and nested is not None and inner in nested:
        return nested[inner]
    raise UserError(f"{path!r} has no column {name!r}, only {', '.join(map(repr, row))}: name the "
                    "right one.")


def as_mapping(value: Any) -> dict[str, Any] | None:
    """A dict, or a JSON text of one, as a dict; anything else is None."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return dict(value) if isinstance(value, Mapping) else None


def as_texts(value: Any) -> list[str]:
    """Accepted answers or tool names: a list, a JSON text of a list, or one value. Empty texts are
    left out."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = value  # an answer such as [0, 1) is a text
        value = parsed if isinstance(parsed, list) and all(isinstance(v, str)
                                                           for v in parsed) else value
    if hasattr(value, "tolist"):
        value = value.tolist()
    values = value if isinstance(value, list | tuple) else [value]
    return [text for v in values if v is not None and (text := str(v).strip())]


def deal(rows: Sequence[int], sizes: Mapping[str, int], seed: int, path: str) -> dict[str,
                                                                                      list[int]]:
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
