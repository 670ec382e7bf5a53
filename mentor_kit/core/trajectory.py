"""A trajectory: the steps of reasoning, tool use and observation that lead to an answer.

Made by a teacher or a student, in training or evaluation; always kept as the exact text that was
written (ChatML turns, Hermes tool calls), so that text -> Trajectory -> text is the identity. What
the steps are, which calls were executed and how each ended is derived from that text, in one place.

The text of a trajectory is what follows the first `<|im_start|>assistant\\n`:

    reasoning <tool_call>
    {"name": "add", "arguments": {"a": 1, "b": 2}}
    </tool_call><|im_end|>
    <|im_start|>user
    <tool_response>
    3
    </tool_response><|im_end|>
    <|im_start|>assistant
    The answer is \\boxed{3}.<|im_end|>

Where the user speaks again, the user's next message stands in the place of the tool results.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, Literal

from mentor_kit.core.chat_markup import (
    ASSISTANT,
    EOS,
    content_text,
    escape_chat_markup,
    render_environment,
    render_turn,
    render_user,
)
from mentor_kit.core.html import trajectory_html
from mentor_kit.core.turn import FINISHES, Finish, ToolCall, Turn
from mentor_kit.errors import UserError

FAILURES = (*FINISHES[1:], "no_answer")  # why a trajectory has no judged answer



@dataclass(frozen=True)
class Step:
    """One step of the drawn trajectory: R(easoning), T(ool use), O(bservation), A(nswer), or U: the
    user's next message."""

    kind: Literal["R", "T", "O", "A", "U"]
    text: str
    call: ToolCall | None = None


