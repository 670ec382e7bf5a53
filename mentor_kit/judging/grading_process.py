"""The process that runs the symbolic graders: `python -m mentor_kit.judging.grading_process`.

Math-Verify and MathRuler parse text by evaluating it (SymPy's `parse_expr`), and some expressions
never end, so they run here, away from training: one JSON line in, one JSON line out, with limits on
memory, files, processes and CPU time. `mentor_kit.judging.judge` starts it, feeds it and kills it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from typing import Any

MEMORY_BYTES = 2 << 30
# the graders of a judge, and the CPU share of a request after which each must be done
DEADLINES = {"released": {"mathruler": 0.3, "math_verify": 0.55, "math_verify_metric": 0.75},
             "strict": {"strict": 0.75}}
HARD_SHARE = 0.85  # CPU share after which the kernel ends this process, whatever it is doing
MAX_CHARACTERS = 1000  # of a text that is parsed; longer ones are only compared as texts
# What SymPy may evaluate: letters, digits and the signs of written mathematics. No quotes,
# backticks, @ and #, and (see `may_evaluate`) no dunder names.
ALLOWED = re.compile(r"[\w\s!$%&()*+,\-./:;<=>?\[\\\]^{|}~√∞∪∩∅·×÷±−–≤≥≠≈°€£]*")
WARM_UP = (("2x+\\frac{1}{2}", "\\frac{1}{2}+2x"), ("(1,2]", "(1,2]"), ("\\sqrt{12}", "2\\sqrt{3}"),
           ("1/2", "0.5"))


class OutOfTime(BaseException):
    """Raised by the CPU timer inside a grader; not an Exception, or graders would swallow it."""


class Refused(ValueError):
    """A text that may not be parsed."""


def may_evaluate(text: str) -> bool:
    """Whether SymPy may parse a text, which it does by evaluating it as Python."""
    text = unicodedata.normalize("NFKC", text)  # as Python reads names
    return (len(text) <= 2 * MAX_CHARACTERS + 8 and "__" not in text
            and ALLOWED.fullmatch(text) is not None)


class Graders:
    """The three graders of the released judge, in the order cheapest first, whose verdicts are
    OR-ed; and the strict one.

    They may compare any text. What SymPy or Math-Verify would parse is checked before, and
    `refused` says that it was not parsed.
    """

    def __init__(self) -> None:
        import mathruler.grader
        from math_verify import parse, verify
        from math_verify.metric import math_metric
        from math_verify.parser import ExprExtractionConfig, LatexExtractionConfig

        from mentor_kit.judging.strict import equal

        evaluate = mathruler.grader._sympy_parse
        mathruler.grader._sympy_parse = lambda text: evaluate(self._checked(text, may_evaluate))
        self._parse, self._verify, self._grade_answer = parse, verify, mathruler.grader.grade_answer
        self._metric = math_metric(gold_extraction_target=(LatexExtractionConfig(),),
                                   pred_extraction_target=(ExprExtractionConfig(),
                                                           LatexExtractionConfig()))
        self._equal, self.refused = equal, False

    def mathruler(self, prediction: str, golds: list[list[str]]) -> bool:
        """MathRuler takes the gold as given; an error ends the search through the golds."""
        return any(self._grade_answer(prediction, raw) for raw, _ in golds)

    def math_verify(self, prediction: str, golds: list[list[str]]) -> bool:
        """Math-Verify's parse and verify on the bare contents."""
        parsed = self._parse(self._checked(prediction))
        return any(self._verify(self._parse(bare), parsed) for _, bare in self._short(golds))

    def math_verify_metric(self, prediction: str, golds: list[list[str]]) -> bool:
        """Math-Verify's metric: the gold boxed again, the prediction bare; an error skips only that
        gold."""
        self._checked(prediction)
        return self._any(lambda gold: self._metric([f"\\boxed{{{gold[1]}}}"], [prediction])[0] > 0,
                         golds)

    def strict(self, prediction: str, golds: list[list[str]]) -> bool:
        """Our own; an error skips only that gold."""
        self._checked(prediction)
        return self._any(lambda gold: self._equal(prediction, gold[0]), golds)

    def _any(self, says_yes: Callable[[list[str]], bool], golds: list[list[str]]) -> bool:
        for gold in self._short(golds):
            with suppress(Exception):  # SymPy raises anything: it counts as no
                if says_yes(gold):
                    return True
        return False

    def _short(self, golds: list[list[str]]) -> list[list[str]]:
        """The golds that may be parsed: a long one does not spoil the others."""
        short = [gold for gold in golds if is_short(gold[1])]
        self.refused |= len(short) < len(golds)
        return short

    def _checked(self, text: str, allowed: Callable[[str], bool] | None = None) -> str:
        if not (allowed or is_short)(text):
            self.refused = True
            raise Refused(text[:40])
        return text


def is_short(text: str) -> bool:
    return len(text) <= MAX_CHARACTERS


def grade(graders: Graders, prediction: str, golds: list[list[str]], rules: str,
          seconds: float) -> str:
    """The name of the first grader that says yes; else `timeout` where one ran out of CPU time,
    `refused` where one was not allowed to parse a text, or `none`."""
    late = graders.refused = False
    signal.setitimer(signal.ITIMER_VIRTUAL, HARD_SHARE * seconds)
    used = 0.0
    for name, share in DEADLINES[rules].items():
        start = time.process_time()
        yes, out_of_time = _timed(getattr(graders, name), prediction, golds,
                                  max(share * seconds - used, 0.01))
        used += time.process_time() - start
        late |= out_of_time
        if yes:
            break
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    if yes:
        return name
    return "timeout" if late else "refused" if graders.refused else "none"


def _timed(grader: Callable[..., bool], prediction: str, golds: list[list[str]],
           seconds: float) -> tuple[bool, bool]:
    """(verdict, ran out of time). Any error of a grader counts as no, as in the released judge."""
    fired = []

    def ring(*_: Any) -> None:
        fired.append(True)
        raise OutOfTime

    signal.signal(signal.SIGPROF, ring)
    try:
        try:
            # rings again and again: graders hold bare `except:` clauses that swallow the first ring
            signal.setitimer(signal.ITIMER_PROF, seconds, 0.02)
            return bool(grader(prediction, golds)), bool(fired)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except OutOfTime:
        return False, True
    except Exception:  # noqa: BLE001 (RecursionError, MemoryError, whatever SymPy raises)
        return False, bool(fired)


def limit_resources() -> None:
    """No more memory than MEMORY_BYTES, no file written, no process started."""
    import resource

    limits = ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_FSIZE, 0),
              (resource.RLIMIT_NPROC, 0),
              (resource.RLIMIT_CORE, 0))
    for kind, value in limits:
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):  # macOS knows no RLIMIT_AS; the others still hold
            continue


def main() -> int:
    """Serve requests from stdin until it closes."""
    replies = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    # what a library prints must not mix with the replies
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    try:
        graders = Graders()
    except ImportError as error:
        replies.write(json.dumps({"error": str(error)}) + "\n")
        return 1
    for prediction, gold in WARM_UP:
        for rules in DEADLINES:
            grade(graders, prediction, [[gold, gold]], rules, 60.0)
    limit_resources()
    replies.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        request = json.loads(line)
        by = grade(graders, request["prediction"], request["golds"], request["rules"],
                   request["seconds"])
        replies.write(json.dumps({"by": by}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
