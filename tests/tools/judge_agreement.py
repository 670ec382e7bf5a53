r"""How far our judges agree with the released one, and with mathematics: tables.

    python tests/tools/judge_agreement.py [FILE.jsonl ...] [--draws 2000] [--crossed 0]

The reference is the released judge itself: an OR of three graders, without our fast path, our
allow-list and our limits (a grader that takes ten seconds counts as no). Pairs are drawn from
numbers, LaTeX and texts with fixed seeds; FILEs hold more, one JSON object a line: `prediction`,
`gold` (or `golds`), and `expected` where mathematics is known. `--crossed` adds pairs of one row's
prediction with another row's golds. The last table changes one digit of each gold, twice: a judge
that still says yes is wrong, except where the change does not change the value.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mentor_kit.judging.judge import final_answer, judge, unboxed

SECONDS = 10
SPACE = ("", " ", "\u00a0", "\u2009", "\\,", "\\ ")
UNITS = ("", "cm", "\\text{ cm}", " dollars", "\\%", "%", "°", "^\\circ", " m²", "¢", "'", " kg")
WORDS = ("yes", "No", "Tom's", "上海", "Нет", "Łódź", "even", "the Nile", "x", "(C)", "New York",
         "C", "\\text{Monday}", "monday", "λ", "naïve", "\\text{even}", "“quoted”", "A@B", "50#",
         "a`b")


def numbers(draw: random.Random) -> str:
    """A number in one of the ways in which models and data sets write it."""
    n = draw.choice((draw.randint(0, 99), draw.randint(0, 99_999), draw.randint(0, 10**9)))
    forms = (str(n), f"{n:,}", f"{n}.0", f"{n}.", f"{n / 8}", f"{n}/8", f"\\frac{{{n}}}{{8}}",
             f"{n}e3", f"{n}\\times10^{{3}}", f"{n}000", f"{n:,}".replace(",", "\u00a0"),
             "".join(chr(0xFF10 + int(d)) for d in str(n)), f"+{n}", f"−{n}", f"-{n}", f"00{n}",
             f"\\${n}", f"${n}$", f"{n}\n", f"{n / 7:.6f}", f"{n}/7")
    return draw.choice(forms) + draw.choice(SPACE) + draw.choice(UNITS)


def latex(draw: random.Random) -> str:
    """An expression, list, interval or relation of small numbers."""
    a, b, c = (draw.randint(1, 4) for _ in range(3))
    return draw.choice((
        f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b}}}", f"{a}x+{b}", f"{b}+{a}x", f"({a},{b})",
        f"[{a},{b})", f"\\{{{a},{b}\\}}", f"{a},{b}", f"{a} or {b}", f"x={a}", f"x\\ge {a}",
        f"x>{b}", f"{a}\\pi", f"{a}π", f"\\frac{{{a}}}{{{b}}}", f"\\dfrac{a}{b}", f"{a}^{{{b}}}",
        f"{a}^{b}", f"{a}·{b}", f"{a}\\cdot {b}", f"{a * b}", f"{a}\\frac{{{b}}}{{9}}", f"{a}!",
        f"\\left({a},{b}\\right)", f"(x+{a})^2", f"x^2+{2 * a}x+{a * a}", f"{a}\\pm{b}", f"{a}n",
        f"\\binom{{{a + b}}}{{{b}}}", f"{a}x'+{b}", f"{a}λ", f"{a}\\lambda", f"{a}∞", f"{a}≤x",
        f"\\begin{{pmatrix}}{a}&{b}\\\\{c}&1\\end{{pmatrix}}", f"{a}_{{{b}}}", f"{a}:{b}"))


def texts(draw: random.Random) -> str:
    """A word, sometimes decorated."""
    word = draw.choice(WORDS)
    return draw.choice((word, f"\\text{{{word}}}", word.upper(), f" {word}.", f"{word}!",
                        f"${word}$"))


def drawn(n: int) -> Iterator[tuple[str, str, list[str]]]:
    """(kind, prediction, golds): a third of each kind, half of the pairs likely equal."""
    draw = random.Random(2026)
    for i in range(n):
        kind, write = (("numbers", numbers), ("LaTeX", latex), ("texts", texts))[i % 3]
        state = draw.getrandbits(32)
        gold = write(random.Random(state))
        near = gold.replace(" ", draw.choice(SPACE)) + draw.choice(("", ".", "\u00a0", "\\%"))
        prediction = near if draw.random() < 0.4 else write(draw)
        golds = [gold] if draw.random() < 0.8 else ["it's", gold]
        yield kind, prediction, golds


def stored(path: Path) -> Iterator[tuple[dict, str, list[str]]]:
    """(row, prediction, golds) of a file's rows: field cases have them under `input`, reward cases
    a response and its ground truth."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        pair = row["input"] if isinstance(row.get("input"), dict) else row
        if "prediction" in pair:
            yield row, pair["prediction"], pair.get("golds") or [pair["gold"]]
        elif prediction := final_answer(pair.get("response", "")):
            golds = pair["ground_truth"]
            yield row, prediction, [golds] if isinstance(golds, str) else golds


