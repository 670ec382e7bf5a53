"""One tool: a typed Python function (or another program's, with its JSON schema) that is called
with what a model wrote."""

from __future__ import annotations

import inspect
import json
import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cached_property
from typing import Any

from mentor_kit.core.arguments import MAX_NUMBER, coerce, fit_schema, json_schema
from mentor_kit.core.background import wait_for
from mentor_kit.core.limited import call_limited, check_importable
from mentor_kit.errors import ToolError

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

    def carried_out_by(self, function: Callable[..., Any]) -> Tool:
        """The same tool with another function of the same signature, which is not read again."""
        other = replace(self, function=function)
        other.__dict__.update(parameters=self.parameters, schema=self.schema)
        return other

    def bind(self, arguments: Any) -> dict[str, Any]:
        """Check and coerce arguments (see `mentor_kit.core.arguments`); None is no arguments.

        Raises:
            ToolError: they do not fit.
        """
        arguments = {} if arguments is None else arguments
        if not isinstance(arguments, Mapping):
            raise ToolError(f"{self.name}: arguments must be an object.")
        if self.given:
            return fit_schema(self.name, self.given["parameters"], arguments)
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
