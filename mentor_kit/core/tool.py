"""One tool: a typed Python function (or another program's, with its JSON schema) that is called
with what a model wrote.

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

import inspect
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache, cached_property
from typing import Any

from mentor_kit.core.background import wait_for
from mentor_kit.core.limited import call_limited, check_importable
from mentor_kit.errors import ToolError, UserError

MAX_NUMBER = 1e30  # larger magnitudes are refused as arguments and as results
MAX_LIST = 1000  # items of a list argument
MAX_TEXT = 10_000  # characters of a text argument
MAX_JSON = 20_000  # characters of any other argument, as JSON
MAX_REASON = 200  # characters of a validator's reason that an error repeats
NUMBER_RE = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d*)(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
JSON_TYPES = {float: {"type": "number"}, int: {"type": "integer"}, str: {"type": "string"},
              list[float]: {"type": "array", "items": {"type": "number"}}}
ARGUMENTS = re.compile(r"^(?:Args|Arguments|Parameters):\s*$", re.MULTILINE)
ARGUMENT = re.compile(r"^(\w+)(?: *\([^)]*\))?:\s*(.*(?:\n[ \t]+.*)*)", re.MULTILINE)
SECTION = re.compile(r"^\w[\w ]*:\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Tool:
    """A function that may be called by a model.

    The docstring's first paragraph is the description; its `Args:` section describes the
    parameters. An async function is waited for.

    Args:
        function: takes the arguments by name; gives a number, a text, or anything with a text form.
        given: name, description and parameters (a JSON schema) where the function's own types do
            not tell them: a tool of another program.
    """

    function: Callable[..., Any]
    given: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.waits and self.given is None:
            check_importable(self.function)

    @property
    def waits(self) -> bool:
        """Whether each call runs in a child process (see `limited`)."""
        return hasattr(self.function, "tool_seconds")

    @property
    def name(self) -> str:
        return self.given["name"] if self.given else self.function.__name__

    @cached_property
    def parameters(self) -> dict[str, tuple[Any, bool]]:
        """Parameter name -> (type, required)."""
        if self.given:
            schema = self.given["parameters"]
            return {n: (p, n in schema.get("required", ()))
                    for n, p in schema.get("properties", {}).items()}
        hints = typing.get_type_hints(self.function)
        signature = inspect.signature(self.function).parameters
        return {n: (hints.get(n), p.default is inspect.Parameter.empty) for n,
                p in signature.items()}

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The function schema that chat templates and OpenAI-compatible servers take.

        Raises:
            UserError: a parameter has no type, or one without a JSON schema.
        """
        if self.given:
            return {"type": "function", "function": dict(self.given)}
        description, told = read_docstring(inspect.getdoc(self.function) or "")
        properties = {}
        for name, (kind, _) in self.parameters.items():
            properties[name] = json_schema(f"Tool {self.name!r}: parameter {name!r}", kind)
            if name in told:
                properties[name]["description"] = told[name]
        required = [n for n, (_, required) in self.parameters.items() if required]
        return {"type": "function", "function": {
            "name": self.name, "description": description or self.name,
            "parameters": {"type": "object", "properties": properties, "required": required}}}

    def bind(self, arguments: Any) -> dict[str, Any]:
        """Check and coerce arguments (see `coerce`); raises ToolError with the reason. None is no
        arguments."""
        arguments = {} if arguments is None else arguments
        if not isinstance(arguments, Mapping):
            raise ToolError(f"{self.name}: arguments must be an object.")
        if self.given:
            return _checked(self.name, self.given["parameters"], arguments)
        unexpected = [str(n)[:40] for n in arguments if n not in self.parameters]
        if unexpected:
            raise ToolError(f"{self.name}: unexpected argument {unexpected[0]!r}.")
        missing = [n for n, (_, required) in self.parameters.items() if required
                   and n not in arguments]
        if missing:
            raise ToolError(f"{self.name}: missing argument {missing[0]!r}.")
        return {n: coerce(f"{self.name}: {n}", self.parameters[n][0], v) for n,
                v in arguments.items()}

    def call(self, arguments: Any) -> str:
        """The result of a call, as text.

        Raises:
            ToolError: the arguments do not fit, the result is too large, or the time is over.
            UserError: the function's module cannot be imported by a child process.
            Exception: whatever the function raises.
        """
        if self.waits:
            return call_limited(self.function, self.name, arguments)
        return self.run(arguments)

    def run(self, arguments: Any) -> str:
        """`call` in this process."""
        result = self.function(**self.bind(arguments))
        return format_result(wait_for(result) if inspect.iscoroutine(result) else result)


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The first paragraph of a docstring, and what its `Args:` section says of each parameter."""
    description = " ".join(text.split("\n\n")[0].split())
    found = ARGUMENTS.search(text)
    if not found:
        return description, {}
    described, section = text[:found.start()].split("\n\n")[0], text[found.end():]
    if after := SECTION.search(section):
        section = section[:after.start()]
    section = inspect.cleandoc("\n" + section.strip("\n"))
    return " ".join(described.split()), {m[1]: " ".join(m[2].split())
                                         for m in ARGUMENT.finditer(section)}


# --- types ----------------------------------------------------------------------------------------
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


def _checked(name: str, schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
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


def format_result(value: Any) -> str:
    """A tool's result as text.

    Whole numbers have no point. Other numbers have 12 significant digits; a Fraction of at most 6
    decimal places has all its digits. Lists and objects are JSON.
    """
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
        return str(value)
    if not math.isfinite(value) or abs(value) > MAX_NUMBER:
        raise ToolError("result is too large.")
    if value == int(value):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.12g}"
    with localcontext(prec=40) as context:
        exact = Decimal(value.numerator) / Decimal(value.denominator)
        context.prec = 12
        short = f"{float(+exact):.12g}"  # rounded in decimals: a float could fall on the other side
    return short if Fraction(short) == value or value * 10**6 % 1 else f"{exact.normalize():f}"
