"""Questions over the registry: each names a chain of look-ups that ends in a number.

    problems = load(seed=0, sizes={"pretrain": 8000, "train": 64, "in_domain": 128})

"What is the room of the boss of the cousin of Anna?" takes three calls, from the inside out. Which
word stands for which tool, in which order to call and when to stop is all there is to learn.
References (`train`) are narrow, the pretraining is broad: what the out-of-domain splits ask, a
student has seen before fine-tuning, and only there.

| split | what it asks |
|---|---|
| `pretrain` | everything below: 1 to 6 calls, all words, forms, tools, people, facts in front |
| `train`, `validation`, `in_domain` | `hops` calls, one form, seen tools, people, pairs, words |
| `longer` | one or two calls more than the longest of `hops` |
| `unseen_pairs` | a tool called on the result of another that no reference calls it on |
| `phrasing` | the other two forms |
| `synonyms` | each tool by its third word |
| `one_new_tool`, `new_tools` | exactly one of the four tools that no reference uses; only those |
| `new_entities` | about a person that no reference meets |
| `distractor` | an irrelevant fact in front |

A question's program (whom it starts from, and its tools) belongs to training, to validation or to
the evaluation by its hash, whatever the seed, so no evaluated question is ever trained on, in other
words either. In domain, nothing on the way is new: neither people nor pairs of tools.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any

from mentor_kit.core.problem import Problem, check_drawn, seeded
from mentor_kit.errors import UserError
from mentor_kit.problems.registry.world import (
    ATTRIBUTES,
    DATA,
    ENTITIES,
    RELATIONS,
    TABLE,
    WORDS,
    follow,
    has_unseen_pair,
)

SPLITS = ("pretrain", "train", "validation", "in_domain", "longer", "unseen_pairs", "phrasing",
          "synonyms", "one_new_tool", "new_tools", "new_entities", "distractor")
MOST_HOPS = 6
SEEN_WORDS = 2  # of each tool's three
TRIES = 20_000
# eighths of the programs, by hash: validation and evaluation; the rest is trained on
EIGHTHS = {"validation": (0,), "pretrain": (3, 4, 5, 6, 7), "train": (3, 4, 5, 6, 7)}
EVALUATED = (1, 2)


@dataclass(frozen=True)
class Draft:
    """A question before it is put into words: tools in the order of the calls."""

    start: str
    chain: tuple[str, ...]
    words: tuple[str, ...]
    form: str
    fact: str = ""

    @property
    def program(self) -> str:
        return f"{self.start}: {' '.join(self.chain)}"

    @property
    def question(self) -> str:
        form = DATA["forms"][self.form]
        inside_out = [self.start, *self.words]
        if form["inward"]:
            links = [form["link"]] * (len(self.words) - 1) + [form["start"]]
            parts = list(reversed(inside_out))
        else:
            links = [form["start"]] + [form["link"]] * (len(self.words) - 1)
            parts = inside_out
        chain = parts[0] + "".join(link + part for link, part in zip(links, parts[1:], strict=True))
        return f"{self.fact}{form['opening']}{chain}{form['closing']}"


def load(seed: int, sizes: Mapping[str, int], *, hops: str = "2-3",
         form: str = "A") -> list[Problem]:
    """Questions over the registry in the splits asked for.

    Args:
        seed: non-negative; the same seed gives the same questions on any machine, and a split does
            not depend on which others are asked for (a smaller size is a prefix of a larger one).
        sizes: split name (see `SPLITS`) -> number of questions.
        hops: calls that the narrow splits take, `fewest-most` (2-3, 3-4) or one number.
        form: in which the narrow splits ask: A (of the ... of), B ('s ... 's), C (then the).

    Returns:
        Problems in the order of `sizes`. `meta` holds `program` (calls, see
        `mentor_kit.problems.worked.calls`), `chain` (its tools), `words`, `form`, `n_calls`; that
        of training problems `shown_tools` (those that references may call). The answer is the last
        call's number.

    Raises:
        UserError: for an unknown split or form, a bad size, seed or range of hops, or a split that
            has no more questions.
    """
    check_drawn("registry", sizes, SPLITS, seed)
    if form not in DATA["forms"]:
        raise UserError(f"registry has no form {form!r}: use one of {', '.join(DATA['forms'])}.")
    lengths = read_hops(hops)
    return [p for split, n in sizes.items() for p in _split(seed, split, n, lengths, form)]


def read_hops(hops: str | int) -> tuple[int, int]:
    """The fewest and most calls of a narrow question.

    Raises:
        UserError: not a range within 1 to 4: `longer` needs up to two calls more, and six is all
            that the pretraining shows.
    """
    found = re.fullmatch(r"([1-9])(?:-([1-9]))?", str(hops))
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= low <= high <= MOST_HOPS - 2:
        raise UserError(f"registry: hops={hops!r} is not a range of calls within 1 to "
                        f"{MOST_HOPS - 2}; write it as 2-3.")
    return low, high


def _split(seed: int, split: str, size: int, hops: tuple[int, int], form: str) -> list[Problem]:
    eighths, asked, problems = EIGHTHS.get(split, EVALUATED), set(), []
    for i in range(size):
        rng = seeded(seed, SPLITS.index(split), i)
        length = _length(rng, split, hops)  # fixed, so that no rule below favours short chains
        for _ in range(TRIES):
            draft = _draw(rng, split, length, form)
            if (draft and sha256(draft.program.encode()).digest()[0] % 8 in eighths
                    and draft.question not in asked):
                break
        else:
            raise UserError(f"registry: no new question found for split {split!r} after "
                            f"{len(asked)}; ask for fewer.")
        asked.add(draft.question)
        problems.append(_problem(draft, seed, split, i))
    return problems


def _length(rng: Random, split: str, hops: tuple[int, int]) -> int:
    if split == "pretrain":
        return rng.randint(1, MOST_HOPS)
    return hops[1] + rng.randint(1, 2) if split == "longer" else rng.randint(*hops)


def _draw(rng: Random, split: str, length: int, form: str) -> Draft | None:
    """A question of so many calls that may belong to a split; None where it does not."""
    broad = split == "pretrain"
    forms = [f for f in DATA["forms"] if broad or (f == form) != (split == "phrasing")]
    start = rng.choice(ENTITIES.all if broad else ENTITIES.held_out if split == "new_entities"
                       else ENTITIES.seen)
    chain = _chain(rng, split, length)
    path = [start, *follow(start, chain)]
    words = tuple(WORDS[tool][2 if split == "synonyms" else
                              rng.randrange(3 if broad else SEEN_WORDS)] for tool in chain)
    fact = ""
    if split == "distractor" or broad and rng.random() < 1 / len(forms):
        fact = _fact(rng, chain, path, ENTITIES.all if broad else ENTITIES.seen)
    draft = Draft(start, chain, words, rng.choice(forms), fact)
    if broad:
        return draft
    new = sum(tool in RELATIONS.held_out + ATTRIBUTES.held_out for tool in chain)
    fits = {"one_new_tool": new == 1, "new_tools": new == length}.get(split, new == 0)
    fits &= has_unseen_pair(chain) == (split == "unseen_pairs")
    fits &= split == "new_entities" or set(path[:-1]) <= set(ENTITIES.seen)
    return draft if fits else None


def _chain(rng: Random, split: str, length: int) -> tuple[str, ...]:
    """Relations, none twice in a row, and an attribute."""
    kinds = {"new_tools": ("held_out",), "one_new_tool": ("all",), "pretrain": ("all",)}
    part, = kinds.get(split, ("seen",))
    chain: list[str] = []
    while len(chain) < length - 1:
        relation = rng.choice(getattr(RELATIONS, part))
        if relation not in chain[-1:]:
            chain.append(relation)
    return (*chain, rng.choice(getattr(ATTRIBUTES, part)))


def _fact(rng: Random, chain: tuple[str, ...], path: list[str], people: tuple[str, ...]) -> str:
    """A true fact that no call of the chain gives."""
    calls = set(zip(chain, path, strict=False))
    free = [(tool, a) for tool in RELATIONS.seen for a in people
            if (tool, a) not in calls and TABLE[tool][a] in people]
    tool, person = rng.choice(free)
    word = WORDS[tool][rng.randrange(SEEN_WORDS)]
    return rng.choice(DATA["distractors"]).format(a=person, b=TABLE[tool][person], w=word)


def _problem(draft: Draft, seed: int, split: str, number: int) -> Problem:
    program: list[dict[str, Any]] = [
        {"tool": tool, "arguments": {"person": {"result": k - 1} if k else draft.start}}
        for k, tool in enumerate(draft.chain)]
    meta = {"program": program, "chain": list(draft.chain), "words": list(draft.words),
            "form": draft.form, "n_calls": len(draft.chain)}
    if split in ("train", "validation"):
        meta["shown_tools"] = [*RELATIONS.seen, *ATTRIBUTES.seen]
    return Problem(f"registry/{seed}/{split}/{number:05d}", draft.question,
                   (follow(draft.start, draft.chain)[-1],), "registry", split, "registry", meta)
