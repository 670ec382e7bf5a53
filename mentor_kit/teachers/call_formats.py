"""Calls and tools as others write them: JSON, Python literals, `[name(argument=value)]`."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mentor_kit.core.cells import as_mapping, structured

JSON_TYPES = {"str": "string", "string": "string", "int": "integer", "integer": "integer",
              "float": "number", "number": "number", "bool": "boolean", "boolean": "boolean",
              "list": "array", "array": "array", "tuple": "array", "set": "array",
              "dict": "object", "object": "object"}
TOOLS_BLOCK = re.compile(r"<tools>(.*?)</tools>", re.DOTALL)
CALL_NAME = re.compile(r"[\s,]*([^()\[\]{}'\"=,]+)\(")


class Unreadable(Exception):
    """A row that cannot be read, and its question where that is known."""

    def __init__(self, fault: str, question: str = "") -> None:
        super().__init__(fault)
        self.question = question


def read_calls(written: Any) -> list[dict[str, Any]]:
    """Calls with `function` and `id`, of a list or a single one, in JSON text or not."""
    calls = []
    for call in as_objects(written):
        function = as_mapping(call.get("function")) or call
        arguments = function.get("arguments", function.get("parameters"))
        calls.append({"id": str(call.get("id", "")), "function": {"name": function.get("name"),
                                                         "arguments": arguments}})
    return calls


def as_objects(written: Any) -> list[Mapping[str, Any]]:
    found = structured(written)
    found = [found] if isinstance(found, Mapping) else found or []
    if not isinstance(found, list) or not all(isinstance(f, Mapping) for f in found):
        raise Unreadable(f"calls or tools are not a list of objects ({str(written)[:80]})")
    return found


def bracket_calls(text: str, names: Iterable[str]) -> list[dict[str, Any]]:
    """The calls of `[name(argument=value), ...]`; [] for any other text. Names may hold blanks, so
    only these `names` are calls."""
    inner, at, calls = text.strip(), 0, []
    if not (inner.startswith("[") and inner.endswith(")]")):
        return []
    inner = inner[1:-1]
    while at < len(inner):
        found = CALL_NAME.match(inner, at)
        end = _closing(inner, found.end()) if found else -1
        arguments = _keywords(inner[found.end():end]) if end >= 0 else None
        if arguments is None or found[1].strip() not in names:
            return []
        calls.append({"function": {"name": found[1].strip(), "arguments": arguments}})
        at = end + 1
    return calls


def _closing(text: str, start: int) -> int:
    """Where the bracket closes that was opened before `start`; -1 where it does not."""
    depth, quote, skip = 1, "", False
    for at in range(start, len(text)):
        c = text[at]
        if skip or (quote and c != quote and c != "\\"):
            skip = False
        elif c == "\\":
            skip = True
        elif c in "'\"":
            quote = "" if quote else c
        elif not quote:
            depth += (c in "([{") - (c in ")]}")
            if depth == 0:
                return at
    return -1


class _Constants(ast.NodeTransformer):
    """JSON's names of constants as Python's."""

    NAMES = {"true": True, "false": False, "null": None}

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(self.NAMES[node.id]) if node.id in self.NAMES else node


def _keywords(text: str) -> dict[str, Any] | None:
    """The arguments of `a=1, b="x"`; None where they are not literals with names."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
            return None
        return {k.arg: ast.literal_eval(_Constants().visit(k.value)) for k in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def tools_in(system: str) -> tuple[dict[str, Any], ...]:
    """The tools that a system message lists as JSON."""
    if block := TOOLS_BLOCK.search(system):
        listed = structured(block[1].strip())
        listed = listed if isinstance(listed, list) else map(as_mapping, block[1].splitlines())
        return tuple(tool_schema(t) for t in listed if t)
    for start in list(re.finditer(r"\[\s*\{", system))[:3]:
        try:
            listed, _ = json.JSONDecoder().raw_decode(system, start.start())
        except (ValueError, RecursionError):
            continue
        if all(isinstance(t, Mapping) and ("name" in t or "function" in t) for t in listed):
            return tuple(map(tool_schema, listed))
    return ()


def tool_schema(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as a JSON schema that chat templates take, whatever names its types have.

    Parameters may be a schema, or a struct of name -> type and description.
    """
    function = as_mapping(tool.get("function")) or tool
    if not isinstance(function.get("name"), str):
        raise Unreadable(f"a tool has no name ({str(tool)[:80]})")
    given = as_mapping(function.get("parameters")) or {}
    if not isinstance(given.get("properties"), Mapping):
        given = {} if given.get("type") in ("object", "dict") else given
        required = [n for n, p in given.items() if isinstance(p, Mapping) and "default" not in p
                    and "optional" not in str(p.get("type"))]
        given = {"properties": given, "required": required}
    return {"type": "function", "function": {
        "name": function["name"], "description": str(function.get("description") or ""),
        "parameters": json_schema({**given, "type": "object"})}}


def json_schema(schema: Any) -> Any:
    """A schema with JSON's names of types at every depth; a type that JSON does not know is left
    out."""
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [json_schema(s) for s in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {}
    for name, value in schema.items():
        if name == "type" and isinstance(value, str):
            word = re.match(r"\w+", value.strip().lower())
            if kind := JSON_TYPES.get(word[0] if word else ""):
                made[name] = kind
        elif name == "properties" and isinstance(value, Mapping):
            made[name] = {n: json_schema(p) for n, p in value.items()}
        else:
            made[name] = json_schema(value)
    return made
