"""The single-turn and multi-turn items of the Berkeley Function Calling Leaderboard v4, from the
package `bfcl-eval`.

Each item brings its own messages and tools (`meta["prompt_messages"]`, `meta["tool_schemas"]`);
dots in function names become underscores, as in the leaderboard's own prompts for function-calling
models. Java and JavaScript items carry the leaderboard's hint that arguments are texts in that
language.

A multi-turn item also says what the user says later (`meta["later_turns"]`: message and added
tools), and is answered by an Environment (`meta["environment"]`, see
`mentor_kit.core.environment`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mentor_kit.core.problem import Problem
from mentor_kit.errors import UserError

CATEGORIES = ("simple_python", "simple_java", "simple_javascript", "multiple", "parallel",
              "parallel_multiple",
              "irrelevance", "live_simple", "live_multiple", "live_parallel",
              "live_parallel_multiple",
              "live_irrelevance", "live_relevance")
MULTI_TURN = ("multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param",
              "multi_turn_long_context")
# what the leaderboard's user says when tools are added
# (DEFAULT_USER_PROMPT_FOR_ADDITIONAL_FUNCTION_FC)
MORE_TOOLS = "I have updated some more functions you can choose from. What about now?"
JSON_TYPES = {"integer": "integer", "number": "number", "float": "number", "string": "string",
              "boolean": "boolean",
              "bool": "boolean", "array": "array", "list": "array", "dict": "object",
              "object": "object",
              "tuple": "array", "any": "string", "byte": "integer", "short": "integer",
              "long": "integer",
              "double": "number", "char": "string", "ArrayList": "array", "Array": "array",
              "HashMap": "object",
              "Hashtable": "object", "Queue": "array", "Stack": "array", "Any": "string",
              "String": "string",
              "Bigint": "integer"}


def load(seed: int, sizes: Mapping[str, int]) -> list[Problem]:
    """The first items of each category, in the leaderboard's order (`seed` is not used: nothing is
    drawn).

    Args:
        sizes: category -> number of items, 0 for all.

    Raises:
        UserError: an unknown category, or the checker's environment cannot be made.
    """
    from mentor_kit.bfcl.checker import read_entries

    known = CATEGORIES + MULTI_TURN
    unknown = [c for c in sizes if c not in known]
    if unknown:
        raise UserError(f"BFCL category {unknown[0]!r} is unknown or not built: use "
                        f"{', '.join(known)}.")
    return [_problem(category, entry) for category, size in sizes.items()
            for entry in read_entries(category)[:size or None]]


def _problem(category: str, entry: Mapping[str, Any]) -> Problem:
    messages = entry["question"][0]
    question = next((m["content"] for m in reversed(messages) if m["role"] == "user"),
                    messages[-1]["content"])
    meta = {"category": category, "entry": entry["id"], "revision": entry["revision"],
            "prompt_messages": messages,
            "tool_schemas": [tool_schema(f) for f in entry["function"]]}
    if category in MULTI_TURN:
        meta |= {"environment": "bfcl_multi_turn", "later_turns": _later_turns(entry)}
    answers = ["no call"] if "irrelevance" in category else ["the checker's possible answers"]
    return Problem(f"bfcl/{entry['id']}", question or "(no text)", tuple(answers), "bfcl", category,
                   "own", meta)


def _later_turns(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the user says after the first message. A turn without a message only adds tools
    (`miss_func`)."""
    added = entry.get("missed_function", {})
    return [{"message": "\n".join(m["content"] for m in messages) or MORE_TOOLS,
             "tools": [tool_schema(f) for f in added.get(str(number), [])]}
            for number, messages in enumerate(entry["question"][1:], start=1)]


def scenario(problem: Problem) -> int | None:
    """Which scenario a multi-turn item is (the categories are variants of the same ones); None for
    any other problem."""
    is_dialogue = problem.meta.get("environment") == "bfcl_multi_turn"
    return scenario_number(problem.meta["entry"]) if is_dialogue else None


def scenario_number(entry: str) -> int:
    return int(entry.rpartition("_")[2])


def tool_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    """A leaderboard function as a JSON schema that chat templates take. What it returns, where that
    is said, is told in its description, as the leaderboard does for APIs whose schemas have no
    place for it."""
    parameters = _json_schema({**function["parameters"], "type": "dict"})
    description = function.get("description", "")
    if "response" in function:
        description += (
            f" The response field has the following schema: {json.dumps(function['response'])}"
        )
    return {"type": "function",
            "function": {"name": function["name"].replace(".", "_"), "description": description,
                                             "parameters": parameters}}


def _json_schema(schema: Any) -> Any:
    """The leaderboard's type names as JSON's, at every depth; types that JSON does not know are
    texts."""
    if not isinstance(schema, Mapping):
        return schema
    known = {k: v for k, v in schema.items() if k not in ("type", "properties", "items")}
    kind = {"type": JSON_TYPES.get(schema.get("type", "string"), "string")}
    if "properties" in schema:
        known["properties"] = {n: _json_schema(p) for n, p in schema["properties"].items()}
    if "items" in schema:
        known["items"] = _json_schema(schema["items"])
    return kind | known
