"""Metrics of several samples a problem: mean@k, pass@k, and the majority's answer."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import comb

import numpy as np

from mentor_kit.core.records import Record
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.metrics.trajectories import by_problem

# of answers that vote
FRACTION_RE = re.compile(r"\\[dt]?frac\{(-?\d+)\}\{(\d+)\}")
THOUSANDS_RE = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
NUMBER_RE = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})|[+-]?\d{1,30}/0*[1-9]\d{0,29}")
MATHEMATICS_RE = re.compile(r"[\d\\^_=+*/{}()\[\]|<>-]")


def mean_at_k(correct: Sequence[bool]) -> float:
    """Share of the k samples of one problem that are right."""
    return sum(map(bool, correct)) / len(correct)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased probability that at least one of k samples is right, from c right ones of n (Chen et
    al. 2021).

    Raises:
        UserError: unless 0 <= c <= n and 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise UserError(f"pass@{k} from {c} right of {n} samples: right must be 0 to samples, and "
                        "k 1 to samples.")
    return 1 - comb(n - c, k) / comb(n, k)


def maj_at_k(votes: Sequence[str | None], correct: Sequence[bool]) -> float:
    """Whether the answer that most samples of one problem give is right; 0 when none answered.

    Right samples are one answer, however it is written: each equals the accepted one. Wrong samples
    are compared by `vote`. A wrong sample that is None does not vote. Among tied answers the result
    is the share that is right, i.e. what a fair random choice gives on average; the order of the
    samples does not matter.
    """
    right = sum(map(bool, correct))
    wrong = Counter(v for v, ok in zip(votes, correct, strict=True) if not ok and v is not None)
    most = max([right, *wrong.values()], default=0)
    tied = [n for n in wrong.values() if n == most]
    return 1 / (1 + len(tied)) if right and right == most else 0.0


def vote(trajectory: Trajectory) -> str | None:
    """A judged answer in the form in which wrong samples are compared: a number by its value,
    mathematics without blanks, other text without case, articles and punctuation; where nothing is
    boxed, the calls. None for a sample without a judged answer (`meta["failure"]`)."""
    from mentor_kit.judging.judge import final_answer

    if trajectory.meta.get("failure"):
        return None
    answer = final_answer(trajectory)
    if not answer:
        return json.dumps([(c.name, c.arguments) for c in trajectory.calls], sort_keys=True)
    text = THOUSANDS_RE.sub("", FRACTION_RE.sub(r"\1/\2", answer)).strip(" $%")
    if NUMBER_RE.fullmatch(text):
        return str(Fraction(text))
    if MATHEMATICS_RE.search(text):
        return "".join(text.split())
    words = re.findall(r"\w+", text.casefold())
    return " ".join(w for w in words if w not in ("a", "an", "the")) or text


def sample_metrics(records: Iterable[Record]) -> dict[str, float]:
    """mean@k, pass@k and maj@k over problems, with k the number of samples of every problem.

    Raises:
        UserError: the problems do not all have the same number of samples.
    """
    samples = by_problem(records)
    sizes = {len(s) for s in samples.values()}
    if len(sizes) != 1:
        raise UserError(f"Problems with {sorted(sizes)} samples: every problem needs the same "
                        "number; ask them again.")
    k, rows = sizes.pop(), []
    for group in samples.values():
        right = [bool(r.trajectory.meta["correct"]) for r in group]
        votes = [vote(r.trajectory) for r in group]
        rows.append((mean_at_k(right), pass_at_k(k, sum(right), k), maj_at_k(votes, right)))
    means = np.mean(rows, axis=0).tolist()
    return {"k": k, **dict(zip(("mean_at_k", "pass_at_k", "maj_at_k"), means, strict=True))}
