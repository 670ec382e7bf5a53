"""Irrelevant sentences with a number, as in GSM-NoOp: twelve families, four of them never seen in
training.

The sentences avoid words that ground constants (week, hour, percent, half, ...; see
`teachers.grounding`), and their number differs from every number of the question, so a student that
uses it is wrong for that reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from mentor_kit.problems.worked.grounding import grounded_numbers

SEEN: dict[str, tuple[str, ...]] = {
    "windows": ("The house next door has {n} windows.", "{name}'s house has {n} windows."),
    "bus": ("Bus number {n} stops nearby.", "{name} takes bus number {n}."),
    "steps": ("The stairs outside have {n} steps.", "{name} counts {n} steps on the stairs."),
    "photos": ("{name} took {n} photos of the sunset.", "There are {n} photos on the wall."),
    "birds": ("A flock of {n} birds flies by.", "{name} saw {n} birds on the roof."),
    "radio": ("The radio plays {n} songs in a row.", "{name} knows {n} songs by heart."),
    "road": ("The nearest town is {n} kilometers away.",
             "{name} lives {n} kilometers from the sea."),
    "neighbor": ("The neighbor has {n} roses.", "{name}'s neighbor has {n} roses."),
}
UNSEEN: dict[str, tuple[str, ...]] = {
    "parking": ("The parking lot has room for {n} cars.", "{name} parked on spot number {n}."),
    "weather": ("It is {n} degrees outside.", "The weather report says it will be {n} degrees."),
    "shirt": ("{name} wears a shirt with the number {n}.",
              "The shirt on the shelf has the number {n}."),
    "book": ("A book on the table has {n} chapters.", "{name} has read {n} chapters of a novel."),
}
FAMILIES = {"seen": SEEN, "unseen": UNSEEN}
NAMES = ("Grace", "Henry", "Nora", "Oscar", "Ruth", "Simon", "Tessa", "Victor")
POSITIONS = ("front", "before_last")
SENTENCE_END_RE = re.compile(r"(?<!\bMr)(?<!\bMs)(?<!\bDr)(?<!\bMrs)(?<=[.!?])\s+(?=[A-Z])")


@dataclass(frozen=True)
class Distractor:
    """A question with one irrelevant sentence, the family of that sentence and where it was put."""

    question: str
    family: str
    position: str


def add_distractor(question: str, rng: Random, kind: str = "seen", avoid: str = "") -> Distractor:
    """Insert one irrelevant sentence in front of the question or before its last sentence.

    Args:
        question: the plain question.
        rng: draws family, wording, name, number (2 to 99) and position.
        kind: `seen` or `unseen` families.
        avoid: a text whose numbers the distractor's number must not equal either, e.g. the answer.
    """
    family = rng.choice(sorted(FAMILIES[kind]))
    taken = grounded_numbers(question) | grounded_numbers(avoid)
    number = rng.choice([n for n in range(2, 100) if n not in taken])
    sentence = rng.choice(FAMILIES[kind][family]).format(n=number, name=rng.choice(NAMES))
    position = rng.choice(POSITIONS)
    parts = SENTENCE_END_RE.split(question)
    at = 0 if position == "front" else len(parts) - 1
    if at == 0:
        return Distractor(f"{sentence} {question}", family, "front")
    last = question.rindex(parts[-1])
    return Distractor(f"{question[:last]}{sentence} {question[last:]}", family, position)
