"""The single-turn items of the Berkeley Function Calling Leaderboard v4, read from the package `bfcl-eval`.

Each item brings its own messages and tools (`meta["prompt_messages"]`, `meta["tool_schemas"]`); dots in function
names become underscores, as in the leaderboard's own prompts for function-calling models. Java and JavaScript items
carry the leaderboard's hint that arguments are texts in that language.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mentor_kit.errors import UserError
from mentor_kit.problem import Problem

CATEGORIES = ("simple_python", "simple_java", "simple_javascript", "multiple", "parallel", "parallel_multiple",
              "irrelevance", "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple",
              "live_irrelevance", "live_relevance")
JSON_TYPES = {"integer": "integer", "number": "number", "float": "number", "string": "string", "boolean": "boolean",
              "bool": "boolean", "array": "array", "list": "array", "dict": "object", "object": "object",
              "tuple": "array", "any": "string", "byte": "integer", "short": "integer", "long": "integer",
              "double": "number", "char": "string", "ArrayList": "array", "Array": "array", "HashMap": "object",
              "Hashtable": "object", "Queue": "array", "Stack": "array", "Any": "string", "String": "string",
              "Bigint": "integer"}


def load(seed: int, sizes: Mapping[str, int]) -> list[Problem]:
    """The first items of each category, in the leaderboard's order (`seed` is not used: nothing is drawn).

    Args:
        sizes: category -> number of items, 0 for all.

    Raises:
        UserError: an unknown category, or the checker's environment cannot be made.
    """
    from mentor_kit.evaluation.benchmarks.bfcl import read_entries

    unknown = [c for c in sizes if c not in CATEGORIES]
    if unknown:
        raise UserError(f"BFCL category {unknown[0]!r} is unknown or not single-turn: use {', '.join(CATEGORIES)}.")
    return [_problem(category, entry) for category, size in sizes.items()
            for entry in read_entries(category)[:size or None]]


def _problem(category: str, entry: Mapping[str, Any]) -> Problem:
    messages = entry["question"][0]
    question = next((m["content"] for m in reversed(messages) if m["role"] == "user"), messages[-1]["content"])
    meta = {"category": category, "entry": entry["id"], "revision": entry["revision"], "prompt_messages": messages,
            "tool_schemas": [tool_schema(f) for f in entry["function"]]}
    answers = ["no call"] if "irrelevance" in category else ["the checker's possible answers"]
    return Problem(f"bfcl/{entry['id']}", question or "(no text)", tuple(answers), "bfcl", category, "own", meta)


def tool_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    """A leaderboard function as a JSON schema that chat templates take."""
    parameters = _json_schema({**function["parameters"], "type": "dict"})
    return {"type": "function", "function": {"name": function["name"].replace(".", "_"),
                                             "description": function.get("description", ""), "parameters": parameters}}


def _json_schema(schema: Any) -> Any:
    """The leaderboard's type names as JSON's, at every depth; types that JSON does not know are texts."""
    if not isinstance(schema, Mapping):
        return schema
    known = {k: v for k, v in schema.items() if k not in ("type", "properties", "items")}
    kind = {"type": JSON_TYPES.get(schema.get("type", "string"), "string")}
    if "properties" in schema:
        known["properties"] = {n: _json_schema(p) for n, p in schema["properties"].items()}
    if "items" in schema:
        known["items"] = _json_schema(schema["items"])
    return kind | known
