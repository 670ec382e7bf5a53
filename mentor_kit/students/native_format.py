"""The calls of another family than Hermes, read and rendered by the student's own template."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from mentor_kit.core.chat_markup import escape_chat_markup, render_environment, render_turn
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import THOUGHT_RE, Turn
from mentor_kit.errors import UserError
from mentor_kit.students.turns import last_turn

OURS = "Set student_template=kit to prompt it with our ChatML + Hermes template."
# the day that templates of Llama and gpt-oss write into prompts: one for all, so that a run repeats
DAY = datetime.date(2024, 7, 26)
CALLS = [("add", {"a": 1, "b": 2}), ("multiply", {"numbers": [3, 4.5]})]
MASK_TAG = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")
PROBE = [{"role": "user", "content": "?"}]


@dataclass
class Native:
    """The calls of another family, by its own template.

    Args:
        tools: schemas of the student's tools; arguments written as text are read by them.
        stops: ids of the tokens that end a turn.
        template: the chat template that renders earlier turns as they were written: the student's
            own, or TRL's variant of it for training.
        parallel: whether a turn can hold several calls; else trajectories of such turns are written
            as turns of one call each.
    """

    tokenizer: Any
    tools: Sequence[Mapping[str, Any]] = ()
    stops: tuple[int, ...] = ()
    template: str | None = None
    parallel: bool = True

    @cached_property
    def name(self) -> str:
        """TRL's name of the template; "own" where the student brings another."""
        from trl import chat_template_utils

        folder = Path(chat_template_utils.__file__).parent / "chat_templates"
        known = {plain_template(f.read_text(encoding="utf-8")): f.stem
                 for f in sorted(folder.glob("*.jinja"))}
        return known.get(plain_template(self.tokenizer.chat_template), "own")

    options = {"strftime_now": DAY.strftime}

    def render(self, messages: Sequence[Mapping[str, Any]], prompt: bool = False,
               tools: Any = None) -> str:
        return self.tokenizer.apply_chat_template(
            list(messages), tools=tools, add_generation_prompt=prompt, tokenize=False,
            chat_template=self.template, **self.options)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]], tools: Any) -> list[int]:
        return self.encode(self.render(messages, prompt=True, tools=tools))

    def read(self, ids: Sequence[int], prefix: Sequence[int]) -> str:
        return self.read_text(self.tokenizer.decode(ids), self.tokenizer.decode(prefix))

    def read_text(self, text: str, prefix: str) -> str:
        """The kit's form of a turn. One that the parser refuses is a malformed call."""
        try:
            message = type(self.tokenizer).parse_response(
                self.tokenizer, text, prefix=prefix, tools=list(self.tools))
            calls = [c["function"] for c in message.get("tool_calls") or []]
            spoken = {"content": self._content(message), "tool_calls": [
                {"name": str(c["name"]), "arguments": c.get("arguments") or {}} for c in calls]}
            return render_turn(spoken)
        except (ValueError, KeyError, TypeError, RecursionError):
            return f"<tool_call>\n{escape_chat_markup(self._without_end(text))}\n</tool_call>"

    def _content(self, message: Mapping[str, Any]) -> str:
        thoughts, content = (escape_chat_markup(self._without_end(message.get(name) or ""))
                             for name in (self.thoughts, "content"))
        return f"<think>\n{thoughts}\n</think>\n\n{content}" if thoughts else content

    @cached_property
    def thoughts(self) -> str:
        """How its messages name reasoning."""
        fields = self.tokenizer.response_template.get("fields", {})
        return "thinking" if "thinking" in fields else "reasoning_content"

    def _without_end(self, text: str) -> str:
        for end in self.tokenizer.convert_ids_to_tokens(list(self.stops)):
            text = text.removesuffix(end)
        return text.strip()

    def following_ids(self, turn: Turn) -> list[int]:
        """As TRL makes them: what a dummy conversation grows by."""
        if turn.user is not None:
            said = [{"role": "user", "content": turn.user}]
            turns = [*PROBE, {"role": "assistant", "content": "?"}]
        else:
            said = [{"role": "tool", "name": c.name, "content": c.observation.content}
                    for c in turn.calls if c.executed]
            turns = [*PROBE, assistant("", [(said[0]["name"], {})])]
        before = self.encode(self.render(turns))
        ends = [n for n, i in enumerate(before) if i in self.stops]
        return self.encode(self.render([*turns, *said], prompt=True))[ends[-1] + 1:]

    def write(self, turn: Turn) -> str:
        """A turn of a trajectory in the student's own format, with its end token.

        Raises:
            UserError: the format cannot say it.
        """
        thoughts = "".join(THOUGHT_RE.findall(turn.text)).removeprefix("<think>")
        thoughts = thoughts.removesuffix("</think>").strip()
        content = THOUGHT_RE.sub("", turn.without_calls).strip()
        message = assistant(content, [(c.name, c.arguments) for c in turn.runnable_calls])
        spoken = [message | {self.thoughts: thoughts}] if thoughts else []
        header, reason = self.render(PROBE, prompt=True), "the template does not write it"
        for form in [*spoken, message]:
            try:
                text = self.render([*PROBE, form]).rstrip()
            except TemplateError as error:
                reason = str(error)
                continue
            # a header that opens thoughts ends with a newline, which empty thoughts may lack
            begun = header if text.startswith(header) else header.rstrip()
            written = text[len(begun):]
            if text.startswith(begun) and self._says(written, header, turn):
                return written
        raise UserError(f"A turn cannot be written in the student's {self.name} format ({reason}): "
                        f"{turn.text[:120]!r}. {OURS}")

    def _says(self, text: str, header: str, turn: Turn) -> bool:
        """Whether this text is read as that turn: its calls, or its answer."""
        read = Turn(self.read_text(text, header))
        if turn.calls:
            return [(c.name, c.arguments) for c in read.calls] == \
                [(c.name, c.arguments) for c in turn.calls]
        return not read.calls and THOUGHT_RE.sub("", read.text).strip() == \
            THOUGHT_RE.sub("", turn.text).strip()

    def pieces(self, trajectory: Trajectory) -> Iterator[tuple[list[int], int]]:
        for turn in trajectory.turns:
            for part in [turn] if self.parallel else single_calls(turn):
                text = self.write(part)
                if part.finish not in ("eos", "max_turns"):
                    text = self._without_end(text)
                yield self.encode(text), 1
                if part.env_response:
                    yield self.following_ids(part), 0

    def trajectory(self, ids: Sequence[int], messages: Sequence[Mapping[str, Any]], problem_id: str,
                   **kwargs: Any) -> Trajectory:
        turns: list[Turn] = []
        results: list[str] = []
        for message in messages:
            if message["role"] == "tool":
                results.append(message["content"])
                continue
            if results:
                turns[-1] = replace(turns[-1], env_response=render_environment(results))
            turns.append(Turn(message["content"]))
            results = []
        if results:  # they fill the budget: nothing is left for another turn
            turns[-1] = replace(turns[-1], env_response=render_environment(results))
            turns.append(Turn(""))
        ended = bool(ids) and ids[-1] in self.stops
        turns[-1] = last_turn(turns[-1].text, ended)
        return Trajectory(problem_id, tuple(turns), meta=self.facts(ids), **kwargs)

    def facts(self, ids: Sequence[int]) -> dict[str, Any]:
        return {"call_format": self.name, "ids": list(ids)}


