"""What an assistant turn asks for, and what becomes of it: the rules of every rollout.

- Token ids are joined and never encoded again.
- A turn whose calls cannot all be parsed ends the rollout (`Turn.runnable_calls`); a call inside
  `<think>` is a draft and not a call.
- At most `max_turns` assistant turns; the calls of the last one are not executed.
- All turns and tool results share one token budget. Results that pass it, or the model's last
  position, are dropped, and the rollout ends with the calls that asked for them.

The kit's engine (`mentor_kit.students.rollout`) follows them. Where TRL's tool loop samples in
training it reads turns by `turn_message` and executes the toolbox's functions, so they hold there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mentor_kit.core.chat_markup import EOS
from mentor_kit.core.toolbox import MAX_NAME, NOT_AN_OBJECT, Toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Finish, Turn


def execute_turn(toolbox: Toolbox, turn: Turn) -> list[str]:
    """Results of a turn's calls, in order; empty if there are none or one cannot be parsed."""
    return [toolbox.execute(c.name, c.arguments).content for c in turn.runnable_calls]


def last_turn(text: str, ended: bool) -> Turn:
    """A rollout's last turn, which nothing follows: calls in it were not executed."""
    finish: Finish = "eos" if ended else "length"
    return Turn(text, "max_turns" if ended and Turn(text).runnable_calls else finish)


def decode_completion(tokenizer: Any, ids: Sequence[int], problem_id: str, **kwargs: Any
                      ) -> Trajectory:
    """The trajectory of a completion sampled by TRL: its ids decoded, special tokens kept."""
    trajectory = Trajectory.from_text(tokenizer.decode(ids), problem_id, eos=EOS, **kwargs)
    *before, last = trajectory.turns
    return replace(trajectory, turns=(*before, last_turn(last.text, last.finish == "eos")))


def turn_message(text: str) -> dict[str, Any]:
    """An assistant turn as the chat message that TRL's tool loop reads; its content is the whole
    text."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls := Turn(text).runnable_calls:
        message["tool_calls"] = [{"type": "function", "function": _function(c.name, c.arguments)}
                                 for c in calls]
    return message


def _function(name: str, arguments: Any) -> dict[str, Any]:
    """TRL passes arguments by keyword; those that are not an object come under one name."""
    named = arguments if isinstance(arguments, dict | None) else {NOT_AN_OBJECT: arguments}
    return {"name": name[:MAX_NAME], "arguments": named}
