"""Demonstrations for the registry's cold start: of a student that knows every word, but half.

    recipe = stages("mid", steps=1400)                        # three of them, see STAGES
    shown = demonstrate(record, Random(0), LEVELS["mid"])     # often with a wrong answer

Unlike the habits of `mentor_kit.teachers.imperfect`, these cost answers: that is what leaves
reinforcement learning something to find. One dial, `LEVELS`, says how often:

| habit | chance of each | what the demonstration does |
|---|---|---|
| `wrong_tool` | call | calls a tool's sibling, always the same one |
| `reversed` | chain | calls the relations in the wrong order, where there are several |
| `short` | chain | leaves out the last relation, where there is one |
| `invented` | call | calls a tool by another of its words; an error comes back (see below) |
| `repeated` | call | makes the call twice |
| `extra` | chain | adds a relation before the last call |

Where a problem changes entries (`mentor_kit.problems.registry.changes`), each chain of look-ups is
demonstrated so, on an attempt's own table; of a change, `wrong_tool` and `invented` concern the
entry.

After an invented name half of the demonstrations call the tool by its name. The others go on with
what they have, and guess a number where that was the last call.

The rates of the levels and the three stages are those of an exploration in which sampling was
usable only after a middle stage that shows every habit. The stages' shares are for batches of 16:
the embedded student learns which call comes next late and at once, after some 600 to 1,000 clean
steps, and the habits within 100. `repeated` and `extra` are our choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple

import numpy as np

from mentor_kit.core.chat_markup import render_call, render_environment
from mentor_kit.core.environment import make_environment
from mentor_kit.core.records import Record
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.problems.registry.world import ATTRIBUTES, DATA, RELATIONS, WORDS
from mentor_kit.teachers.worked_solution import DONE

MAX_TURNS = 8


@dataclass(frozen=True)
class Habits:
    """How often each habit shows; see the module's table."""

    wrong_tool: float = 0.0
    reversed: float = 0.0
    short: float = 0.0
    invented: float = 0.0
    repeated: float = 0.05
    extra: float = 0.05


class Part(NamedTuple):
    """One stage of the recipe: a share of `demonstrations` has habits, the others are clean."""

    steps: int
    share: float
    habits: Habits


LEVELS = {"easy": Habits(0.20, 0.25, 0.10, 0.20), "mid": Habits(0.45, 0.50, 0.30, 0.40),
          "hard": Habits(0.65, 0.70, 0.40, 0.60), "vhard": Habits(0.85, 0.85, 0.50, 0.70)}
CLEAN = "clean"
# clean; 60% with habits, whatever the level, so that the sampler meets all of them; the level's
STEPS = (1000, 250, 150)
SHARES = (0.0, 0.6, 1.0)
SIBLINGS = {tool: names[(i + 1) % len(names)]
            for names in (RELATIONS.seen, RELATIONS.held_out, ATTRIBUTES.all)
            for i, tool in enumerate(names)}


def stages(level: str, steps: int) -> list[Part]:
    """The recipe's three stages, scaled to so many optimizer steps; level `clean` is the first one
    alone, which makes a student that is right everywhere: the white-box teacher of others.

    Raises:
        UserError: for an unknown level.
    """
    if level == CLEAN:
        return [Part(steps, 0.0, Habits())]
    if level not in LEVELS:
        raise UserError(f"cold_start_level={level!r} is unknown: use one of {CLEAN}, "
                        f"{', '.join(LEVELS)}.")
    ends = [round(steps * sum(STEPS[:n]) / sum(STEPS)) for n in range(len(STEPS) + 1)]
    habits = (Habits(), LEVELS["hard"], LEVELS[level])
    return [Part(after - before, *rest) for before, after, *rest in
            zip(ends, ends[1:], SHARES, habits, strict=False)]


def curriculum(records: Sequence[Record], level: str, steps: int,
               seed: int) -> list[tuple[list[Record], int]]:
    """The demonstrations of each stage and its optimizer steps, from clean trajectories."""
    parts = []
    for number, part in enumerate(stages(level, steps)):
        seeds = np.random.SeedSequence([seed, 0x4A1F, number]).generate_state(len(records),
                                                                            np.uint64)
        shown = [_shown(record, Random(int(s)), part) for record, s in zip(records, seeds,
                                                                           strict=True)]
        parts.append((shown, part.steps))
    return parts


def _shown(record: Record, rng: Random, part: Part) -> Record:
    return demonstrate(record, rng, part.habits) if rng.random() < part.share else record


def demonstrate(record: Record, rng: Random, habits: Habits) -> Record:
    """A registry problem's trajectory with these habits, every call executed.

    `meta["habits"]` names those that showed, in order; producer `<producer>+habits`.
    """
    maker = _Demonstration(record, rng, habits)
    trajectory = record.trajectory
    made = Trajectory(record.problem.id, tuple(maker.turns()), f"{trajectory.producer}+habits",
                      trajectory.sample, {**trajectory.meta, "habits": maker.used})
    return replace(record, trajectory=made)


