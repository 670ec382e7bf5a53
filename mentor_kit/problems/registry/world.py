"""The registry's people, their relations, and the tools that look them up.

    load_toolbox("registry").execute("boss", {"person": "Anna"}).content     # another person
    load_toolbox("registry").execute("room", {"person": "Anna"}).content     # a number

The table is drawn once, from a seed that is a constant here: a tool then depends on nothing but its
argument, and the toolbox's name says all of it in every process. Relations are permutations
without fixed points, so chains lead everywhere equally often; no two people share a number under
any attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from random import Random
from typing import Any

import yaml

from mentor_kit.core.toolbox import Toolbox, error_observation
from mentor_kit.errors import ToolError

TABLE_SEED = 20251018
UNKNOWN = "Unknown person."
UNSEEN_PAIRS = 0.25  # of the pairs of seen tools that follow each other: in no reference
DATA: Mapping[str, Any] = yaml.safe_load(
    (files("mentor_kit.problems.registry") / "registry.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Kinds:
    """Names of one kind: those that references show, and those held out."""

    seen: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        return self.seen + self.held_out


def _kinds(kind: str) -> Kinds:
    """Tool names of the relations or attributes: each one's first word."""
    seen, held_out = (tuple(words[0] for words in DATA[kind][part]) for part in ("seen",
                                                                                 "held_out"))
    return Kinds(seen, held_out)


ENTITIES = Kinds(tuple(DATA["entities"]["seen"]), tuple(DATA["entities"]["held_out"]))
RELATIONS, ATTRIBUTES = _kinds("relations"), _kinds("attributes")
# tool -> its three words
WORDS: dict[str, tuple[str, ...]] = {
    words[0]: tuple(words) for kind in ("relations", "attributes")
    for part in ("seen", "held_out") for words in DATA[kind][part]}


def _table() -> dict[str, dict[str, str]]:
    """Tool -> person -> what it gives."""
    rng, people = Random(TABLE_SEED), ENTITIES.all
    table = {}
    for relation in RELATIONS.all:
        others = list(people)
        while any(a == b for a, b in zip(people, others, strict=True)):
            rng.shuffle(others)
        table[relation] = dict(zip(people, others, strict=True))
    numbers = [str(n) for n in rng.sample(range(*DATA["numbers"]),
                                          len(people) * len(ATTRIBUTES.all))]
    for attribute in ATTRIBUTES.all:
        table[attribute] = {person: numbers.pop() for person in people}
    return table


TABLE = _table()


def _unseen_pairs() -> frozenset[tuple[str, str]]:
    """Pairs of seen tools, one called on the other's result, that no reference holds."""
    pairs = [(a, b) for a in RELATIONS.seen for b in RELATIONS.seen + ATTRIBUTES.seen if a != b]
    return frozenset(Random(TABLE_SEED + 1).sample(pairs, round(UNSEEN_PAIRS * len(pairs))))


UNSEEN = _unseen_pairs()


def follow(start: str, chain: tuple[str, ...]) -> list[str]:
    """What each call of a chain gives, the first one called on `start`."""
    path = [start]
    for tool in chain:
        path.append(TABLE[tool][path[-1]])
    return path[1:]


def has_unseen_pair(chain: tuple[str, ...]) -> bool:
    return any(pair in UNSEEN for pair in pairwise(chain))


def _tool(name: str) -> Callable[[str], str]:
    def look_up(person: str) -> str:
        if person not in TABLE[name]:
            raise ToolError(UNKNOWN)
        return TABLE[name][person]

    look_up.__name__ = name
    look_up.__doc__ = f"The {name} of a person."
    return look_up


# of calls and questions: the embedded student's tokenizer keeps each in one piece
VOCABULARY = (*ENTITIES.all, *(word for words in WORDS.values() for word in words),
              *map(str, range(*DATA["numbers"])), error_observation(UNKNOWN).content,
              *dict.fromkeys(form[part] for form in DATA["forms"].values()
                             for part in ("opening", "link", "start", "closing")))
REGISTRY = Toolbox("registry", [_tool(name) for name in RELATIONS.all + ATTRIBUTES.all],
                   words=VOCABULARY)