@contextmanager
def limited() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def released() -> Callable[[str, list[str]], bool]:
    """The released judge, unguarded. For texts of ours only."""
    from math_verify import parse, verify
    from math_verify.metric import math_metric
    from math_verify.parser import ExprExtractionConfig, LatexExtractionConfig
    from mathruler.grader import grade_answer

    logging.disable(logging.CRITICAL)
    metric = math_metric((LatexExtractionConfig(),),
                         (ExprExtractionConfig(), LatexExtractionConfig()))

    def says_yes(prediction: str, golds: list[str]) -> bool:
        bare = [unboxed(g) for g in golds]
        graders = (lambda: any(grade_answer(prediction, g) for g in golds),
                   lambda: any(verify(parse(g), parse(prediction)) for g in bare),
                   *(lambda g=g: metric([f"\\boxed{{{g}}}"], [prediction])[0] > 0 for g in bare))
        return any(map(_quietly, graders))

    return says_yes


def _quietly(grader: Callable[[], bool]) -> bool:
    try:
        with limited():
            return bool(grader())
    except Exception:  # noqa: BLE001 - an error of a grader counts as no
        return False


def changed(gold: str, draw: random.Random) -> str:
    """A gold with one digit changed."""
    digit = draw.choice([m.start() for m in re.finditer("[0-9]", gold)])
    other = draw.choice([d for d in "123456789" if d != gold[digit]])
    return gold[:digit] + other + gold[digit + 1:]


def show(title: str, rows: dict[str, Counter], columns: tuple[str, ...]) -> None:
    print(f"\n{title}\n| pairs | n | " + " | ".join(columns) + " |")
    print("|" + "---|" * (len(columns) + 2))
    for kind, counts in rows.items():
        print(f"| {kind} | {counts['n']} | " + " | ".join(str(counts[c]) for c in columns) + " |")


def agreement(pairs: list[tuple[str, str, list[str]]]) -> dict[str, Counter]:
    """Counts by kind; prints the pairs on which ours and the released judge differ."""
    oracle, rows = released(), {}
    for kind, prediction, golds in pairs:
        theirs, verdict = oracle(prediction, golds), judge(prediction, golds)
        counts = rows.setdefault(kind, Counter())
        counts.update(n=1, agree=theirs == verdict.correct, **{
            "released yes": theirs, "ours yes": verdict.correct,
            "strict yes": judge(prediction, golds, "strict").correct,
            "refused": verdict.by == "refused", "timeout": verdict.by == "timeout"})
        if theirs != verdict.correct:
            print(f"differs: {prediction!r} {golds!r} released {theirs}, ours {verdict}")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--crossed", type=int, default=0)
    args = parser.parse_args()
    rows = [(path.stem, *row) for path in args.files for row in stored(path)]
    pairs = [(stem, prediction, golds) for stem, _, prediction, golds in rows]
    draw = random.Random(1)
    if rows:
        pairs += [("crossed", draw.choice(rows)[2], draw.choice(rows)[3])
                  for _ in range(args.crossed)]
    columns = ("agree", "released yes", "ours yes", "strict yes", "refused", "timeout")
    table = agreement([*pairs, *drawn(args.draws)])
    show("Ours against the released judge", table, columns)

    right: dict[str, Counter] = {}
    for stem, row, prediction, golds in rows:
        if isinstance(row.get("expected"), bool):
            strict, ours = (judge(prediction, golds, rules).correct == row["expected"]
                            for rules in ("strict", "released"))
            right.setdefault(stem, Counter()).update(n=1, **{"strict right": strict,
                                                             "released right": ours})
            if not strict:
                print(f"strict is wrong: {prediction!r} {golds!r} expected {row['expected']}")
    show("Both against mathematics", right, ("strict right", "released right"))

    wrong: dict[str, Counter] = {}
    for stem, _, _, golds in rows:
        for gold in 2 * [g for g in golds if re.search("[0-9]", g)]:
            other = changed(gold, draw)
            counts = wrong.setdefault(stem, Counter())
            counts.update(n=1, **{f"{rules} yes": judge(other, gold, rules).correct
                                  for rules in ("strict", "released")})
    show("One digit changed", wrong, ("strict yes", "released yes"))
    return int(any(c["agree"] < c["n"] for c in table.values()))


if __name__ == "__main__":
    sys.exit(main())