@cache
def _boundaries(eos: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What stands between two assistant turns, and the least of it."""
    end, assistant = re.escape(eos), re.escape(ASSISTANT)
    said = r"\s*<\|im_start\|>(?:user|tool)\n.*?"
    return (re.compile(rf"{end}({said}{end}\s*{assistant})", re.DOTALL),
            re.compile(rf"{end}\s*{assistant}"))


@dataclass(frozen=True)
class Trajectory:
    """The turns of one attempt at one problem.

    Args:
        problem_id: the `Problem.id` it answers.
        turns: assistant turns in order, at least one.
        producer: who made it, e.g. `teacher:worked_solution`, `student:mentor`.
        sample: index among the attempts of this producer at this problem.
        meta: JSON-able facts added later (verdict, reward terms, training step, ...).
    """

    problem_id: str
    turns: tuple[Turn, ...]
    producer: str = ""
    sample: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_text(cls, text: str, problem_id: str = "", *, finish: Finish | None = None,
                  eos: str = EOS,
                  **kwargs: Any) -> Trajectory:
        """Split response text into turns. Any text is accepted. `finish` says how the last turn
        ended; without it, or where the text contradicts it, a text with the end token is `eos`, one
        without `length`."""
        boundary, between = _boundaries(eos)
        # no boundary beyond: see _until_last
        last = max((m.end() for m in between.finditer(text)), default=0)
        pieces = boundary.split(text[:last])
        pieces[-1] += text[last:]
        turns = [Turn(pieces[i], "eos", pieces[i + 1]) for i in range(0, len(pieces) - 1, 2)]
        ended = pieces[-1].endswith(eos)
        if finish not in (("eos", "max_turns") if ended else ("length", "error")):
            finish = "eos" if ended else "length"
        turns.append(Turn(pieces[-1].removesuffix(eos), finish))
        return cls(problem_id, tuple(turns), **kwargs)

    def to_text(self, eos: str = EOS) -> str:
        """The exact response text. A last turn that finished by `length` or `error` has no end
        token."""
        parts = [t.text + eos + t.env_response for t in self.turns[:-1]]
        last = self.turns[-1]
        return "".join(parts) + last.text + ("" if last.finish in ("length", "error") else eos)

    @property
    def finish(self) -> Finish:
        return self.turns[-1].finish

    @cached_property
    def calls(self) -> tuple[ToolCall, ...]:
        """Every written call in order, malformed ones included."""
        return tuple(call for turn in self.turns for call in turn.calls)

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Names of the well-formed calls, in order, with repetitions."""
        return tuple(c.name for c in self.calls if c.name is not None)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The drawn form: R, T, O steps, A for the last turn (and for one that the user replies to)
        when it holds no call, and U for what the user says next."""
        return tuple(step for turn in self.turns for step in _steps(turn, turn is self.turns[-1]))

    def messages(self) -> list[dict[str, Any]]:
        """Chat messages (assistant with `tool_calls`, then `tool` or `user`), arguments as JSON
        objects."""
        return [m for turn in self.turns for m in _messages(turn)]

    @classmethod
    def from_messages(cls, messages: Iterable[Mapping[str, Any]], problem_id: str = "",
                      **kwargs: Any) -> Trajectory:
        """The trajectory of assistant, tool and later user messages, in any form that chat APIs
        write: arguments as an object or as JSON text, content as a text or as parts. What tools and
        users say cannot speak for the chat: marks are escaped. `finish` may be given for the last
        turn.

        Raises:
            UserError: for another role, a tool or user message in front, two assistant messages
                with nothing between them, a user message that does not stand between two assistant
                messages, or no message at all.
        """
        finish = kwargs.pop("finish", "eos")
        messages = list(messages)
        _check_roles([str(m["role"]) for m in messages])
        turns: list[Turn] = []
        results: list[str] = []
        for message in messages:
            content = escape_chat_markup(content_text(message.get("content")))
            if message["role"] == "tool":
                results.append(content)
            elif message["role"] == "user":
                turns[-1] = replace(turns[-1], env_response=render_user(content))
            else:
                if results:
                    turns[-1] = replace(turns[-1], env_response=render_environment(results))
                turns.append(Turn(render_turn(message)))
                results = []
        if results:
            turns[-1] = replace(turns[-1], env_response=render_environment(results))
            turns.append(Turn(""))
        turns[-1] = replace(turns[-1], finish=finish)
        return cls(problem_id, tuple(turns), **kwargs)

    def with_meta(self, **facts: Any) -> Trajectory:
        return replace(self, meta={**self.meta, **facts})

    def _repr_html_(self) -> str:
        return trajectory_html(self)


def _check_roles(roles: list[str]) -> None:
    other = [r for r in roles if r not in ("assistant", "tool", "user")] or [r for r in roles[:1]
                                                                             if r == "user"]
    if other:
        raise UserError(f"A trajectory has no message of role {other[0]!r}: leave out what comes "
                        "before the first assistant message.")
    apart = {("assistant", "assistant"), ("user", "user"), ("user", "tool"), ("tool", "user")}
    if roles[:1] != ["assistant"] or roles[-1] == "user" or apart & set(pairwise(roles)):
        raise UserError(f"Messages of roles {roles[:12]} are no trajectory: it starts with an "
                        "assistant message, and tool messages or a user's message stand between "
                        "two assistant messages.")


def _steps(turn: Turn, last: bool) -> Iterable[Step]:
    if turn.reasoning:
        answers = not turn.calls and (last or turn.user is not None)
        yield Step("A" if answers else "R", turn.reasoning)
    for call in turn.calls:
        yield Step("T", call.text.strip(), call)
    for call in turn.calls:
        if call.observation is not None:
            yield Step("O", call.observation.content, call)
    if turn.user is not None:
        yield Step("U", turn.user)


def _messages(turn: Turn) -> Iterable[dict[str, Any]]:
    message: dict[str, Any] = {"role": "assistant", "content": turn.text}
    calls = turn.calls
    if turn.runnable_calls:
        message["content"] = turn.without_calls.strip()
        message["tool_calls"] = [{"type": "function",
                                  "function": {"name": c.name, "arguments": c.arguments}}
                                 for c in calls]
    yield message
    for call in calls:
        if call.observation is not None:
            yield {"role": "tool", "name": call.name or "", "content": call.observation.content}
    if turn.user is not None:
        yield {"role": "user", "content": turn.user}
