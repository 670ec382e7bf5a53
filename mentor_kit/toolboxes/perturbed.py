"""Another toolbox, made harder: does a student use tools, or did it learn one list of them?

    load_toolbox("perturbed:renamed+distracting=3+failing=0.1:arithmetic")

| how | what changes |
|---|---|
| `renamed` | every tool is called `tool_1`, `tool_2`, ...; its description tells what it does |
| `described` | the same descriptions in more words |
| `undescribed` | a tool's description is its name |
| `reordered` | the tools come in another order |
| `distracting=N` | N tools more (5 unless given), which find nothing |
| `failing=P`, `slow=P` | of the calls a share P (0.2 unless given) is refused, or is too late |
| `empty=P`, `wrong=P` | of the results a share P is empty, or another one |
| `seed=N` | draws another order, and other calls |

Which calls are hit depends on the seed, the tool and the arguments only: the same call fares the
same in every engine and at every time. Nobody waits for a slow one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from mentor_kit.core.tool import Tool
from mentor_kit.core.toolbox import Toolbox, load_toolbox
from mentor_kit.errors import ToolError, UserError, did_you_mean

FLAGS = ("renamed", "described", "undescribed", "reordered")
FAULTS = ("failing", "slow", "empty", "wrong")
NUMBERS = {"distracting": 5, "seed": 0}
SHARE = 0.2  # of calls, unless given
LATE = 10  # seconds that a slow call is said to have had


def read_perturbation(how: str) -> dict[str, float]:
    """What `renamed+failing=0.3` asks for, by name.

    Raises:
        UserError: an unknown name, or a number that cannot be.
    """
    found: dict[str, float] = {}
    for part in how.split("+"):
        name, equals, number = (p.strip() for p in part.partition("="))
        if name in found:
            raise UserError(f"Perturbation {how!r} names {name!r} twice.")
        if name in FLAGS and not equals:
            found[name] = 1
        elif name in NUMBERS and (number.isdecimal() or not equals):
            found[name] = int(number or NUMBERS[name])
        elif name in FAULTS and (not equals or re.fullmatch(r"0?\.\d+|1(\.0*)?", number)):
            found[name] = float(number or SHARE)
        elif name in (*FLAGS, *FAULTS, *NUMBERS):
            raise UserError(f"Perturbation {part!r} is not understood: {name} takes "
                            + ("nothing." if name in FLAGS else
                               "a share up to 1." if name in FAULTS else "a whole number."))
        else:
            raise UserError(f"Unknown perturbation {name!r}"
                            f"{did_you_mean(name, (*FLAGS, *FAULTS, *NUMBERS))}")
    if sum(found.get(name, 0) for name in FAULTS) > 1:
        raise UserError(f"Perturbation {how!r} hits more calls than there are: its shares add up "
                        "to more than 1.")
    if found.get("distracting", 0) > len(DISTRACTORS):
        raise UserError(f"Perturbation {how!r}: there are {len(DISTRACTORS)} distracting tools.")
    return found


def keeps_names(how: str) -> bool:
    """Whether calls under a perturbation can be compared with a teacher's by name."""
    return "renamed" not in read_perturbation(how)


def keeps_results(how: str) -> bool:
    """Whether the teacher's calls give under a perturbation what they gave the teacher."""
    return keeps_names(how) and not any(name in FAULTS for name in read_perturbation(how))


def perturbed_spec(how: str, toolbox: str) -> str:
    """The name of a perturbed toolbox."""
    return f"perturbed:{how}:{toolbox}"


def perturb(what: str) -> Toolbox:
    """The toolbox of `HOW:TOOLBOX`.

    Raises:
        UserError: either cannot be had.
    """
    how, _, spec = what.partition(":")
    asked, box = read_perturbation(how), load_toolbox(spec)
    draw = Random(f"{asked.get('seed', 0)} {spec}")
    numbers = list(range(1, len(box.tools) + 1))
    draw.shuffle(numbers)
    tools: list[Tool] = []
    for number, tool in zip(numbers, box.tools.values(), strict=True):
        name = f"tool_{number}" if "renamed" in asked else tool.name
        told = tool.schema["function"]["description"]
        if "described" in asked:
            told = f"This function may be called whenever it is needed. What it does: {told}"
        tools.append(PerturbedTool(tool.function, tool.given, tool, name,
                                   name if "undescribed" in asked else told, asked))
    distracting = [tool for tool in DISTRACTORS if tool.name not in box.tools]
    tools += draw.sample(distracting, min(int(asked.get("distracting", 0)), len(distracting)))
    if "reordered" in asked:
        draw.shuffle(tools)
    return Toolbox(perturbed_spec(how, spec), tools, box.words, box.waits)


