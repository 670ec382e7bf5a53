"""The registry with a desk at which entries are changed: problems that write before they read.

    problems = load(seed=0, sizes={"pretrain": 6000, "train": 64, "in_domain": 128})

"Make the doctor of Emma the boss of Anna. What is the room of the boss of the friend of Theo?" asks
to look up Emma's doctor, to `assign` that person as Anna's boss, and then to look up a chain that
leads over the changed entry: who does not change it, or changes it wrongly, gets another number.
In half of the problems the question comes as the user's next message, once the change is made. Each
attempt has a table of its own (`RegistryDesk`), and is right when the table has exactly the changes
that were asked for *and* the box holds the number.

| split | what it asks |
|---|---|
| `pretrain` | everything below: all people, all entries changed, one change or two |
| `train`, `validation`, `in_domain` | one change, of an entry in `CHANGED`; people that are seen |
| `longer` | one look-up more in what is assigned and in the question |
| `unseen_change` | a change of an entry that no reference changes, only looks up |
| `second_change` | a second change, by a message of its own; the question comes with a third |

The hash of the first change, with the look-ups that it takes, says to which split a problem may
belong, whatever the seed: no two splits share a change, let alone a problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any

from mentor_kit.core.environment import OWN, StatefulTools
from mentor_kit.core.problem import Problem, check_drawn, seeded
from mentor_kit.core.toolbox import error_observation
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import ToolError, UserError
from mentor_kit.problems.registry.source import SEEN_WORDS, TRIES
from mentor_kit.problems.registry.world import (
    ATTRIBUTES,
    DATA,
    ENTITIES,
    RELATIONS,
    TABLE,
    UNKNOWN,
    VOCABULARY,
    WORDS,
    follow,
)

# split -> its share of the first changes, in sixteenths
SHARES = {"pretrain": range(8), "train": (8, 9), "validation": (10,), "in_domain": (11, 12),
          "longer": (13,), "unseen_change": (14,), "second_change": (15,)}
SPLITS = tuple(SHARES)
CHANGED = ("boss", "friend", "teacher", "doctor", "room")  # by references and in domain
UNCHANGED = ("partner", "cousin", "phone")
ASSIGN, SAVED = "assign", "Saved."
UNKNOWN_ENTRY, UNKNOWN_VALUE = "Unknown entry.", "Unknown value."
MAKE, GIVE, THE, OF, ASK = "Make ", "Give ", " the ", " of ", "What is the "
# tool -> what it gives -> of whom
BEFORE = {tool: {b: a for a, b in TABLE[tool].items()} for tool in RELATIONS.all}


class RegistryDesk(StatefulTools):
    """The registry's look-ups and `assign`, over a table that an attempt has for itself."""

    max_turns = 24
    words = (*VOCABULARY, MAKE, GIVE, THE, MAKE.rstrip() + THE, GIVE.rstrip() + THE, ". ", SAVED,
             *(error_observation(text).content for text in (UNKNOWN_ENTRY, UNKNOWN_VALUE)))

    def reset(self, problem: Problem) -> None:
        self.changes: dict[tuple[str, str], str] = {}  # (entry, person) -> value, where it differs
        self.wanted = {(entry, who): value for who, entry, value in problem.meta["changes"]}

    def assign(self, person: str, entry: str, value: str) -> str:
        """Change an entry of a person to another person or number."""
        if person not in ENTITIES.all:
            raise ToolError(UNKNOWN)
        if entry not in TABLE:
            raise ToolError(UNKNOWN_ENTRY)
        fits = value in ENTITIES.all if entry in RELATIONS.all else \
            value in map(str, range(*DATA["numbers"]))
        if not fits:
            raise ToolError(UNKNOWN_VALUE)
        self.changes[entry, person] = value
        if TABLE[entry][person] == value:
            del self.changes[entry, person]
        return SAVED

    def verdict(self, trajectory: Trajectory) -> tuple[bool, str]:
        """Whether the calls that were carried out leave the table as it was asked for."""
        for call in trajectory.calls:
            if call.executed:
                self.toolbox.execute(call.name, call.arguments)
        return self.changes == self.wanted, "state"


def _look_up(name: str) -> Callable[[RegistryDesk, str], str]:
    def look_up(self: RegistryDesk, person: str) -> str:
        if person not in TABLE[name]:
            raise ToolError(UNKNOWN)
        return self.changes.get((name, person), TABLE[name][person])

    look_up.__name__ = name
    look_up.__doc__ = f"The {name} of a person."
    return look_up


for _name in RELATIONS.all + ATTRIBUTES.all:
    setattr(RegistryDesk, _name, _look_up(_name))
FACTS = RegistryDesk.facts() | {"environment": "registry_changes"}


