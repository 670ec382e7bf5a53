"""A problem: a question with its accepted answers, where it comes from and which tools it may
use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.errors import UserError

# follows the question in the released prompt
INSTRUCTION = "Put the final answer in \\boxed{}."

# splits to learn from; all others are to be evaluated
LEARNT_FROM = ("pretrain", "train", "validation")


@dataclass(frozen=True)
class Problem:
    """One question and what is needed to ask it, answer it and judge the answer.

    Args:
        id: stable and unique within a study, e.g. `gsm_symbolic/12/train/00007`.
        question: the text shown to teacher and student.
        answers: accepted final answers (any one may match); never empty.
        source: name of the problem source, e.g. `gsm_symbolic`.
        split: `train`, or the evaluation split it belongs to.
        toolbox: name of the toolbox it is solved with (see `mentor_kit.core.toolbox.load_toolbox`).
        meta: JSON-able facts of the source (template id, worked solution, ...).

    Raises:
        UserError: for an empty id, question or answer list.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    source: str
    split: str
    toolbox: str = "arithmetic"
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "answers", tuple(str(a) for a in self.answers))
        for name in ("id", "question", "answers"):
            if not getattr(self, name):
                raise UserError(f"Problem {self.id!r} has an empty {name!r}: every problem needs "
                                "one.")


def prompt_messages(question: str) -> list[dict[str, str]]:
    """The prompt of teachers, training and evaluation alike: the question and the instruction of
    the released code."""
    return [{"role": "user", "content": f"{question}\n{INSTRUCTION}"}]


def sample_indices(problems: Sequence[Problem]) -> list[int]:
    """For each problem of a list how often it stood before it: 0, 0, 1 for a, b, a."""
    before: Counter[str] = Counter()
    indices = []
    for problem in problems:
        indices.append(before[problem.id])
        before[problem.id] += 1
    return indices


def check_splits(source: str, sizes: Mapping[str, int], splits: Collection[str]) -> None:
    """Raise UserError where a source is asked for a split that it does not have."""
    unknown = [s for s in sizes if s not in splits]
    if unknown:
        raise UserError(f"{source} has no split {unknown[0]!r}: use some of {', '.join(splits)}.")


def check_drawn(source: str, sizes: Mapping[str, int], splits: Collection[str], seed: int) -> None:
    """Raise UserError where a source that draws its problems cannot draw these."""
    check_splits(source, sizes, splits)
    if seed < 0 or any(n < 0 for n in sizes.values()):
        raise UserError(f"{source}: seed {seed} and sizes {dict(sizes)} must not be negative.")


def seeded(*key: int) -> Random:
    """Random numbers that hang on these numbers alone, on any machine. The items of a source have
    a key each, so a smaller split is a prefix of a larger one."""
    import numpy as np

    return Random(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


def known_tools(problem: Problem) -> tuple[str, ...]:
    """Names of the tools a problem may use, for rewards and metrics alike.

    Those named in `meta["tools"]`; else those it brings along, from the start
    (`meta["tool_schemas"]`) or with what the user says later (`meta["later_turns"]`); else its
    toolbox's.

    Raises:
        UserError: the toolbox does not exist.
    """
    if (names := problem.meta.get("tools")) is not None:
        return tuple(names)
    if (own := problem.meta.get("tool_schemas")) is None:
        return _toolbox_names(problem.toolbox)
    later = [tool for turn in problem.meta.get("later_turns", ()) for tool in turn["tools"]]
    return tuple(schema["function"]["name"] for schema in [*own, *later])


@cache
def _toolbox_names(spec: str) -> tuple[str, ...]:
    return load_toolbox(spec).names
