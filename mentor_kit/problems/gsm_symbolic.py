"""GSM-Symbolic word problems, made by the templates of `reasoning-gym` (Apache-2.0).

The templates are called directly, one random generator an item, so the same seed makes the same
problems on any machine and an item does not depend on how many others are asked for. Splits cannot
share a question, whatever the sizes and even when they are made by separate calls: the hash of the
plain question says whether it may be used for training, validation, evaluation, or for `pretrain`
and `teacher_rejected` (which share no template).

Of the 100 templates 85 are active (reasoning-gym marks 15 as broken).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any

import numpy as np

from mentor_kit.core.problem import Problem, check_splits
from mentor_kit.errors import UserError
from mentor_kit.problems import normalise_question
from mentor_kit.problems.distractors import add_distractor
from mentor_kit.problems.worked.calls import work_out

SPLITS = ("train", "validation", "in_domain", "distractor_seen", "distractor_unseen",
          "held_out_templates",
          "longer_solutions", "teacher_rejected", "pretrain")
# of 10; others: 7, 8
SIDES = {"train": range(6), "validation": range(6, 7), "pretrain": range(9, 10),
         "teacher_rejected": range(9, 10)}
MAX_DRAWS = 400  # of one template for one item, before the next template is tried
MIN_YIELD = 0.9
PROBE_ITEMS = 100  # per template

# : Tool calls of each template whose worked solutions the teacher turns into accepted trajectories
# at least nine
# : times in ten (the most seen where the number varies); `probe()` derives this table, and a test
# compares.
CALLS: dict[int, int] = {
    0: 4, 1: 2, 3: 5, 5: 2, 6: 2, 7: 4, 8: 3, 9: 5, 10: 2, 11: 7, 12: 3, 13: 3, 14: 2, 15: 4, 16: 2,
    17: 5,
    18: 3, 19: 5, 20: 2, 21: 3, 22: 6, 23: 2, 24: 2, 25: 4, 26: 2, 28: 5, 29: 4, 30: 4, 31: 3,
    33: 3, 34: 3, 36: 9,
    38: 2, 39: 2, 40: 5, 41: 3, 42: 6, 43: 2, 44: 4, 45: 2, 46: 4, 47: 3, 48: 3, 50: 2, 51: 4,
    52: 4, 54: 2, 55: 2,
    56: 2, 57: 3, 58: 2, 59: 2, 62: 3, 64: 4, 67: 3, 68: 6, 69: 3, 71: 4, 72: 3, 73: 7, 78: 3,
    80: 4, 81: 3, 83: 2,
    84: 5, 85: 4, 88: 3, 89: 6, 91: 3, 92: 7, 93: 3, 94: 5, 95: 2, 96: 5, 99: 2}

# : Templates with at least one rejected item in twenty, by the same probe: the source of
# `teacher_rejected`.
OFTEN_REJECTED: tuple[int, ...] = (2, 4, 27, 49, 53, 60, 66, 70, 75, 82, 99)


@dataclass(frozen=True)
class Templates:
    """Which templates serve which splits."""

    seen: tuple[int, ...]
    held_out: tuple[int, ...]
    longer: tuple[int, ...]


def choose_templates(max_calls: int = 3, held_out: int = 10, template_subset: str = "short",
                     longest: int = 4) -> Templates:
    """The fixed rule: of the short templates in numerical order, every (n // held_out)-th is held
    out.

    Short: at most `max_calls` calls and a teacher yield of 90% (`CALLS`). With
    `template_subset="all"` every active template that is not held out is seen, and none is longer.
    """
    short = [t for t in sorted(CALLS) if CALLS[t] <= max_calls]
    if template_subset not in ("short", "all"):
        raise UserError(f"template_subset={template_subset!r} is unknown: use 'short' or 'all'.")
    if not 0 < held_out < len(short):
        raise UserError(f"held_out={held_out} is impossible with {len(short)} templates of at most "
                        f"{max_calls} calls: choose a smaller held_out or a larger max_calls.")
    out = tuple(short[:: len(short) // held_out][:held_out])
    if template_subset == "all":
        return Templates(tuple(t for t in active_templates() if t not in out), out, ())
    longer = tuple(t for t in sorted(CALLS) if max_calls < CALLS[t] <= longest)
    return Templates(tuple(t for t in short if t not in out), out, longer)


def load(
    seed: int,
    sizes: Mapping[str, int],
    *,
    max_calls: int = 3,
    held_out: int = 10,
    distractor_share: float = 0.5,
    template_subset: str = "short",
    longest: int = 4,
) -> list[Problem]:
    """GSM-Symbolic problems of the asked splits.

    Args:
        seed: whole number >= 0.
        sizes: split name (see `SPLITS`) -> number of items. `train` and `validation` are the raw
            mix: items that the teacher rejects are among them, and collection drops those with a
            reason. `pretrain` is broad: templates of every other split, both families of
            distractors; a cold start trains on it where it is asked for.
        max_calls: tool calls of the longest template trained on; longer ones are the split
            `longer_solutions`.
        held_out: number of short templates that are never trained on.
        distractor_share: share of `train`, `validation` and `pretrain` items with an irrelevant
            sentence (of a seen family; in `pretrain` of either).
        longest: calls of the longest item of `longer_solutions`; 4 and the answer are the paper's
            five turns.
        template_subset: `short`, or `all` to train on every active template.

    Returns:
        Problems in the order of `SPLITS`; `meta` holds `template`, `worked_solution`, `n_calls`
        (None where the teacher's yield is low), `distractor` (family or None), `position`, and
        `reason` for rejected ones.

    Raises:
        UserError: for an unknown split, a size that cannot be reached or a bad option.
    """
    check_splits("gsm_symbolic", sizes, SPLITS)
    if not 0 <= distractor_share <= 1:
        raise UserError(f"distractor_share={distractor_share} is not a share: give a number from 0 "
                        "to 1.")
    templates = choose_templates(max_calls, held_out, template_subset, longest)
    return [p for split in SPLITS if sizes.get(split)
            for p in _split(seed, split, int(sizes[split]), templates, distractor_share)]


def _split(seed: int, split: str, size: int, templates: Templates,
           distractor_share: float) -> list[Problem]:
    pool = {"held_out_templates": templates.held_out, "longer_solutions": templates.longer,
            "teacher_rejected": OFTEN_REJECTED,
            "pretrain": tuple(t for pool in (templates.seen, templates.held_out, templates.longer)
                              for t in pool if t not in OFTEN_REJECTED)}.get(split, templates.seen)
    if not pool:
        raise UserError(f"No template is left for {split!r}: use template_subset='short' or a "
                        "smaller max_calls.")
    share = dict.fromkeys(("train", "validation", "pretrain"), distractor_share) | dict.fromkeys(
        ("distractor_seen", "distractor_unseen"), 1.0)
    seen: set[str] = set()
    return [_item(seed, split, i, pool, share.get(split, 0.0), seen) for i in range(size)]


def _item(seed: int, split: str, i: int, pool: tuple[int, ...], share: float,
          seen: set[str]) -> Problem:
    """The i-th item of a split: templates in turn, drawn again until the question is new and on the
    split's side."""
    words = np.random.SeedSequence([seed, SPLITS.index(split), i]).generate_state(4)
    rng = Random(sum(int(w) << 32 * k for k, w in enumerate(words)))
    broad = split == "pretrain"
    kind = "unseen" if split == "distractor_unseen" or broad and rng.random() < 0.5 else "seen"
    name = f"gsm_symbolic/{seed}/{split}/{i:05d}"
    # the i-th template (in turn) first: every template gets the same share of a split
    turned = pool[i % len(pool):] + pool[:i % len(pool)]
    for problem in _draws(rng, name, split, turned, kind if rng.random() < share else None):
        question = normalise_question(problem.question)
        if question not in seen and (split != "teacher_rejected" or "reason" in problem.meta):
            seen.add(question)
            return problem
    raise UserError(
        f"gsm_symbolic cannot make {i + 1} different items of {split!r}: ask for fewer."
    )


def _draws(rng: Random, name: str, split: str, pool: tuple[int, ...],
           kind: str | None) -> Iterator[Problem]:
    """Candidates for one item."""
    for template in pool:
        for _ in range(MAX_DRAWS):
            example = generators()[template](rng)
            if on_side(example["question"], split):
                problem = _problem(example, template, name, split, rng, kind)
                yield _with_reason(problem) if split == "teacher_rejected" else problem


def _problem(example: dict[str, Any], template: int, name: str, split: str, rng: Random,
             kind: str | None) -> Problem:
    question, solution = example["question"].strip(), example["metadata"]["answer_cot"]
    meta = {"template": template, "worked_solution": solution, "n_calls": CALLS.get(template),
            "distractor": None,
            "position": None}
    if kind is not None:
        added = add_distractor(question, rng, kind, avoid=f"{solution} {example['answer']}")
        question, meta["distractor"], meta["position"] = (added.question, added.family,
                                                          added.position)
    return Problem(name, question, (example["answer"],), "gsm_symbolic", split, meta=meta)


def _with_reason(problem: Problem) -> Problem:
    _, reason = work_out(problem)
    return problem if reason == "accepted" else replace(problem,
                                                        meta={**problem.meta, "reason": reason})


def on_side(question: str, split: str) -> bool:
    """Whether the hash of a plain question lets the split use it."""
    digest = hashlib.sha256(normalise_question(question).encode()).digest()
    return int.from_bytes(digest[:8]) % 10 in SIDES.get(split, range(7, 9))


@cache
def generators() -> dict[int, Any]:
    """Template number -> function of a random generator, as reasoning-gym ships them (difficulty
    1)."""
    from reasoning_gym.arithmetic.gsm_symbolic import generators_00_49, generators_50_99

    found = {}
    for module in (generators_00_49, generators_50_99):
        found |= {int(n.removeprefix("generate_")): getattr(module, n) for n in dir(module)
                  if n.startswith("generate_")}
    return found


@cache
def active_templates() -> tuple[int, ...]:
    """The 85 templates that reasoning-gym marks as right."""
    from reasoning_gym.arithmetic.gsm_symbolic.gsm_symbolic import tasks_ok

    return tuple(tasks_ok)


def probe(items: int = PROBE_ITEMS) -> dict[int, tuple[float, int]]:
    """Template -> (share of items the worked-solution teacher accepts, most calls of an accepted
    item).

    `CALLS` holds the templates with a share of at least `MIN_YIELD`.
    """
    found = {}
    for template in active_templates():
        rng = Random(template)
        problems = [_problem(generators()[template](rng), template, "probe", "probe", rng, None)
                    for _ in range(items)]
        accepted = [calls for calls, reason in map(work_out, problems) if reason == "accepted"]
        found[template] = len(accepted) / items, max(map(len, accepted), default=0)
    return found
