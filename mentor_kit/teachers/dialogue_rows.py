"""Trajectories that others wrote: one row of a table, in any form in which people share them.

| form | columns |
|---|---|
| OpenAI | `messages`: `role`, `content` (text or parts), `tool_calls`, reasoning fields; `tools` |
| ShareGPT | `conversations`: `from`, `value`; calls as `function_call` or `<tool_call>`; `tools` |
| ToolACE | `conversations` whose calls are `[name(argument=value)]`; the tools stand in `system` |
| xLAM, APIGen | `query`, `answers` (the calls), `tools` |
| the kit | `question`, and `response` (a run's file) or `extra_info.trajectory` (its export) |

Everything is read as data. A row that cannot be read keeps the reason.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mentor_kit.core.chat_markup import content_text, render_call
from mentor_kit.core.problem import INSTRUCTION
from mentor_kit.core.tables import Row, answer_cell, as_mapping, structured
from mentor_kit.core.trajectory import CALL_RE, RESPONSE_RE
from mentor_kit.errors import UserError

DIALOGUES = ("messages", "conversations", "conversation", "dialogue")
ANSWERS = ("answer", "golden_answers", "ground_truth", "reward_model.ground_truth",
           "extra_info.answers")
ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "developer": "system",
         "tool_call": "function_call", "observation": "tool", "function": "tool",
         "function_response": "tool", "tool_response": "tool", "ipython": "tool"}
JSON_TYPES = {"str": "string", "string": "string", "int": "integer", "integer": "integer",
              "float": "number", "number": "number", "bool": "boolean", "boolean": "boolean",
              "list": "array", "array": "array", "tuple": "array", "set": "array",
              "dict": "object", "object": "object"}
TOOLS_BLOCK = re.compile(r"<tools>(.*?)</tools>", re.DOTALL)
CALL_NAME = re.compile(r"[\s,]*([^()\[\]{}'\"=,]+)\(")


@dataclass(frozen=True)
class DialogueRow:
    """A trajectory of a file.

    Args:
        number: of the row, from 0.
        question: the first user message, "" where there is none.
        messages: what follows it: assistant, tool and user messages as the OpenAI API writes them.
        system: the system message; "" where it only told the tools.
        tools: the schemas of the tools that the row brings.
        answers: accepted answers; none where the row has no such column.
        text: the exact text of a trajectory of the kit. Where the file tells: `finish` says how it
            ended, `toolbox` with which tools it was made, `rejected` why it is not a reference.
        fault: why the row cannot be read.
    """

    number: int
    question: str = ""
    messages: tuple[Mapping[str, Any], ...] = ()
    system: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    answers: tuple[str, ...] = ()
    text: str | None = None
    finish: str | None = None
    toolbox: str = ""
    rejected: str = ""
    fault: str = ""


def read_dialogue(row: Row, number: int, answer: str = "") -> DialogueRow:
    """A row in whatever form it is. `answer`: the column of accepted answers; "" takes the first of
    the usual names.

    Raises:
        UserError: no column holds a trajectory, or there is no column `answer`.
    """
    found = DialogueRow(number, answers=_answers(row, number, answer))
    try:
        return _read(row, found)
    except _Unreadable as error:
        return replace(found, question=error.question, fault=str(error))


class _Unreadable(Exception):
    def __init__(self, fault: str, question: str = "") -> None:
        super().__init__(fault)
        self.question = question


def _answers(row: Row, number: int, answer: str) -> tuple[str, ...]:
    names = [answer] if answer else [n for n in ANSWERS if n.partition(".")[0] in row]
    if not answer and "response" in row and "answers" in row:  # a run's own file
        names = ["answers"]
    found = (answer_cell(row, n, f"row {number}", "####") for n in names)
    return tuple(next(filter(None, found), ()))


def _read(row: Row, found: DialogueRow) -> DialogueRow:
    tools = tuple(tool_schema(t) for t in _listed(row.get("tools") or row.get("functions")))
    info = as_mapping(row.get("extra_info")) or {}
    text = row.get("response") if "response" in row else info.get("trajectory")
    if "question" in row and isinstance(text, str):
        return replace(found, question=str(row["question"] or ""), text=text,
                       finish=row.get("finish"), toolbox=str(row.get("toolbox") or ""),
                       rejected=_rejected(as_mapping(row.get("meta")) or {}))
    if row.get("query") and "answers" in row:
        said = {"role": "assistant", "tool_calls": _calls(row["answers"])}
        return replace(found, question=str(row["query"]).strip(), messages=(said,), tools=tools)
    name = next((n for n in DIALOGUES if n in row), None)
    if name is None:
        raise UserError(f"Row {found.number} holds no trajectory: there is no column "
                        f"{', '.join(map(repr, DIALOGUES))}, 'response' or 'query', only "
                        f"{', '.join(map(repr, row))}.")
    return _conversation(structured(row[name]), content_text(row.get("system")), tools, found)


def _rejected(meta: Mapping[str, Any]) -> str:
    """Why a collection did not accept a trajectory; "" where it did, or took another right one."""
    reason = str(meta.get("reason", ""))
    return "" if meta.get("accepted", True) or reason == "not_selected" else reason


def _conversation(written: Any, system: str, tools: tuple[Mapping[str, Any], ...],
                  found: DialogueRow) -> DialogueRow:
    if not isinstance(written, list) or not all(isinstance(m, Mapping) for m in written):
        raise _Unreadable("the dialogue is not a list of messages")
    messages = [m for raw in written for m in _messages(raw)]
    first = next((i for i, m in enumerate(messages) if m["role"] not in ("system", "user")),
                 len(messages))
    prompt, rest = messages[:first], messages[first:]
    asked = [content_text(m["content"]).strip() for m in prompt if m["role"] == "user"]
    if len(asked) != 1 or not asked[0]:
        raise _Unreadable(f"not one user message but {len(list(filter(None, asked)))} stand before "
                          "the first answer")
    question = asked[0].removesuffix(INSTRUCTION).strip()
    told = [system, *(content_text(m["content"]) for m in prompt if m["role"] == "system")]
    system = "\n\n".join(filter(None, map(str.strip, told)))
    if in_system := () if tools else _tools_in(system):
        tools, system = in_system, ""  # it says in which form to call, which is not ours
    if other := [m["role"] for m in rest if m["role"] not in ("assistant", "tool", "user")]:
        raise _Unreadable(f"a message of role {other[0]!r} stands within the dialogue", question)
    names = {tool["function"]["name"] for tool in tools}
    return replace(found, question=question, messages=tuple(_merged(rest, names)), system=system,
                   tools=tools)


def _messages(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A message as the OpenAI API writes it. Parts of results and calls (Anthropic's) become
    messages and calls of their own."""
    role = str(raw.get("role") or raw.get("from")).lower()
    role, content = ROLES.get(role, role), raw.get("content", raw.get("value"))
    if role == "function_call":
        return [{"role": "assistant", "content": None, "tool_calls": _calls(content)}]
    message = {**raw, "role": role, "content": content}
    if calls := raw.get("tool_calls"):
        message["tool_calls"] = _calls(calls)
    if not isinstance(content, list):
        return [message]
    parts = [p if isinstance(p, Mapping) else {"text": p} for p in content]
    used = [{"id": str(p.get("id", "")),
             "function": {"name": p.get("name"), "arguments": p.get("input")}}
            for p in parts if p.get("type") == "tool_use"]
    told = [{"role": "tool", "tool_call_id": p.get("tool_use_id"), "content": p.get("content")}
            for p in parts if p.get("type") == "tool_result"]
    message["content"] = [p for p in parts if p.get("type") not in ("tool_use", "tool_result")]
    if used:
        message["tool_calls"] = used
    return [*told, message] if message["content"] or not told else told


