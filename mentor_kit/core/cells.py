"""Cells of a table as texts, lists and structs. A cell is read as data; no code of it is run."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from mentor_kit.errors import UserError

MAX_PARSED = 1_000_000  # characters of a cell that are looked at as a list or struct
LIST_OF_TEXTS = re.compile(r"""\[\s*['"]""")


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