@dataclass
class Draft:
    """A problem under way: its calls so far, the words that they are asked by, and the changes that
    the calls have made ((entry, person) -> value, where it differs)."""

    rng: Random
    people: tuple[str, ...]
    program: list[dict[str, Any]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    changes: dict[tuple[str, str], str] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)

    def word(self, tool: str) -> str:
        return WORDS[tool][self.rng.randrange(SEEN_WORDS)]

    def relations(self, number: int) -> list[str]:
        """Seen relations, none twice in a row."""
        found: list[str] = []
        while len(found) < number:
            tool = self.rng.choice(RELATIONS.seen)
            if tool not in found[-1:]:
                found.append(tool)
        return found

    def look_up(self, start: str, chain: list[str]) -> tuple[str, str, Any]:
        """Add the calls of a chain. Returns how it is asked for (`the boss of the cousin of Anna`),
        what it gives, and how a later call names that."""
        phrase, at, given = start, start, start
        for number, tool in enumerate(chain):
            self.met.add(at)
            self.program.append({"tool": tool, "arguments": {"person": given}})
            self.words.append(self.word(tool))
            phrase = f"{self.words[-1]}{OF}{'the ' if number else ''}{phrase}"
            at = self.changes.get((tool, at), TABLE[tool][at])
            given = {"result": len(self.program) - 1}
        return ("the " if chain else "") + phrase, at, given

    def change(self, entry: str, longer: bool) -> tuple[str, str]:
        """Add a change of this entry. Returns the message that asks for it, and whose it is."""
        people = [self.rng.choice(self.people) for _ in range(2)]
        attribute = [entry] if entry in ATTRIBUTES.all else []
        whose, person, target = self.look_up(people[0], self.relations(self.rng.randrange(2)))
        length = self.rng.randrange(2) if attribute else 1
        chain = [*self.relations(length + longer), *attribute]
        what, value, assigned = self.look_up(people[1], chain)
        self.met |= {person, value} & set(ENTITIES.all)
        self.program.append({"tool": ASSIGN, "arguments": {"person": target, "entry": entry,
                                                           "value": assigned}})
        self.words.append(self.word(entry))
        if attribute:
            self.words[-2] = self.words[-1]  # it is named once
            source = what.split(OF, 1)[1]
            message = f"{GIVE}{whose}{THE}{self.words[-1]}{OF}{source}."
        else:
            message = f"{MAKE}{what}{THE}{self.words[-1]}{OF}{whose}."
        self.changes[entry, person] = value
        if TABLE[entry][person] == value:
            del self.changes[entry, person]
        return message, person

    def question(self, entry: str, person: str, longer: bool) -> tuple[str, str, bool]:
        """Add a chain over the changed entry of this person. Returns the question, its answer, and
        whether that hangs on the change."""
        before = self.relations(self.rng.randrange(2) + longer)
        after = [] if entry in ATTRIBUTES.all else [
            *self.relations(self.rng.randrange(2)), self.rng.choice(ATTRIBUTES.seen)]
        start = person
        for tool in reversed(before):
            start = BEFORE[tool][start]
        chain = [*before, entry, *after]
        phrase, answer, _ = self.look_up(start, chain)
        return f"{ASK}{phrase.removeprefix('the ')}?", answer, answer != follow(start, chain)[-1]


def load(seed: int, sizes: Mapping[str, int]) -> list[Problem]:
    """Problems that change the registry and ask for what follows, in the splits asked for.

    Args:
        seed: non-negative; the same seed gives the same problems on any machine (a smaller size is
            a prefix of a larger one).
        sizes: split name (see `SPLITS`) -> number of problems.

    Returns:
        Problems in the order of `sizes`, with an environment of their own. `meta` holds `program`
        (calls; an argument may be `{"result": k}`, the result of the k-th), `calls_per_message`,
        `words` (one a call), `changes` ([person, entry, value], how the table ends), `later_turns`.
        The answer is the last call's number.

    Raises:
        UserError: for an unknown split, a bad size or seed, or a split that has no more problems.
    """
    check_drawn("registry_changes", sizes, SPLITS, seed)
    return [p for split, n in sizes.items() for p in _split(seed, split, n)]


def _split(seed: int, split: str, size: int) -> list[Problem]:
    asked, problems = set(), []
    for i in range(size):
        rng = seeded(seed, 0xDE5C, SPLITS.index(split), i)
        for _ in range(TRIES):
            problem = _draw(rng, split, f"registry_changes/{seed}/{split}/{i:05d}")
            if problem and problem.question not in asked:
                break
        else:
            raise UserError(f"registry_changes: no new problem found for split {split!r} after "
                            f"{len(asked)}; ask for fewer.")
        asked.add(problem.question)
        problems.append(problem)
    return problems


def _draw(rng: Random, split: str, name: str) -> Problem | None:
    """A problem that may belong to a split; None where it does not."""
    broad = split == "pretrain"
    draft = Draft(rng, ENTITIES.all if broad else ENTITIES.seen)
    longer = split == "longer" or broad and rng.random() < 0.3
    twice = split == "second_change" or broad and rng.random() < 0.3
    entries = {"pretrain": CHANGED + UNCHANGED, "unseen_change": UNCHANGED}.get(split, CHANGED)
    messages, ends = [], []
    for _ in range(1 + twice):
        entry = rng.choice(entries)
        message, person = draft.change(entry, longer)
        messages.append(message)
        ends.append(len(draft.program))
    first = sha256(repr(draft.program[:ends[0]]).encode()).digest()[0] % 16
    if first not in SHARES[split]:
        return None
    question, answer, hangs = draft.question(entry, person, longer)
    if twice or rng.random() < 0.5:
        messages.append(question)
        ends.append(len(draft.program))
    else:
        messages[-1] += f" {question}"
        ends[-1] = len(draft.program)
    fits = hangs and len(draft.changes) == 1 + twice
    fits &= broad or draft.met <= set(ENTITIES.seen)
    if not fits:
        return None
    meta = {**FACTS, "program": draft.program, "words": draft.words,
            "calls_per_message": [b - a for a, b in zip([0, *ends], ends, strict=False)],
            "changes": [[who, entry, value] for (entry, who), value in draft.changes.items()],
            "later_turns": [{"message": m, "tools": []} for m in messages[1:]]}
    return Problem(name, messages[0], (answer,), "registry_changes", split, OWN, meta)
