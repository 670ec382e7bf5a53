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
from dataclasses import dataclass
from typing import Any

from mentor_kit.core.environment import Environment, EnvResponse
from mentor_kit.core.problem import Problem
from mentor_kit.core.toolbox import Observation, Toolbox, error_observation
from mentor_kit.core.trajectory import MARK_RE, Trajectory, Turn, render_call

# the released prompt: the question, then this instruction
INSTRUCTION = "Put the final answer in \\boxed{}."
CHAT_MARK = re.compile(r"<(?=\|im_(?:start|end)\|)")
# fields of servers, before `<think>` text
REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
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


@dataclass(frozen=True)
class Reply:
    """One assistant message of a server. `calls`: (id, name, arguments as written); `cut`: by the
    token limit."""

    content: str
    reasoning: str = ""
    calls: tuple[tuple[str, str, Any], ...] = ()
    cut: bool = False


def read_reply(choice: Mapping[str, Any]) -> Reply:
    """The reply in `choices[0]` of a response body. Fields of the wrong type count as absent."""
    message = choice["message"]
    content, thought = split_thinking(_text(message.get("content")))
    reasoning = next((t for field in REASONING if (t := _text(message.get(field)))), thought)
    calls = message.get("tool_calls")
    return Reply(content, reasoning, tuple(_calls(calls if isinstance(calls, list) else [])),
                 choice.get("finish_reason") == "length")


def _calls(calls: list[Any]) -> list[tuple[str, str, Any]]:
    found = []
    for number, call in enumerate(calls):
        function = call.get("function") if isinstance(call, Mapping) else None
        function = function if isinstance(function, Mapping) else {}
        found.append((_text(call.get("id") if isinstance(call, Mapping) else "")
                      or f"call_{number}",
                      _text(function.get("name")), _arguments(function.get("arguments"))))
    return found


def _arguments(written: Any) -> Any:
    """The arguments as a JSON value; a text that is none stays a text, and the toolbox refuses
    it."""
    if not isinstance(written, str):
        return written if isinstance(written, Mapping) else str(written)
    try:
        value = json.loads(written)
        # NaN, and what is too deep to be written back, stay a text
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return _utf8(written)
    return value


def _text(value: Any) -> str:
    """A text, or the text parts of a list of parts."""
    if isinstance(value, list):
        value = "".join(p.get("text", "") for p in value if isinstance(p, Mapping)
                        and isinstance(p.get("text"), str))
    return _utf8(value) if isinstance(value, str) else ""


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def split_thinking(content: str) -> tuple[str, str]:
    """(content, reasoning) of a text with `<think>...</think>`, its opening tag possibly
    missing."""
    before, closed, after = content.partition("</think>")
    if not closed:
        return content, ""
    return after.lstrip("\n"), before.replace("<think>", "", 1).strip()


def opening(problem: Problem, instructions: str) -> list[dict[str, Any]]:
    """The first messages: the problem's own where it brings them, else question and instruction;
    `instructions` go into the system message."""
    asked = problem.meta.get("prompt_messages") or [
        {"role": "user", "content": f"{problem.question}\n{INSTRUCTION}"}
    ]
    messages = [dict(m) for m in asked]
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
        self.problem, self.toolbox, self.native, self.echo_reasoning = (
            problem,
            toolbox,
            native,
            echo_reasoning,
        )
        self.own = isinstance(toolbox, Environment)
        self.max_turns = toolbox.max_turns if self.own else max_turns
        self.turns: list[Turn] = []
        tools = "" if native else TOOLS_IN_TEXT.format(tools="\n".join(json.dumps(s)
                                                                       for s in toolbox.schemas))
        if tools and not self.own:
            tools += CALCULATE
        self.messages = opening(problem, "\n\n".join(filter(None, [system, tools])))

    def add(self, reply: Reply) -> bool:
        """Take a reply, execute its calls; whether the dialogue goes on."""
        turn = Turn(render_reply(reply))
        last = len(self.turns) + 1 >= self.max_turns
        answer = None if reply.cut or last else self._answer(turn)
        if answer is None:
            self.turns.append(Turn(turn.text, "length" if reply.cut else "max_turns" if turn.calls
                                   else "eos"))
            return False
        self.turns.append(Turn(turn.text, "eos", answer.text))
        if reply.calls and answer.results:
            self.messages += self._native(reply, answer.results)
        else:
            self.messages += self._as_text(turn.text, answer)
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
        """The turn in the words of the API. Servers choke on arguments that are no object, so those
        go back as {}."""
        calls = [{"id": key, "type": "function", "function": {
            "name": name if NAME.fullmatch(name) else "invalid_name",
            "arguments": json.dumps(arguments) if isinstance(arguments, Mapping) else "{}"}}
            for key, name, arguments in reply.calls]
        said: dict[str, Any] = {"role": "assistant", "content": reply.content or None,
                                "tool_calls": calls}
        if self.echo_reasoning and reply.reasoning:
            said["reasoning_content"] = reply.reasoning
        return [said, *({"role": "tool", "tool_call_id": call["id"], "content": result}
                        for call, result in zip(calls, results, strict=True))]

    def _as_text(self, text: str, answer: EnvResponse) -> list[dict[str, Any]]:
        """The turn as text, and the results of its calls or what the user says next."""
        body = "\n".join(f"<tool_response>\n{r}\n</tool_response>" for r in answer.results)
        body = body or (answer.message if self.native else answer.text_with_tools)
        return [{"role": "assistant", "content": split_thinking(text)[0]},
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
    parts = (
        [f"<think>\n{MARK_RE.sub('&lt;', reply.reasoning)}\n</think>"] if reply.reasoning else []
    )
    content = reply.content if reply.calls else reply.content.partition("<tool_response>")[0]
    content = (MARK_RE if reply.calls else CHAT_MARK).sub("&lt;", content).strip()
    if content:
        parts.append(content)
    return "\n".join([*parts,
                      *(_render_call(name, arguments) for _, name, arguments in reply.calls)])


def _render_call(name: str, arguments: Any) -> str:
    """A structured call as text; marks inside its JSON strings are escaped as JSON allows."""
    opening, closing = "<tool_call>\n", "\n</tool_call>"
    body = render_call(name, arguments).removeprefix(opening).removesuffix(closing)
    return opening + MARK_RE.sub(r"\\u003c", body) + closing
