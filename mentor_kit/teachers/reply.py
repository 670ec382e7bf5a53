"""A chat server's reply, read as data and rendered as the text of a turn.

Fields of the wrong type count as absent. Markup that would forge an end of turn, a call or a tool
result when the trajectory's text is read again is written with `&lt;` instead of its `<`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mentor_kit.core.chat_markup import MARK_RE, REASONING_FIELDS, render_call, utf8

CHAT_MARK = re.compile(r"<(?=\|im_(?:start|end)\|)")
# fields of servers, before thoughts in the content
REASONING = (*REASONING_FIELDS, "reasoning_details")
THOUGHT_TAG = re.compile(r"\[(/?)THINK\]")  # as Magistral writes <think>
PART_TEXTS = ("text", "thinking", "reasoning", "summary", "content")
# fields of a message that some servers want back as they came (signatures of thoughts)
RETURNED = ("reasoning_details", "extra_content", "provider_specific_fields", "thinking_blocks")
WHOLE = {"", "stop", "stop_sequence", "end_turn", "eos", "eos_token", "complete", "completed",
         "finished", "done", "tool_calls", "tool_call", "tool_use", "function_call"}
TOO_LONG = {"length", "max_tokens", "model_length", "max_output_tokens", "max_new_tokens",
            "max_completion_tokens"}


class Call(NamedTuple):
    """A structured call: `arguments` as a JSON value, `raw` as the server wrote it."""

    id: str
    name: str
    arguments: Any
    raw: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Reply:
    """One assistant message of a server.

    Args:
        cut: why the text is not whole: `length`, or another finish reason; "" where it is.
        returned: fields of the message to send back as they came.
    """

    content: str
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    cut: str = ""
    returned: Mapping[str, Any] = field(default_factory=dict)


def read_reply(choice: Mapping[str, Any]) -> Reply:
    """The reply in `choices[0]` of a response body. Fields of the wrong type count as absent."""
    message = choice["message"]
    parts = message.get("content")
    thoughts = [p for p in parts if _is_thought(p)] if isinstance(parts, list) else []
    content, thought = split_thinking(
        _text([p for p in parts if not _is_thought(p)] if thoughts else parts))
    reasoning = next((t for name in REASONING if (t := _text(message.get(name)))),
                     _text(thoughts) or thought)
    calls = message.get("tool_calls")
    if not calls and isinstance(message.get("function_call"), Mapping):  # the form before 2023-11
        calls = [{"function": message["function_call"]}]
    returned = {name: message[name] for name in RETURNED if message.get(name)}
    if thoughts:
        returned["content"] = parts
    finish = str(choice.get("finish_reason") or "").lower()
    return Reply(content, reasoning, tuple(map(_call, calls if isinstance(calls, list) else [])),
                 "" if finish in WHOLE else "length" if finish in TOO_LONG else utf8(finish)[:40],
                 _safe(returned) or {})


def _is_thought(part: Any) -> bool:
    kind = str(part.get("type")) if isinstance(part, Mapping) else ""
    return "thinking" in kind or "reasoning" in kind


def _call(call: Any) -> Call:
    raw = call if isinstance(call, Mapping) else {}
    function = raw.get("function") if isinstance(raw.get("function"), Mapping) else {}
    return Call(_text(raw.get("id")), _text(function.get("name")),
                _arguments(function.get("arguments")), _safe(raw) or {})


def _arguments(written: Any) -> Any:
    """The arguments as a JSON value: absent, null and blank ones are {}, those encoded twice are
    decoded twice. A text that is not JSON stays a text, and the toolbox refuses it."""
    if not isinstance(written, str):
        return {} if written is None else written if isinstance(written, Mapping) else str(written)
    try:
        value = json.loads(written) if written.strip() else {}
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = json.loads(value)
        # NaN, and what is too deep to be written back, stay a text
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return utf8(written)
    return {} if value is None else value


def _text(value: Any, depth: int = 4) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(value, list) and depth:
        return "".join(_text(part, depth - 1) for part in value)
    if isinstance(value, Mapping) and depth < 4:
        return next((t for name in PART_TEXTS if (t := _text(value.get(name), depth - 1))), "")
    return utf8(value) if isinstance(value, str) else ""


def _safe(value: Any) -> Any:
    """A JSON value that can be sent again; None where it holds NaN or is too deep."""
    try:
        return json.loads(utf8(json.dumps(value, ensure_ascii=False, allow_nan=False)))
    except (ValueError, RecursionError):
        return None


def split_thinking(content: str) -> tuple[str, str]:
    """(content, reasoning) of a text with `<think>...</think>`, its opening tag possibly
    missing."""
    content = THOUGHT_TAG.sub(r"<\1think>", content)
    before, closed, after = content.partition("</think>")
    if not closed:
        return content, ""
    return after.lstrip("\n"), before.replace("<think>", "", 1).strip()


def render_reply(reply: Reply) -> str:
    """A reply as the exact text of a turn: thoughts between think tags, content, calls in Hermes
    form.

    A text that goes on after its own calls with an invented `<tool_response>` is cut there.
    """
    parts = []
    if reply.reasoning:
        parts.append(f"<think>\n{MARK_RE.sub('&lt;', reply.reasoning)}\n</think>")
    content = reply.content
    if not reply.calls:
        before, called, after = content.partition("</tool_call>")
        content = before + called + after.partition("<tool_response>")[0]
    content = (MARK_RE if reply.calls else CHAT_MARK).sub("&lt;", content).strip()
    if content:
        parts.append(content)
    return "\n".join([*parts, *(_render_call(c.name, c.arguments) for c in reply.calls)])


def _render_call(name: str, arguments: Any) -> str:
    """A structured call as text; marks inside its JSON strings are escaped as JSON allows."""
    opening, closing = "<tool_call>\n", "\n</tool_call>"
    body = render_call(name, arguments).removeprefix(opening).removesuffix(closing)
    return opening + MARK_RE.sub(r"\\u003c", body) + closing
