"""A toolbox: named tools with JSON schemas, derived from typed Python functions, and guarded
execution.

A call that cannot be carried out is an observation with `ok=False`, never an exception: what a
model writes is data. The texts of error observations are those TRL's tool loop writes (`{'error':
'...'}`), so that rollouts in training and in evaluation read the same.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cached_property
from typing import Any

from mentor_kit.core.plugins import TOOLBOXES, find
from mentor_kit.errors import UserError

MAX_NUMBER = 1e30  # larger magnitudes are refused as arguments and as results
MAX_LIST = 1000  # items of a list argument
MAX_TEXT = 10_000  # characters of a text argument
MAX_NAME = 200  # characters of an unknown tool's name that its error repeats
# TRL passes arguments by keyword; those that are not an object come under this name
NOT_AN_OBJECT = "*"
NUMBER_RE = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d*)(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
JSON_TYPES = {float: {"type": "number"}, int: {"type": "integer"}, str: {"type": "string"},
              list[float]: {"type": "array", "items": {"type": "number"}}}


class ToolError(Exception):
    """A tool call that cannot be carried out; its message becomes the observation."""


@dataclass(frozen=True)
class Observation:
    """What came back from one tool call: its text, and whether the call succeeded."""

    content: str
    ok: bool = True


@dataclass(frozen=True)
class Tool:
    """A typed Python function as a tool. The first line of its docstring is the description."""

    function: Callable[..., Any]

    @property
    def name(self) -> str:
        return self.function.__name__

    @cached_property
    def parameters(self) -> dict[str, tuple[Any, bool]]:
        """Parameter name -> (type, required)."""
        hints = typing.get_type_hints(self.function)
        signature = inspect.signature(self.function).parameters
        return {n: (hints.get(n), p.default is inspect.Parameter.empty) for n,
                p in signature.items()}

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The function schema that chat templates and OpenAI-compatible servers take."""
        for name, (kind, _) in self.parameters.items():
            if kind not in JSON_TYPES:
                raise UserError(f"Tool {self.name!r}: parameter {name!r} has type {kind!r}; "
                                "annotate it with one of float, int, str, list[float].")
        return {"type": "function", "function": {
            "name": self.name,
            "description": inspect.getdoc(self.function).splitlines()[0] if self.function.__doc__
            else self.name,
            "parameters": {"type": "object",
                           "properties": {n: dict(JSON_TYPES[kind]) for n,
                                          (kind, _) in self.parameters.items()},
                           "required": [n for n, (_, required) in self.parameters.items()
                                        if required]}}}

    def bind(self, arguments: Any) -> dict[str, Any]:
        """Check and coerce arguments (see `coerce`); raises ToolError with the reason. None is no
        arguments."""
        arguments = {} if arguments is None else arguments
        if not isinstance(arguments, Mapping):
            raise ToolError(f"{self.name}: arguments must be an object.")
        unexpected = [str(n)[:40] for n in arguments if n not in self.parameters]
        if unexpected:
            raise ToolError(f"{self.name}: unexpected argument {unexpected[0]!r}.")
        missing = [n for n, (_, required) in self.parameters.items() if required
                   and n not in arguments]
        if missing:
            raise ToolError(f"{self.name}: missing argument {missing[0]!r}.")
        return {n: coerce(f"{self.name}: {n}", self.parameters[n][0], v) for n,
                v in arguments.items()}


def coerce(where: str, kind: Any, value: Any) -> Any:
    """Turn a JSON value into the declared type, or raise ToolError.

    The rules, in full: a number may also be written as text, with thousands commas and spaces
    around (`"1,234.5"`); true/false, nan, infinities, and magnitudes above 1e30 are refused; an
    integer may be written as a float without a fraction; a list may hold at most 1,000 numbers; a
    text at most 10,000 characters. Whole numbers stay exact Python integers.
    """
    if kind == list[float]:
        if not isinstance(value, list | tuple):
            raise ToolError(f"{where} must be a list of numbers.")
        if len(value) > MAX_LIST:
            raise ToolError(f"{where} has more than {MAX_LIST} items.")
        return [coerce(where, float, v) for v in value]
    if kind is str:
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise ToolError(f"{where} must be a text of at most {MAX_TEXT} characters.")
        return value
    number = _number(where, value)
    if kind is int and not isinstance(number, int):
        raise ToolError(f"{where} must be a whole number.")
    return number


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
    decimal places has all its digits.
    """
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


def error_observation(message: str) -> Observation:
    """The observation of a failed call, in the words of TRL's tool loop."""
    return Observation(str({"error": message}), ok=False)


class Toolbox:
    """Named tools. `schemas` is shown to models; `execute` carries out a call.

    `words`: texts that calls copy (names, values): the tokenizer of an embedded student keeps each
    in one piece.
    """

    def __init__(self, name: str, functions: Iterable[Callable[..., Any]],
                 words: Iterable[str] = ()) -> None:
        self.name, self.words = name, tuple(words)
        self.tools = {f.__name__: Tool(f) for f in functions}
        self.schemas = [tool.schema for tool in self.tools.values()]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.tools)

    def execute(self, name: Any, arguments: Any) -> Observation:
        """Carry out one call. Every failure is an observation with `ok=False`; nothing is
        raised."""
        tool = self.tools.get(name) if isinstance(name, str) else None
        if tool is None:
            shown = name[:MAX_NAME] if isinstance(name, str) else type(name).__name__
            return error_observation(f"Tool {shown} not found.")
        try:
            return Observation(format_result(tool.function(**tool.bind(arguments))))
        except Exception as error:  # whatever a tool of the user's raises
            return error_observation(str(error) or type(error).__name__)

    def as_functions(self) -> list[Callable[..., str]]:
        """The tools as plain functions for TRL's `tools=`: the same guard, failures raised as
        ToolError."""
        return [self._as_function(tool) for tool in self.tools.values()]

    def _as_function(self, tool: Tool) -> Callable[..., str]:
        def call(**arguments: Any) -> str:
            try:
                return format_result(tool.function(**tool.bind(arguments.get(NOT_AN_OBJECT,
                                                                             arguments))))
            except Exception as error:
                raise ToolError(str(error) or type(error).__name__) from None

        lines = [f"    {n}: {n}" for n in tool.parameters]
        call.__name__ = tool.name
        call.__doc__ = tool.schema["function"]["description"] + "\n\nArgs:\n" + "\n".join(lines)
        call.__signature__ = inspect.signature(tool.function, eval_str=True)
        call.__annotations__ = typing.get_type_hints(tool.function)
        return call

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td><code>{t.name}({', '.join(t.parameters)})</code></td>"
            f"<td style='text-align:left'>{t.schema['function']['description']}</td></tr>"
            for t in self.tools.values()
        )
        return f"<table><caption>toolbox <b>{self.name}</b></caption>{rows}</table>"


def load_toolbox(spec: str) -> Toolbox:
    """A toolbox by name (`arithmetic`) or as `package.module:name` of a Toolbox.

    Raises:
        UserError: for an unknown name, or an object that is not a Toolbox.
    """
    toolbox = find(TOOLBOXES, spec, "toolbox")
    if not isinstance(toolbox, Toolbox):
        raise UserError(f"toolbox {spec!r} is a {type(toolbox).__name__}: it must be a "
                        "mentor_kit.Toolbox.")
    return toolbox
