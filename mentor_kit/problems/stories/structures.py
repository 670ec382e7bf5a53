"""What a story is made of: number slots, structures (program and phrasings), and the small
vocabulary.

A structure is one kind of story. Its program names tools of the arithmetic toolbox; an argument is
the name of a slot (a number that the question states in digits), the index of an earlier call (its
result), or a list of these. The tables are in `stories.yaml`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import yaml

NAMES = ("Mia", "Ben", "Ana", "Tom", "Lea", "Sam", "Eva", "Max", "Ida", "Leo", "Zoe", "Kim")
OBJECTS = ("apples", "pears", "nuts", "eggs", "cakes", "books", "pens", "cards", "stamps", "balls",
           "toys", "beads", "shells", "stones", "flowers", "cups", "plates", "keys", "bricks",
           "tiles")


@dataclass(frozen=True)
class Slot:
    """A number of the story and the range it is trained in.

    `whole`: low..high; `below`: minus that; `times`: a slot drawn before (`of`) times low..high;
    `square`: the square of low..high, divided by 100 ** `places`; `decimal`: between low and high
    with exactly `places` decimals; `keep`: like whole, but it does not grow in the split
    `bigger_numbers` (exponents, sides of a square, decimal places).
    """

    kind: Literal["whole", "below", "times", "square", "decimal", "keep"]
    low: int
    high: int
    of: str = ""
    places: int = 0

    def draw(self, rng: random.Random, drawn: Mapping[str, float], *, bigger: bool) -> int | float:
        """A number in the trained range, or with `bigger` from just above it to three times as
        far."""
        grows = bigger and self.kind != "keep"
        low, high = (self.high + 1, 3 * self.high) if grows else (self.low, self.high)
        if self.kind == "decimal":
            scale = 10**self.places
            return (rng.randrange(low * scale, high * scale, 10) + rng.randint(1, 9)) / scale
        n = rng.randint(low, high)
        if self.kind == "square":
            return n * n / 100**self.places if self.places else n * n
        return -n if self.kind == "below" else n * drawn.get(self.of, 1)


@dataclass(frozen=True)
class Structure:
    """One kind of story.

    Args:
        id: its name.
        slots: number name -> Slot, in drawing order.
        program: calls `(reason, tool, *arguments)` in order; see the module for what an argument
            is.
        phrasings: sentence templates used in training; `{n}`, `{m}` are names, `{o}` objects,
            `{places}` is "place" or "places" after `{d}`.
        others: templates kept for the split `other_phrasing`.
    """

    id: str
    slots: Mapping[str, Slot]
    program: tuple[tuple[Any, ...], ...]
    phrasings: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def n_calls(self) -> int:
        return len(self.program)

    def trained_limit(self, name: str) -> float:
        """The largest magnitude that the slot takes outside `bigger_numbers`."""
        slot = self.slots[name]
        if slot.kind == "times":
            return slot.high * self.trained_limit(slot.of)
        return slot.high**2 / 100**slot.places if slot.kind == "square" else slot.high

    def draw_numbers(self, rng: random.Random, *, bigger: bool) -> dict[str, int | float] | None:
        """Slot name -> number. None where `bigger` was asked and a growing slot stayed in its
        trained range."""
        drawn: dict[str, int | float] = {}
        for name, slot in self.slots.items():
            drawn[name] = slot.draw(rng, drawn, bigger=bigger)
            if bigger and slot.kind != "keep" and abs(drawn[name]) <= self.trained_limit(name):
                return None
        return drawn


def _structure(name: str, row: Mapping[str, Any]) -> Structure:
    slots = {}
    for slot, limits in row["slots"].items():
        (kind, (low, high)), *rest = limits.items()
        slots[slot] = Slot(kind, low, high, **dict(rest))
    return Structure(name, slots, tuple(map(tuple, row["program"])), tuple(row["phrasings"]),
                     tuple(row.get("others", ())))


TABLES = yaml.safe_load(
    (files("mentor_kit.problems.stories") / "stories.yaml").read_text(encoding="utf-8"))
TRAINED, CHAINS, UNSEEN = (tuple(_structure(*row) for row in TABLES[part].items())
                           for part in ("trained", "chains", "unseen"))
