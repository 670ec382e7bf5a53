"""How a conversation is written down: ChatML turns, Hermes tool calls, tool results.

`core.trajectory` reads this text; here it is made, from the messages that chat APIs send.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

EOS = "<|im_end|>"
ASSISTANT = "<|im_start|>assistant\n"
MARK_RE = re.compile(r"<(?=\|im_(?:start|end)\||/?tool_(?:call|response)>)")
# where chat APIs put what was thought
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")


def render_call(name: str, arguments: Any) -> str:
    """A call in Hermes form, exactly as our chat template and Qwen's write it."""
    name, arguments = (json.dumps(x, ensure_ascii=False) for x in (name, arguments))
    return f'<tool_call>\n{{"name": {name}, "arguments": {arguments}}}\n</tool_call>'


def render_turn(message: Mapping[str, Any]) -> str:
    """The text of an assistant message with `content`, `tool_calls` and what it thought, in a field
    of its own."""
    thoughts = (content_text(message.get(name)) for name in REASONING_FIELDS)
    thought, content = next(filter(None, thoughts), ""), content_text(message.get("content"))
    parts = [f"<think>\n{escape_chat_markup(thought)}\n</think>"] if thought else []
    parts += [content] if content else []
    for call in message.get("tool_calls") or []:
        function = call.get("function", call)
        parts.append(render_call(function["name"], read_arguments(function.get("arguments"))))
    return "\n".join(parts)


def content_text(content: Any) -> str:
    """A message's content as text: a text, nothing, or a list of parts of which the texts count;
    anything else as JSON."""
    if isinstance(content, list):
        return "".join(content_text(part.get("text") if isinstance(part, Mapping) else part)
                       for part in content)
    if content is None or isinstance(content, str):
        return content or ""
    return json.dumps(content, ensure_ascii=False)


def read_arguments(written: Any) -> Any:
    """A call's arguments: the object that is written, also as JSON text (once or twice encoded; an
    empty text is no arguments). Anything else stays as it is."""
    value = written
    for _ in range(2):
        if not isinstance(value, str):
            break
        if not value.strip():
            return {}
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            break
    return value if isinstance(value, Mapping) else written


def render_environment(results: Iterable[str], eos: str = EOS) -> str:
    """Tool results as the text between two assistant turns."""
    body = "".join(f"\n<tool_response>\n{r}\n</tool_response>" for r in results)
    return f"\n<|im_start|>user{body}{eos}\n{ASSISTANT}"


def render_user(text: str, eos: str = EOS) -> str:
    """The user's next message as the text between two assistant turns."""
    return f"\n<|im_start|>user\n{text}{eos}\n{ASSISTANT}"


def escape_chat_markup(text: str) -> str:
    """A text that cannot speak for the chat: where it would open or close a turn, a call or a
    result, `&lt;` stands for the `<`."""
    return MARK_RE.sub("&lt;", utf8(text))


def utf8(text: str) -> str:
    """A text whose unpaired surrogates, which neither Parquet nor a tokenizer takes, are question
    marks."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