def _merged(messages: Iterable[dict[str, Any]], names: set[str]) -> list[dict[str, Any]]:
    """Messages with the calls out of their texts. A text and the calls that follow it become one
    message, results that stand in one message become several."""
    merged: list[dict[str, Any]] = []
    n_calls = 0
    for message in messages:
        last = merged[-1] if merged else {}
        if message["role"] == "tool":
            told = _results(message["content"], n_calls)
            merged += [{"role": "tool", "content": t} for t in told] or [message]
            continue
        if message["role"] == "assistant":
            message = _with_calls(message, names)
            n_calls = len(message.get("tool_calls") or ())
            if (n_calls and not message["content"] and last.get("role") == "assistant"
                    and not last.get("tool_calls")):
                merged[-1] = {**last, "tool_calls": message["tool_calls"]}
                continue
        merged.append(message)
    return merged


def _with_calls(message: dict[str, Any], names: set[str]) -> dict[str, Any]:
    text = message["content"]
    if message.get("tool_calls") or not isinstance(text, str):
        return message
    if calls := bracket_calls(text, names):
        return {**message, "content": None, "tool_calls": calls}
    return {**message, "content": CALL_RE.sub(_as_json, text)}


def _as_json(match: re.Match[str]) -> str:
    """A `<tool_call>` whose object is Python's or JSON's, as JSON."""
    call = as_mapping(match[1])
    if not call or not isinstance(call.get("name"), str) or "arguments" not in call:
        return match[0]
    return render_call(call["name"], call["arguments"])


def _results(content: Any, n_calls: int) -> list[Any]:
    """The results that one tool message tells: in `<tool_response>` marks, or a list of one for
    each call with a `name`; [] where it is one result."""
    text = content_text(content)
    if marked := RESPONSE_RE.findall(text):
        return marked
    items = structured(text)
    named = isinstance(items, list) and len(items) == n_calls and all(
        isinstance(i, Mapping) and "name" in i for i in items)
    return [i.get("results", i.get("result", i.get("content", i))) for i in items] if named else []


def _calls(written: Any) -> list[dict[str, Any]]:
    """Calls with `function` and `id`, of a list or a single one, in JSON text or not."""
    calls = []
    for call in _listed(written):
        function = as_mapping(call.get("function")) or call
        arguments = function.get("arguments", function.get("parameters"))
        calls.append({"id": str(call.get("id", "")), "function": {"name": function.get("name"),
                                                         "arguments": arguments}})
    return calls


def _listed(written: Any) -> list[Mapping[str, Any]]:
    found = structured(written)
    found = [found] if isinstance(found, Mapping) else found or []
    if not isinstance(found, list) or not all(isinstance(f, Mapping) for f in found):
        raise _Unreadable(f"calls or tools are not a list of objects ({str(written)[:80]})")
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


def _tools_in(system: str) -> tuple[dict[str, Any], ...]:
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
        raise _Unreadable(f"a tool has no name ({str(tool)[:80]})")
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
