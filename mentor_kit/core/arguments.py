"""A tool's arguments: from a type to its JSON schema, from what a model wrote to a value.

What a parameter may be:

| annotation | JSON schema | what is taken |
|---|---|---|
| `float`, `int` | number, integer | numbers, also as text with thousands commas (`coerce`) |
| `str` | string | texts of at most 10,000 characters |
| `list[float]` | array of number | at most 1,000 numbers |
| `bool`, `Literal`, `Enum`, `list[str]`, `dict`, `TypedDict`, dataclass, pydantic model | theirs | what pydantic takes, at most 20,000 characters of JSON |
| `T \\| None` | that of T | the same, and null |
"""  # noqa: E501

from __future__ import annotations

import json
import math
import re
import types
import typing
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any

from mentor_kit.errors import ToolError, UserError

MAX_NUMBER = 1e30  # larger magnitudes are refused as arguments and as results
MAX_LIST = 1000  # items of a list argument
MAX_TEXT = 10_000  # characters of a text argument
MAX_JSON = 20_000  # characters of any other argument, as JSON
MAX_REASON = 200  # characters of a validator's reason that an error repeats
NUMBER_RE = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d*)(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
JSON_TYPES = {float: {"type": "number"}, int: {"type": "integer"}, str: {"type": "string"},
              list[float]: {"type": "array", "items": {"type": "number"}}}


def json_schema(where: str, kind: Any) -> dict[str, Any]:
    """The JSON schema of a type, without references and titles.

    Raises:
        UserError: it has none.
    """
    kind = _without_none(kind)
    if kind in JSON_TYPES:
        return json.loads(json.dumps(JSON_TYPES[kind]))
    try:
        if kind is None:
            raise TypeError("there is none")
        schema = _adapter(kind).json_schema()
        return _inlined(schema, schema.pop("$defs", {}))
    except Exception as error:  # noqa: BLE001 - pydantic raises many kinds
        raise UserError(f"{where} has type {kind!r}, which has no JSON schema "
                        f"({str(error).splitlines()[0]}); annotate it with float, int, str, bool, "
                        "list[...], dict, Literal, an Enum, a TypedDict, a dataclass or a pydantic "
                        "model."
                        ) from error


def _without_none(kind: Any) -> Any:
    """T of `T | None`."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kinds = [k for k in typing.get_args(kind) if k is not types.NoneType]
        return typing.Union[tuple(kinds)]  # noqa: UP007 - of a list of types
    return kind


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _inlined(schema: Any, definitions: Mapping[str, Any], inside: tuple[str, ...] = ()) -> Any:
    """A schema with its references in place; a type that holds itself has none."""
    if isinstance(schema, list):
        return [_inlined(s, definitions, inside) for s in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in inside:
            raise ValueError(f"{name} holds itself")
        return _inlined(definitions[name], definitions, (*inside, name))
    found = {k: _inlined(v, definitions, inside) for k, v in schema.items()
             if k != "title" or isinstance(v, dict)}
    if len(left := [s for s in found.get("anyOf", ()) if s != {"type": "null"}]) == 1:
        return left[0] | {k: v for k, v in found.items() if k not in ("anyOf", "default")}
    return found


def coerce(where: str, kind: Any, value: Any) -> Any:
    """Turn a JSON value into the declared type, or raise ToolError.

    The rules for numbers, in full: a number may also be written as text, with thousands commas and
    spaces around (`"1,234.5"`); true/false, nan, infinities, and magnitudes above 1e30 are refused;
    an integer may be written as a float without a fraction. Whole numbers stay exact Python
    integers.
    """
    plain = _without_none(kind)
    if value is None and plain is not kind:
        return None
    if plain not in JSON_TYPES:
        return _validated(where, kind, value)
    if plain == list[float]:
        if not isinstance(value, list | tuple):
            raise ToolError(f"{where} must be a list of numbers.")
        if len(value) > MAX_LIST:
            raise ToolError(f"{where} has more than {MAX_LIST} items.")
        return [coerce(where, float, v) for v in value]
    if plain is str:
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise ToolError(f"{where} must be a text of at most {MAX_TEXT} characters.")
        return value
    number = _number(where, value)
    if plain is int and not isinstance(number, int):
        raise ToolError(f"{where} must be a whole number.")
    return number


def _validated(where: str, kind: Any, value: Any) -> Any:
    from pydantic import ValidationError

    _refuse_large(where, value)
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f".{p}" for p in first["loc"] if isinstance(p, str | int))
        raise ToolError(f"{where}{place}: {first['msg']}."[:MAX_REASON]) from None


def fit_schema(name: str, schema: Mapping[str, Any],
               arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that fit a JSON schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    _refuse_large(name, arguments)
    error = best_match(Draft202012Validator(schema).iter_errors(dict(arguments)))
    if error is not None:
        place = "".join(f".{p}" for p in error.absolute_path)
        raise ToolError(f"{name}{place}: {error.message}."[:MAX_REASON])
    return dict(arguments)


def _refuse_large(where: str, value: Any) -> None:
    try:
        fits = len(json.dumps(value, allow_nan=False)) <= MAX_JSON
    except (RecursionError, TypeError, ValueError):
        raise ToolError(f"{where} is nested too deep or not JSON.") from None
    if not fits:
        raise ToolError(f"{where} has more than {MAX_JSON} characters.")


def _number(where: str, value: Any) -> int | float:
    if isinstance(value, str):
        value = _read_number(where, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ToolError(f"{where} must be a number.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ToolError(f"{where} must be finite.")
    if abs(value) > MAX_NUMBER:
        raise ToolError(f"{where} is too large.")
    return int(Decimal(repr(value))) if isinstance(value, float) and value.is_integer() else value


def _read_number(where: str, text: str) -> float | int:
    text = text.strip()
    if len(text) > 40 or not NUMBER_RE.fullmatch(text):
        raise ToolError(f"{where} must be a number.")
    text = text.replace(",", "")
    try:
        number = float(text)
    except ValueError:
        raise ToolError(f"{where} must be a number.") from None
    # all digits of a whole number count, also of those that no float can hold
    if abs(number) <= MAX_NUMBER and Decimal(text) == Decimal(text).to_integral_value():
        return int(Decimal(text))
    return number
