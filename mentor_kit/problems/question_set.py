"""Question sets for evaluation: every row in its own order, from the hub, a folder or a file, with
its revision.

The hub's commit is resolved first and the rows are loaded at exactly that commit; every problem
records it (`meta["revision"]`), a local file by its SHA-256. Nothing is pinned here to a revision
that nobody looked at. For training problems, shuffled and dealt to splits, see
`mentor_kit.problems.hub_math`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from mentor_kit.core.cells import answer_cell, as_texts, column, question_cell
from mentor_kit.core.files import find_path
from mentor_kit.core.problem import Problem
from mentor_kit.core.tables import read_rows, source_name
from mentor_kit.errors import UserError
from mentor_kit.runs.files import canonical_json, file_sha256

ANSWERS = ("golden_answers", "answer", "gold_label")


def load(seed: int, sizes: Mapping[str, int], *, path: str, name: str = "", part: str = "test",
         question: str = "question", answer: str = "", after: str = "####", split_column: str = "",
         toolbox: str = "arithmetic") -> list[Problem]:
    """The first rows of a set, in its own order (`seed` is not used: nothing is drawn).

    Args:
        sizes: split -> number of items, 0 for all; several splits need `split_column`.
        path: hub id, folder or file (see `mentor_kit.core.tables.read_rows`).
        name: the hub set's configuration.
        part: the hub set's own split.
        question, answer: columns; answer "" takes the first of the usual names. A list is accepted
            answers.
        after: where an answer holds this mark, it is what follows the last one (GSM8K: `####`).
        split_column: column that tells the splits apart.

    Raises:
        UserError: the set cannot be reached, or lacks a column or a split.
    """
    if len(sizes) > 1 and not split_column:
        raise UserError(f"Question set {path!r}: {len(sizes)} splits are asked but no split_column "
                        "tells them apart.")
    rows, revision = load_rows(path, name, part)
    gold = answer or next((c for c in ANSWERS if c in rows[0]), ANSWERS[0])
    problems, short = [], source_name(path).rpartition("/")[2]
    for split, size in sizes.items():
        chosen = [(i, row) for i, row in enumerate(rows) if not split_column
                  or as_texts(column(row, split_column, path)) == [split]]
        if not chosen:
            raise UserError(f"Question set {path!r} has no row with {split_column}={split!r}; see "
                            "its data card.")
        for i, row in chosen[:size or None]:
            where = f"{path!r} row {i}"
            problems.append(Problem(f"{short}/{split}/{i:05d}",
                                    question_cell(row, question, where),
                                    tuple(answer_cell(row, gold, where, after)), path, split,
                                    toolbox, {"row": i, "revision": revision}))
    return problems


def load_rows(path: str, name: str = "", part: str = "test") -> tuple[Sequence[Mapping[str, Any]],
                                                                      str]:
    """The rows of a set and what they are: a hub commit, a file's hash, or (offline, from the
    cache) the rows' hash."""
    file = find_path(path)
    if file.is_file():
        return read_rows(path), f"sha256:{file_sha256(file)}"
    commit = None if file.exists() else hub_commit(path)
    rows = read_rows(path, part, hub_config=name, revision=commit or "")
    content = hashlib.sha256(canonical_json(rows).encode()).hexdigest()
    return rows, commit or f"rows-sha256:{content}"


def hub_commit(path: str) -> str | None:
    """The commit that a hub id stands for now; None where the hub cannot be asked (a cached copy
    may do)."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return HfApi().dataset_info(path, timeout=20).sha
    except (OfflineModeIsEnabled, HfHubHTTPError, HFValidationError, httpx.HTTPError, OSError):
        return None

