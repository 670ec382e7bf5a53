"""How a student writes turns: its call format, read and rendered by the template it was trained
with.

Whatever a student writes, a Trajectory holds it in the kit's one form, ChatML turns with Hermes
calls:

    <|channel|>analysis<|message|>1 + 2<|end|>       a gpt-oss student's turn
    <|start|>assistant to=functions.add<|channel|>
    commentary json<|message|>{"a": 1}<|call|>

    <think>                                          the same turn in a Trajectory
    1 + 2
    </think>

    <tool_call>
    {"name": "add", "arguments": {"a": 1}}
    </tool_call>

`Hermes` students write that form themselves, so their text is kept as it is. Of a `Native` student
the trajectory also keeps the token ids (`meta["ids"]`): text cannot be made of it again. It is read
by the tokenizer's `response_template` and rendered by its chat template. Both come with the student
or from TRL (`trl.chat_template_utils`), which knows the templates of many families.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mentor_kit.core.chat_markup import (
    ASSISTANT,
    EOS,
    render_turn,
)
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.students.native_format import (
    CALLS,
    PROBE,
    Native,
    assistant,
    end_of_turn,
    training_template,
)
from mentor_kit.students.turns import decode_completion


@dataclass
class Hermes:
    """ChatML turns with calls as JSON in `<tool_call>`: Qwen2.5, Qwen3, SmolLM2, the kit's
    student."""

    tokenizer: Any
    name = "hermes"
    options = {}  # what every rendering of the chat template is given

    @cached_property
    def stops(self) -> tuple[int, ...]:
        """Ids of the tokens that end a turn."""
        return (self.tokenizer.eos_token_id,)

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]], tools: Any) -> list[int]:
        """Token ids up to and including the assistant header."""
        return self.tokenizer.apply_chat_template(
            list(messages), tools=tools, add_generation_prompt=True, tokenize=True,
            return_dict=False)

    def read(self, ids: Sequence[int], prefix: Sequence[int]) -> str:
        """The text of a turn, without its end token.

        Args:
            ids: of the turn; prefix: of all that stands before it.
        """
        return self.tokenizer.decode(ids[:-1] if ids and ids[-1] in self.stops else ids)

    def following_ids(self, turn: Turn) -> list[int]:
        """Token ids of what follows a turn: tool results, or the user's next message, and the next
        assistant header."""
        return self.tokenizer(turn.env_response, add_special_tokens=False)["input_ids"]

    def pieces(self, trajectory: Trajectory) -> Iterator[tuple[list[int], int]]:
        """Token ids of a trajectory, piece by piece, and whether the assistant wrote them."""
        texts = []
        for turn in trajectory.turns:
            ended = turn.finish in ("eos", "max_turns")
            texts += [turn.text + (EOS if ended else ""), turn.env_response]
        encoded = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        yield from ((ids, 1 - number % 2) for number, ids in enumerate(encoded))

    def trajectory(self, ids: Sequence[int], messages: Sequence[Mapping[str, Any]], problem_id: str,
                   **kwargs: Any) -> Trajectory:
        """The trajectory of a completion that TRL sampled: its ids, and the messages it read."""
        return decode_completion(self.tokenizer, ids, problem_id, **kwargs)

    def facts(self, ids: Sequence[int]) -> dict[str, Any]:
        """What a trajectory keeps besides its text."""
        return {}


CallFormat = Hermes | Native


def call_format(tokenizer: Any, tools: Sequence[Mapping[str, Any]] = (),
                stops: Sequence[int] = ()) -> CallFormat:
    """The format of a tokenizer's chat template, tried on a call and an answer.

    Args:
        stops: ids that end a turn besides those of the template (a checkpoint's generation
            config names them).

    Raises:
        UserError: tools cannot be rendered, read back or continued in it.
    """
    if tokenizer.eos_token == EOS and writes_hermes(tokenizer):
        return Hermes(tokenizer)
    found = Native(tokenizer, tools, template=training_template(tokenizer))
    turns = [assistant("", CALLS[:1]), assistant("The answer is \\boxed{3}.")]
    ends = [end_of_turn(found, turn) for turn in turns]
    found.stops = tuple(dict.fromkeys([*ends, tokenizer.eos_token_id, *stops]))
    for turn in turns:  # refused where it cannot be read back
        found.write(Turn(render_turn(turn)))
    try:
        found.write(Turn(render_turn(assistant("", CALLS))))
    except UserError:
        found.parallel = False
    return found


def writes_hermes(tokenizer: Any) -> bool:
    """Whether turns are ChatML and calls JSON in `<tool_call>`."""
    header = tokenizer.apply_chat_template(PROBE, add_generation_prompt=True, tokenize=False)
    call = tokenizer.apply_chat_template([*PROBE, assistant("", CALLS[:1])], tokenize=False)
    return header.endswith(ASSISTANT) and '<tool_call>\n{"name": "add"' in call