def plain_template(template: str) -> str:
    """A template with plain blocks for the tag of training's masks, which only transformers
    knows."""
    return MASK_TAG.sub(lambda m: f"{{%{m[1]} {'endif' if m[2] else 'if true'} {m[3]}%}}", template)


def assistant(content: str, calls: Sequence[tuple[str | None, Any]] = ()) -> dict[str, Any]:
    """A chat message; `calls` are names and arguments."""
    called = [{"type": "function", "function": {"name": name, "arguments": arguments}}
              for name, arguments in calls]
    message = {"role": "assistant", "content": content}
    return message | {"tool_calls": called} if called else message


def single_calls(turn: Turn) -> list[Turn]:
    """A turn with several calls as turns of one call each, the results with their calls."""
    if len(turn.runnable_calls) < 2:
        return [turn]
    parts, text = [], turn.without_calls.strip()
    for call in turn.calls:
        spoken = {"content": text, "tool_calls": [{"name": call.name, "arguments": call.arguments}]}
        results = [call.observation.content] if call.observation else []
        parts.append(Turn(render_turn(spoken), "eos", render_environment(results) if results
                          else ""))
        if not results:  # it was not executed, and nothing can follow it
            break
        text = ""
    return parts


def training_template(tokenizer: Any) -> str | None:
    """TRL's variant of a template that renders earlier turns otherwise when more follow; None where
    the student's own is right."""
    from trl.chat_template_utils import (
        get_training_chat_template,
        is_chat_template_prefix_preserving,
        supports_tool_calling,
    )

    if not supports_tool_calling(tokenizer):
        raise UserError("The student's chat template does not render tool calls and their results: "
                        f"use a student that was trained on tools. {OURS}")
    if is_chat_template_prefix_preserving(tokenizer):
        return None
    try:
        return get_training_chat_template(tokenizer)
    except ValueError as error:
        raise UserError("The student's chat template changes earlier turns when results follow, "
                        f"and TRL has no variant for training. {OURS}") from error


def end_of_turn(found: Native, message: Mapping[str, Any]) -> int:
    last = found.encode(found.render([*PROBE, message]).rstrip())[-1]
    if last not in found.tokenizer.get_added_vocab().values():
        raise UserError("The student's chat template does not end turns with a token of the "
                        f"vocabulary (but with {found.tokenizer.decode([last])!r}). {OURS}")
    return last
