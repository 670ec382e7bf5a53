"""The dialogue between a model that teaches and a toolbox: replies in, tool results out, a
trajectory at the end.

What the model writes is data. Calls run through the guarded toolbox; markup that would forge an end
of turn, a call or a tool result when the trajectory's text is read again is written with `&lt;`
instead of its `<`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mentor_kit.core.chat_markup import MARK_RE, REASONING_FIELDS, render_call, utf8
from mentor_kit.core.environment import Environment, EnvResponse
from mentor_kit.core.problem import Problem, prompt_messages
from mentor_kit.core.toolbox import Observation, Toolbox, error_observation
from mentor_kit.core.trajectory import Trajectory, Turn

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
NAME = re.compile(r"[\w-]{1,64}", re.ASCII)
TOOLS_IN_TEXT = """You may call tools. The tools, as JSON schemas:
<tools>
{tools}
</tools>
To call one, write
<tool_call>
{{"name": "tool name", "arguments": {{"argument": value}}}}
</tool_call>
and stop; the result comes back between <tool_response> and </tool_response>."""
# not said where the problem brings its own tools: some need none
CALCULATE = " Use a tool for every calculation."
MALFORMED = "The call is not a JSON object with a name and arguments."


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


def opening(problem: Problem, instructions: str) -> list[dict[str, Any]]:
    """The first messages: the problem's own where it brings them, else question and instruction;
    `instructions` go into the system message."""
    own = problem.meta.get("prompt_messages")
    messages = [dict(m) for m in own or prompt_messages(problem.question)]
    if instructions and messages[0]["role"] == "system":
        messages[0]["content"] = f"{instructions}\n\n{messages[0]['content']}"
    elif instructions:
        messages.insert(0, {"role": "system", "content": instructions})
    return messages


class Dialogue:
    """One attempt under way: `messages` is what to send next, `turns` what was said.

    Args:
        toolbox: the problem's toolbox, or its Environment where it brings its own tools (its turn
            limit then holds).
        native: offer tools by `tools=`; else describe them in the system message and read
            `<tool_call>` text.
        max_turns: assistant turns; calls in the last one are not executed (released code: 5).
        echo_reasoning: send reasoning back as `reasoning_content` (some servers want it, some
            refuse it).
    """

    def __init__(self, problem: Problem, toolbox: Toolbox | Environment, *, native: bool,
                 max_turns: int, system: str = "",
                 echo_reasoning: bool = False) -> None:
        self.problem, self.toolbox = problem, toolbox
        self.native, self.echo_reasoning = native, echo_reasoning
        self.ids: set[str] = set()
        self.own = isinstance(toolbox, Environment)
        self.max_turns = toolbox.max_turns if self.own else max_turns
        self.turns: list[Turn] = []
        self.cut = ""  # of the last reply
        self.no_content: str | None = None  # what stands for the text of a turn without one
        schemas = "\n".join(json.dumps(s) for s in toolbox.schemas)
        tools = "" if native else TOOLS_IN_TEXT.format(tools=schemas)
        if tools and not self.own:
            tools += CALCULATE
        self.messages = opening(problem, "\n\n".join(filter(None, [system, tools])))

    def add(self, reply: Reply) -> bool:
        """Take a reply, execute its calls; whether the dialogue goes on."""
        turn, self.cut = Turn(render_reply(reply)), reply.cut
        last = len(self.turns) + 1 >= self.max_turns
        answer = None if reply.cut or last else self._answer(turn)
        if answer is None:
            finish = "max_turns" if turn.calls else "eos"
            if reply.cut:
                finish = "length" if reply.cut == "length" else "error"
            self.turns.append(Turn(turn.text, finish))
            return False
        self.turns.append(Turn(turn.text, "eos", answer.text))
        if reply.calls and answer.results:
            self.messages += self._native(reply, answer.results)
        else:
            self.messages += self._as_text(reply, turn.text, answer)
        return True

    def _answer(self, turn: Turn) -> EnvResponse | None:
        """What follows a turn; None at the end."""
        if self.own:
            return self.toolbox.step(turn)
        return EnvResponse([self._execute(c.name, c.arguments).content
                            for c in turn.calls]) if turn.calls else None

    def _execute(self, name: str | None, arguments: Any) -> Observation:
        return error_observation(MALFORMED) if name is None else self.toolbox.execute(name,
                                                                                      arguments)

    def _native(self, reply: Reply, results: Sequence[str]) -> list[dict[str, Any]]:
        """The turn in the words of the API, unknown fields as they came. Servers choke on
        arguments that are not an object, so those go back as {}."""
        offered = {schema["function"]["name"] for schema in self.toolbox.schemas}
        calls = []
        for call in reply.calls:
            named = call.name in offered or NAME.fullmatch(call.name)
            function = {"name": call.name if named else "invalid_name", "arguments": json.dumps(
                call.arguments if isinstance(call.arguments, Mapping) else {})}
            kept = call.raw.get("function")
            function = (kept if isinstance(kept, Mapping) else {}) | function
            calls.append({**call.raw, "id": self._new_id(call.id), "type": "function",
                          "function": function})
        said = {"role": "assistant", "content": reply.content or self.no_content,
                **reply.returned, "tool_calls": calls}
        if self.echo_reasoning and reply.reasoning:
            said["reasoning_content"] = reply.reasoning
        return [said, *({"role": "tool", "tool_call_id": call["id"],
                         "name": call["function"]["name"], "content": result}
                        for call, result in zip(calls, results, strict=True))]

    def fill_content(self) -> bool:
        """Send "" instead of null as the content of turns without text, which some servers want
        (others refuse it); whether that changes anything."""
        empty = [m for m in self.messages if m["content"] is None]
        for message in empty:
            message["content"] = self.no_content = ""
        return bool(empty)

    def _new_id(self, key: str) -> str:
        """The server's id of a call, or one of our own where it is missing or taken: nine letters
        and digits, as some servers want."""
        number = len(self.ids)
        while not key or key in self.ids:
            key, number = f"call{number:05d}", number + 1
        self.ids.add(key)
        return key

    def _as_text(self, reply: Reply, text: str, answer: EnvResponse) -> list[dict[str, Any]]:
        """The turn as text, and the results of its calls or what the user says next."""
        body = "\n".join(f"<tool_response>\n{r}\n</tool_response>" for r in answer.results)
        body = body or (answer.message if self.native else answer.text_with_tools)
        return [{"role": "assistant", **reply.returned, "content": split_thinking(text)[0]},
                {"role": "user", "content": body}]

    def trajectory(self, producer: str, sample: int, **meta: Any) -> Trajectory:
        """What was said. A dialogue that was broken off ends with an empty turn that finished by
        `error`."""
        whole = bool(self.turns) and not self.turns[-1].env_response
        turns = self.turns if whole else [*self.turns, Turn("", "error")]
        return Trajectory(self.problem.id, tuple(turns), producer, sample, meta)


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
