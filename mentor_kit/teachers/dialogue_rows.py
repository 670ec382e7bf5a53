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

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mentor_kit.core.cells import answer_cell, as_mapping, structured
from mentor_kit.core.chat_markup import content_text, render_call
from mentor_kit.core.problem import INSTRUCTION
from mentor_kit.core.tables import Row
from mentor_kit.core.turn import CALL_RE, RESPONSE_RE
from mentor_kit.errors import UserError
from mentor_kit.teachers.call_formats import (
    Unreadable,
    as_objects,
    bracket_calls,
    read_calls,
    tool_schema,
    tools_in,
)

DIALOGUES = ("messages", "conversations", "conversation", "dialogue")
ANSWERS = ("answer", "golden_answers", "ground_truth", "reward_model.ground_truth",
           "extra_info.answers")
ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "developer": "system",
         "tool_call": "function_call", "observation": "tool", "function": "tool",
         "function_response": "tool", "tool_response": "tool", "ipython": "tool"}


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
    except Unreadable as error:
        return replace(found, question=error.question, fault=str(error))


def _answers(row: Row, number: int, answer: str) -> tuple[str, ...]:
    names = [answer] if answer else [n for n in ANSWERS if n.partition(".")[0] in row]
    if not answer and "response" in row and "answers" in row:  # a run's own file
        names = ["answers"]
    found = (answer_cell(row, n, f"row {number}", "####") for n in names)
    return tuple(next(filter(None, found), ()))


def _read(row: Row, found: DialogueRow) -> DialogueRow:
    tools = tuple(tool_schema(t) for t in as_objects(row.get("tools") or row.get("functions")))
    info = as_mapping(row.get("extra_info")) or {}
    text = row.get("response") if "response" in row else info.get("trajectory")
    if "question" in row and isinstance(text, str):
        return replace(found, question=str(row["question"] or ""), text=text,
                       finish=row.get("finish"), toolbox=str(row.get("toolbox") or ""),
                       rejected=_rejected(as_mapping(row.get("meta")) or {}))
    if row.get("query") and "answers" in row:
        said = {"role": "assistant", "tool_calls": read_calls(row["answers"])}
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
        raise Unreadable("the dialogue is not a list of messages")
    messages = [m for raw in written for m in _messages(raw)]
    first = next((i for i, m in enumerate(messages) if m["role"] not in ("system", "user")),
                 len(messages))
    prompt, rest = messages[:first], messages[first:]
    asked = [content_text(m["content"]).strip() for m in prompt if m["role"] == "user"]
    if len(asked) != 1 or not asked[0]:
        raise Unreadable(f"not one user message but {len(list(filter(None, asked)))} stand before "
                          "the first answer")
    question = asked[0].removesuffix(INSTRUCTION).strip()
    told = [system, *(content_text(m["content"]) for m in prompt if m["role"] == "system")]
    system = "\n\n".join(filter(None, map(str.strip, told)))
    if in_system := () if tools else tools_in(system):
        tools, system = in_system, ""  # it says in which form to call, which is not ours
    if other := [m["role"] for m in rest if m["role"] not in ("assistant", "tool", "user")]:
        raise Unreadable(f"a message of role {other[0]!r} stands within the dialogue", question)
    names = {tool["function"]["name"] for tool in tools}
    return replace(found, question=question, messages=tuple(_merged(rest, names)), system=system,
                   tools=tools)


def _messages(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A message as the OpenAI API writes it. Parts of results and calls (Anthropic's) become
    messages and calls of their own."""
    role = str(raw.get("role") or raw.get("from")).lower()
    role, content = ROLES.get(role, role), raw.get("content", raw.get("value"))
    if role == "function_call":
        return [{"role": "assistant", "content": None, "tool_calls": read_calls(content)}]
    message = {**raw, "role": role, "content": content}
    if calls := raw.get("tool_calls"):
        message["tool_calls"] = read_calls(calls)
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