class _Demonstration:
    """The turns of one demonstration under way: `at` is what the next call is made on, `found` what
    each call of the problem's program gave, or what the demonstration has in its place."""

    def __init__(self, record: Record, rng: Random, habits: Habits) -> None:
        self.rng, self.habits, self.used = rng, habits, []
        meta, environment = record.problem.meta, make_environment(record.problem)
        self.environment, self.program = environment, meta["program"]
        self.toolbox = environment.toolbox if environment else load_toolbox(record.problem.toolbox)
        self.words = dict(zip(_named(self.program), meta["words"], strict=True))
        self.ends = list(accumulate(meta.get("calls_per_message", [len(self.program)])))
        self.limit = environment.max_turns if environment else MAX_TURNS
        self.left = len(self.program) + len(self.ends)  # turns that are still to come, at least
        self.at, self.made, self.found = "", 0, {}

    def _shows(self, habit: str) -> bool:
        shown = self.rng.random() < getattr(self.habits, habit)
        self.used += [habit] * shown
        return shown

    def _chain(self, chain: list[str]) -> list[str]:
        relations = [tool for tool in chain if tool in RELATIONS.all]
        if len(relations) > 1 and self._shows("reversed"):
            relations.reverse()
        if relations and self._shows("short"):
            relations.pop()
        if self._shows("extra"):
            relations.append(self.rng.choice(RELATIONS.all))
        return [*relations, *(tool for tool in chain if tool in ATTRIBUTES.all)]

    def turns(self) -> Iterator[Turn]:
        first = 0
        for end in self.ends:
            while first < end:
                last = self._last_of_chain(first, end)
                step = self.program[first]
                self.left -= last + 1 - first
                if step["tool"] in WORDS:
                    self.at = step["arguments"]["person"]
                    yield from self._look_up([s["tool"] for s in self.program[first:last + 1]])
                    self.found[last] = self.at
                else:
                    yield from self._change(step)
                first = last + 1
            self.left -= 1
            if end < self.ends[-1]:
                yield self.environment.answered(DONE)
        yield Turn(f"The answer is \\boxed{{{self.at}}}.")

    def _last_of_chain(self, first: int, end: int) -> int:
        """The last call from this one on that is made on the result of the call before it."""
        last = first
        while last + 1 < end and self.program[last + 1]["arguments"]["person"] == {"result": last} \
                and self.program[last + 1]["tool"] in WORDS:
            last += 1
        return last

    def _look_up(self, chain: list[str]) -> Iterator[Turn]:
        chain = self._chain(chain)
        spare = self.limit - self.made - self.left - len(chain)
        for position, tool in enumerate(chain):
            if self._shows("wrong_tool"):
                tool = SIBLINGS[tool]
            if self._shows("invented"):
                yield self._call(self._invented_name(tool))
                if spare < 1 or self.rng.random() < 0.5:
                    if position == len(chain) - 1 and tool in ATTRIBUTES.all:
                        self.at = str(self.rng.randrange(*DATA["numbers"]))
                    continue
                spare -= 1
            asked = self.at
            yield self._call(tool)
            if spare > 0 and self._shows("repeated"):
                spare -= 1
                yield self._call(tool, asked)

    def _change(self, step: Mapping[str, Any]) -> Iterator[Turn]:
        """A call that writes: of the entry's sibling, or by a name of the entry that the tool does
        not know."""
        given = {name: self.found[value["result"]] if isinstance(value, Mapping) else value
                 for name, value in step["arguments"].items()}
        entry = SIBLINGS[given["entry"]] if self._shows("wrong_tool") else given["entry"]
        if self._shows("invented"):
            yield self._carried_out(step["tool"], given | {"entry": self._invented_name(entry)})
            if self.rng.random() < 0.5:
                return
        yield self._carried_out(step["tool"], given | {"entry": entry})

    def _invented_name(self, tool: str) -> str:
        word = self.words.get(tool, tool)
        return word if word != tool else self.rng.choice(WORDS[tool][1:])

    def _call(self, tool: str, person: str | None = None) -> Turn:
        turn = self._carried_out(tool, {"person": person or self.at})
        if self.observation.ok:
            self.at = self.observation.content
        return turn

    def _carried_out(self, tool: str, arguments: Mapping[str, Any]) -> Turn:
        self.observation, self.made = self.toolbox.execute(tool, arguments), self.made + 1
        return Turn(render_call(tool, arguments), "eos",
                    render_environment([self.observation.content]))


def _named(program: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each call names by one of its three words: the tool, or the entry that it changes."""
    return [step["arguments"].get("entry", step["tool"]) for step in program]
