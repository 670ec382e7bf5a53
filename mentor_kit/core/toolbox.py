"""A toolbox: named tools, and guarded execution of what a model wrote.

A call that cannot be carried out is an observation with `ok=False`, never an exception: what a
model writes is data. The texts of error observations are those TRL's tool loop writes (`{'error':
'...'}`), so that rollouts in training and in evaluation read the same. Only what is no model's
fault stops the run: a UserError, for instance of a server that is gone.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

from mentor_kit.core.arguments import JSON_TYPES
from mentor_kit.core.plugins import TOOLBOX_KINDS, TOOLBOXES, find, load_object
from mentor_kit.core.tool import Tool
from mentor_kit.errors import ToolError, UserError

MAX_NAME = 200  # characters of an unknown tool's name that its error repeats
# TRL passes arguments by keyword; those that are not an object come under this name
NOT_AN_OBJECT = "*"


@dataclass(frozen=True)
class Observation:
    """What came back from one tool call: its text, and whether the call succeeded."""

    content: str
    ok: bool = True


class ToolboxFailure(BaseException):
    """A UserError on its way through TRL's tool loop, which takes every Exception for a call that
    failed."""


def error_observation(message: str) -> Observation:
    """The observation of a failed call, in the words of TRL's tool loop."""
    return Observation(str({"error": message}), ok=False)


class Toolbox:
    """Named tools. `schemas` is shown to models; `execute` carries out a call.

    `words`: texts that calls copy (names, values): the tokenizer of an embedded student keeps each
    in one piece. `waits`: a call may wait for another process.
    """

    def __init__(self, name: str, functions: Iterable[Callable[..., Any] | Tool],
                 words: Iterable[str] = (), waits: bool = False) -> None:
        self.name, self.words = name, tuple(words)
        tools = [f if isinstance(f, Tool) else Tool(f) for f in functions]
        self.tools = {tool.name: tool for tool in tools}
        self.schemas = [tool.schema for tool in tools]
        self.waits = waits or any(tool.waits for tool in tools)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.tools)

    def execute(self, name: Any, arguments: Any) -> Observation:
        """Carry out one call. Every failure of the call is an observation with `ok=False`.

        Raises:
            UserError: the tool itself does not work, whatever the arguments.
        """
        tool = self.tools.get(name) if isinstance(name, str) else None
        if tool is None:
            shown = name[:MAX_NAME] if isinstance(name, str) else type(name).__name__
            return error_observation(f"Tool {shown} not found.")
        try:
            return Observation(tool.call(arguments))
        except UserError:
            raise
        except Exception as error:  # whatever a tool of the user's raises
            return error_observation(str(error) or type(error).__name__)

    def as_functions(self) -> list[Callable[..., str]]:
        """The tools for TRL's `tools=`: the same guard, failures raised as ToolError.

        A tool of plain types is a function, whose schema transformers derives; any other one brings
        its schema with it.
        """
        return [_plain_function(tool) if _is_plain(tool) else SchemaFunction(tool)
                for tool in self.tools.values()]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td><code>{escape(t.name)}({escape(', '.join(t.parameters))})</code></td>"
            "<td style='text-align:left'>"
            f"{escape(t.schema['function'].get('description', ''))}</td></tr>"
            for t in self.tools.values()
        )
        return f"<table><caption>toolbox <b>{self.name}</b></caption>{rows}</table>"


def call_for_trl(tool: Tool, arguments: dict[str, Any]) -> str:
    """The result of a call that TRL makes; failures are raised."""
    try:
        return tool.call(arguments.get(NOT_AN_OBJECT, arguments))
    except UserError as error:
        raise ToolboxFailure(str(error)) from error
    except Exception as error:
        raise ToolError(str(error) or type(error).__name__) from None


class SchemaFunction(dict):
    """A tool's schema that can be called: both are what TRL and transformers ask of a tool."""

    def __init__(self, tool: Tool) -> None:
        super().__init__(tool.schema)
        self.tool, self.__name__ = tool, tool.name

    def __call__(self, /, **arguments: Any) -> str:
        return call_for_trl(self.tool, arguments)


def _is_plain(tool: Tool) -> bool:
    properties = tool.schema["function"]["parameters"].get("properties", {})
    return tool.given is None and all(kind in JSON_TYPES for kind, _ in tool.parameters.values()
                                      ) and not any("description" in p for p in properties.values())


def _plain_function(tool: Tool) -> Callable[..., str]:
    def call(**arguments: Any) -> str:
        return call_for_trl(tool, arguments)

    lines = [f"    {n}: {n}" for n in tool.parameters]
    call.__name__ = tool.name
    call.__doc__ = tool.schema["function"]["description"] + "\n\nArgs:\n" + "\n".join(lines)
    call.__signature__ = inspect.signature(tool.function, eval_str=True)
    call.__annotations__ = typing.get_type_hints(tool.function)
    return call


def load_toolbox(spec: str) -> Toolbox:
    """A toolbox by name (`arithmetic`), as `package.module:name` of a Toolbox, or as `KIND:WHAT`
    (`mcp:COMMAND`, `perturbed:HOW:TOOLBOX`).

    Raises:
        UserError: for an unknown name, an object that is not a Toolbox, or a server that cannot be
            reached.
    """
    kind, colon, what = spec.partition(":")
    if colon and kind in TOOLBOX_KINDS:
        return _made_toolbox(kind, what.strip())
    toolbox = find(TOOLBOXES, spec, "toolbox")
    if not isinstance(toolbox, Toolbox):
        raise UserError(f"toolbox {spec!r} is a {type(toolbox).__name__}: it must be a "
                        "mentor_kit.Toolbox.")
    return toolbox


@cache
def _made_toolbox(kind: str, what: str) -> Toolbox:
    return load_object(TOOLBOX_KINDS[kind], "toolbox")(what)
