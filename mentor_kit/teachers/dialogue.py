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
from typing import Any

from mentor_kit.core.environment import Environment, EnvResponse
from mentor_kit.core.problem import Problem, prompt_messages
from mentor_kit.core.toolbox import Observation, Toolbox, error_observation
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.teachers.reply import Reply, render_reply, split_thinking

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
