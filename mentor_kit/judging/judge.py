r"""The judge: is a final answer right? One function for rewards, validation, evaluation and
figures.

The verdict is that of the released code (PAPER: "Rewards"): Math-Verify's metric OR Math-Verify's
parse/verify OR MathRuler's grader; any gold may match; an error in one grader counts as no. What it
accepts, by example (prediction, gold, verdict; checked in tests/judging/test_judge.py):

| kind | yes | no |
|---|---|---|
| numbers | `18` = `18.0`, `1,234` = `1234`, `10^3` = `1000`, `100` = `1e2` | `17` / `-17` |
| decimals | `0.75` = `\frac{3}{4}`, `0.333333` = `1/3` | `0.333` / `1/3`, `3.14` / `\pi` |
| fractions | `\frac{2}{4}` = `\frac{1}{2}`, `1/3` = `\frac{1}{3}` | `\frac{5}{6}` / `\frac{9}{7}` |
| roots, polynomials | `2\sqrt{3}` = `\sqrt{12}`, `x^2+2x+1` = `(x+1)^2` | `\sqrt{3}` / `\sqrt{5}` |
| tuples, intervals | `(1,2)` = `(1,2)`, `[0,1]` = `[0,1]` | `(1,2)` / `(2,1)`, `[0,1]` / `(0,1)` |
| sets | `\{1,2\}` = `\{1,2\}` | `\{1,2\}` / `\{2,1\}` (as released) |
| units | `5\text{ cm}` = `5` | `5\text{ cm}` / `6` |
| percent | `50\%` = `50` | `50\%` / `51` |
| text | `yes` = `yes` | `yes` / `no` |

A second judge, `rules="strict"`, is for those who do not need the released one's scores: it reads
both sides whole (`mentor_kit.judging.strict`).

Plain numbers are compared here, exactly, where the graders' verdict is certain; everything else
goes to a worker process (`mentor_kit.judging.grading_process`) with limits on memory and CPU time.
There any text may be compared as a text; what SymPy would evaluate passes a character allow-list
and a length limit first. An answer that is refused or runs out of time is wrong *and counted by
name* (`Verdict.by`). Time limits count CPU time, so verdicts do not depend on how busy the machine
is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib.util import find_spec

from mentor_kit.core.chat_markup import EOS
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.judging.worker import PACKAGES, ask_graders

RULES = ("released", "strict")
SECONDS = 1.0  # CPU seconds a symbolic comparison may take
MAX_CHARACTERS = 10_000  # longer texts are not sent to the graders


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and who said so.

    `by` is `identical` or `exact` (decided in this process), `mathruler`, `math_verify`,
    `math_verify_metric` or `strict` (the first that said yes), `none` (no grader said yes),
    `no_answer`, `refused` (no grader said yes, and one was not allowed to evaluate the text) or
    `timeout`.
    """

    correct: bool
    by: str


def final_answer(answer: str | Trajectory) -> str | None:
    r"""The bare content of the last `\boxed{}`, or None when there is none, it is empty or it never
    closes.

    As the released code reads it: `\boxed x` (up to a dollar sign) wins over braces wherever it
    occurs; the *last* box counts even if it is broken; `\fbox{}` is not an answer. The end token is
    not part of an answer, and of a trajectory what tools and users say is not (ours).
    """
    if isinstance(answer, Trajectory):
        answer = EOS.join(turn.text for turn in answer.turns)
    text = answer.removesuffix(EOS)
    if "\\boxed " in text:
        content = text.rpartition("\\boxed ")[2].split("$")[0]
    else:
        content = _last_box(text)
    return content if content and content.strip() else None


def _last_box(text: str) -> str | None:
    """What stands between the braces that follow the last `\\boxed`."""
    start = text.rfind("\\boxed")
    if not text.startswith("\\boxed{", start):
        return None
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return text[start + len("\\boxed{"):match.start()]
    return None