@dataclass(frozen=True)
class PerturbedTool(Tool):
    """A tool under another name and description, some of whose calls go wrong."""

    inner: Tool = None
    shown: str = ""
    description: str = ""
    asked: Mapping[str, float] = None

    @property
    def name(self) -> str:
        return self.shown

    @property
    def schema(self) -> dict[str, Any]:
        function = {**self.inner.schema["function"], "name": self.shown,
                    "description": self.description}
        return {"type": "function", "function": function}

    def call(self, arguments: Any) -> str:
        """The result of a call, perturbed; a call that fails by itself fails as it does."""
        try:
            result = self.inner.call(arguments)
        except ToolError as error:
            raise ToolError(re.sub(rf"^{re.escape(self.inner.name)}(?=[:.])", self.shown,
                                   str(error))) from None
        key = json.dumps([self.asked.get("seed", 0), self.inner.name, arguments], sort_keys=True,
                         default=str)
        draw = Random(hashlib.sha256(key.encode()).hexdigest())
        fault, share = draw.random(), 0.0
        for name in FAULTS:
            share += self.asked.get(name, 0)
            if fault < share:
                return FAULT[name](self.shown, result, draw)
        return result


def _failing(name: str, result: str, draw: Random) -> str:
    raise ToolError(f"{name}: the service is not available.")


def _slow(name: str, result: str, draw: Random) -> str:
    raise ToolError(f"{name}: no answer within {LATE} seconds.")


def _empty(name: str, result: str, draw: Random) -> str:
    return ""


def _wrong(name: str, result: str, draw: Random) -> str:
    """One digit is another; a text without digits has its letters in another order."""
    digits = [m.start() for m in re.finditer(r"[0-9]", result)]
    if digits:
        place = draw.choice(digits)
        other = draw.choice([d for d in "123456789" if d != result[place]])
        return result[:place] + other + result[place + 1:]
    return "".join(draw.sample(result, len(result)))


FAULT: dict[str, Callable[[str, str, Random], str]] = {
    "failing": _failing, "slow": _slow, "empty": _empty, "wrong": _wrong}


# --- tools that are of no use ---------------------------------------------------------------------
def find_nothing(**_: Any) -> str:
    return "Nothing found."


# name: description, and the JSON types of the arguments
USELESS = {
    "get_weather": ("The weather in a city today.", {"city": "string"}),
    "convert_currency": ("An amount of money in another currency.",
                         {"amount": "number", "source": "string", "target": "string"}),
    "translate": ("A text in another language.", {"text": "string", "language": "string"}),
    "send_email": ("Send an e-mail.", {"address": "string", "text": "string"}),
    "find_flights": ("Flights between two cities.", {"start": "string", "end": "string"}),
    "set_reminder": ("Remind of something in some minutes.",
                     {"text": "string", "minutes": "integer"}),
    "stock_price": ("The price of a company's share.", {"company": "string"}),
    "play_music": ("Play a piece of music.", {"title": "string"}),
    "find_recipe": ("A recipe with an ingredient.", {"ingredient": "string"}),
    "word_count": ("How many words a text has.", {"text": "string"}),
    "distance_between": ("The distance between two places.", {"start": "string", "end": "string"}),
    "random_fact": ("A fact about a subject.", {"subject": "string"}),
}
DISTRACTORS = [
    Tool(find_nothing, {"name": name, "description": told, "parameters": {
        "type": "object", "properties": {n: {"type": kind} for n, kind in arguments.items()},
        "required": list(arguments)}})
    for name, (told, arguments) in USELESS.items()]
