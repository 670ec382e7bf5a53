"""One assistant turn: its exact text, the calls that it writes, and what became of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from mentor_kit.core.toolbox import Observation

Finish = Literal["eos", "length", "max_turns", "error"]  # how a trajectory's last turn ended
FINISHES = ("eos", "length", "max_turns", "error")
CALL_RE = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
# A call, or thoughts (closed or not), in which a call is only a draft
THOUGHT_RE = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
CALL_OR_THOUGHT_RE = re.compile(f"{THOUGHT_RE.pattern}|{CALL_RE.pattern}", re.DOTALL)
RESPONSE_RE = re.compile(r"<tool_response>\n?(.*?)\n?</tool_response>", re.DOTALL)
THINK_RE = re.compile(r"</?think>")
USER_RE = re.compile(
    r"\s*<\|im_start\|>user\n(?!<tool_response>)(.*)<\|im_end\|>\s*<\|im_start\|>assistant\n",
    re.DOTALL,
)
# how an error begins: ours and TRL's; BFCL's tools, BFCL's executor
ERROR_PREFIXES = ("{'error':", '{"error":', "Error during execution:")


def _until_last(end: str, text: str) -> str:
    """The text up to its last `end`. Beyond it no opened mark is closed, and searching there for
    the end of each (a model that repeats one mark for ever) would take quadratic time."""
    return text[:text.rfind(end) + len(end)] if end in text else ""


@dataclass(frozen=True)
class ToolCall:
    """One `<tool_call>` as written, and what became of it.

    `name` is None for malformed calls (no JSON object with a text under "name"); `observation` is
    None for calls that were never executed.
    """

    text: str
    name: str | None
    arguments: Any
    observation: Observation | None = None

    @property
    def written_name(self) -> Any:
        """What stands under "name", a text or not; None where nothing does."""
        data = None if self.name is not None else _json_object(self.text)
        return data.get("name") if data else self.name

    @property
    def executed(self) -> bool:
        return self.observation is not None

    @property
    def ok(self) -> bool:
        return self.observation is not None and self.observation.ok


@dataclass(frozen=True)
class Turn:
    """One assistant turn: its exact text without the end token, how it finished, and the exact text
    of the environment that follows it (tool results or the user's next message, with chat markup;
    empty on the last turn)."""

    text: str
    finish: Finish = "eos"
    env_response: str = ""

    @cached_property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls in order, malformed ones included; those inside `<think>` are drafts and not
        calls."""
        found = CALL_OR_THOUGHT_RE.finditer(_until_last("</tool_call>", self.text))
        written = [_parse_call(m[1]) for m in found if m[1] is not None]
        results = [Observation(r, ok=not r.startswith(ERROR_PREFIXES))
                   for r in RESPONSE_RE.findall(_until_last("</tool_response>", self.env_response))]
        wellformed = [c for c in written if c.name is not None]
        targets = wellformed if len(results) <= len(wellformed) else written
        done = {id(c): o for c, o in zip(targets, results, strict=False)}
        return tuple(replace(c, observation=done.get(id(c))) for c in written)

    @property
    def n_opened_calls(self) -> int:
        """How many calls it opens outside `<think>`, closed or not."""
        return THOUGHT_RE.sub("", self.text).count("<tool_call>")

    @property
    def runnable_calls(self) -> tuple[ToolCall, ...]:
        """What a rollout executes: every call, or none where one of them is malformed."""
        return self.calls if all(c.name is not None for c in self.calls) else ()

    @property
    def user(self) -> str | None:
        """The user's next message, where one follows this turn."""
        found = USER_RE.fullmatch(self.env_response)
        return found[1] if found else None

    @property
    def reasoning(self) -> str:
        """The text around the calls, without think tags."""
        return THINK_RE.sub("", self.without_calls).strip()

    @property
    def without_calls(self) -> str:
        closed = _until_last("</tool_call>", self.text)
        return (CALL_OR_THOUGHT_RE.sub(lambda m: m[0] if m[1] is None else "", closed)
                + self.text[len(closed) :])


def written_calls(text: str) -> tuple[ToolCall, ...]:
    """Every call of a text, drafts inside `<think>` included."""
    return tuple(_parse_call(m) for m in CALL_RE.findall(_until_last("</tool_call>", text)))


def _parse_call(text: str) -> ToolCall:
    data = _json_object(text)
    if data is None or not isinstance(data.get("name"), str):
        return ToolCall(text, None, None)
    return ToolCall(text, data["name"], data.get("arguments"))


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