def judge(prediction: str | None, answers: str | Sequence[str], rules: str = "released",
          seconds: float = SECONDS) -> Verdict:
    """Judge the bare content of a final answer against the accepted answers (any one may match).

    Cached and pure: the same arguments give the same verdict. May be called from any thread and
    after a fork.

    Args:
        prediction: what `final_answer` returned; None is wrong (`no_answer`).
        answers: one accepted answer or several, bare or in a box.
        rules: `released`, or `strict` (see `mentor_kit.judging.strict`).
        seconds: CPU seconds for a symbolic comparison.

    Raises:
        UserError: a grader package is not installed, or the worker cannot start. Never for what a
            model wrote.
    """
    require_graders()
    if rules not in RULES:
        raise UserError(f"The judge has no rules {rules!r}: use one of {', '.join(RULES)}.")
    golds = (answers,) if isinstance(answers, str) else tuple(str(a) for a in answers)
    if prediction is None or not prediction.strip():
        return Verdict(False, "no_answer")
    return _judge(prediction, golds, rules, float(seconds))


@lru_cache(maxsize=1)
def require_graders() -> None:
    """Fail at the start, not in the middle of a run, when a grader is missing: without it scores
    would change.

    Raises:
        UserError: naming the missing package and how to install it.
    """
    for module, pin in PACKAGES.items():
        if find_spec(module) is None:
            raise UserError(f"The judge needs the package {module!r}, which is not installed: pip "
                            f"install {pin}")


@lru_cache(maxsize=65_536)
def _judge(prediction: str, golds: tuple[str, ...], rules: str, seconds: float) -> Verdict:
    if any(prediction.strip() == gold.strip() for gold in golds):
        return Verdict(True, "identical")
    pairs = [(gold, unboxed(gold)) for gold in golds]
    quick = [_compare_numbers(prediction, bare, rules) for _, bare in pairs]
    if True in quick:
        return Verdict(True, "exact")
    open_pairs = [pair for pair, verdict in zip(pairs, quick, strict=True) if verdict is None]
    if not open_pairs:
        return Verdict(False, "exact")
    sent = [pair for pair in open_pairs if len(pair[0]) <= MAX_CHARACTERS]
    if not sent or len(prediction) > MAX_CHARACTERS:
        return Verdict(False, "refused")
    by = ask_graders({"prediction": prediction, "golds": sent, "rules": rules}, seconds)
    return Verdict(by not in ("none", "refused", "timeout"), by)


def unboxed(gold: str) -> str:
    r"""A gold answer without its `\boxed{}`; as given when there is none or it is broken."""
    return (final_answer(gold) or gold) if "\\boxed{" in gold else gold


# --- numbers, compared here -----------------------------------------------------------------------
# The shapes and sizes are those for which the three graders together are certain to agree with
# exact arithmetic; tests/judging/test_judge.py compares them with the full judge. Anything else is
# left to the worker.
INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,8})", re.ASCII)
GROUPED = re.compile(r"[1-9]\d{0,2}(?:,\d{3}){1,2}", re.ASCII)
DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,5})\.\d{1,6}", re.ASCII)
RATIO = re.compile(
    r"(-?)(?:\\frac\{([1-9]\d{0,4})\}\{([1-9]\d{0,4})\}|([1-9]\d{0,4})/([1-9]\d{0,4}))", re.ASCII
)
MILLIONTH = Fraction(1, 1_000_000)


def _read_number(text: str) -> tuple[str, Fraction] | None:
    """(shape, exact value) of a plain number."""
    if INTEGER.fullmatch(text) or GROUPED.fullmatch(text):
        return "integer", Fraction(text.replace(",", ""))
    if DECIMAL.fullmatch(text):
        return "decimal", Fraction(text)
    if match := RATIO.fullmatch(text):
        sign, a, b, c, d = match.groups()
        return "ratio", Fraction(int(a or c), int(b or d)) * (-1 if sign else 1)
    return None


def _compare_numbers(prediction: str, gold: str, rules: str = "released") -> bool | None:
    """The graders' verdict on two plain numbers, or None where it is not certain.

    To the released judge a decimal equals a fraction when they agree to six places (Math-Verify
    rounds). Close to half of the last place, and below a thousandth, where SymPy's rounding wavers
    (`3/30068` is not `0.000100` to it), the worker decides.
    """
    a, b = _read_number(prediction), _read_number(gold)
    if a is None or b is None:
        return None
    if {a[0], b[0]} != {"decimal", "ratio"}:
        return a[1] == b[1]
    if rules == "strict":
        return True if a[1] == b[1] else None
    distance = abs(a[1] - b[1]) / MILLIONTH
    if min(abs(a[1]), abs(b[1])) < 1000 * MILLIONTH:
        return None
    return None if Fraction(4, 10) < distance < Fraction(6, 10) else distance < Fraction(1, 2)
