r"""The strict judge: do two answers mean the same? It runs in the grading process, never in ours.

The released judge looks for the gold anywhere in the answer, so `5` is right for `5\sqrt{3}`. This
one reads both sides whole, as one kind of thing each, and compares like with like:

| kind | equal | not equal |
|---|---|---|
| numbers | `0.5` = `1/2`, `2.5\times10^4` = `25000`, `0.\overline{6}` = `2/3` | `0.333` / `1/3` |
| percent | `50\%` = `50`, `50\%` = `0.5` | `50\%` / `5` |
| units | `5\text{ cm}` = `5`, `\$45` = `45` | `8\text{ m}` / `8\text{ mm}` |
| expressions | `(x+1)^2` = `x^2+2x+1`, `2^8` = `256` | `2^7+1` / `2^9+1`, `6!` / `6` |
| lists and sets | `4,5,6` = `6,5,4` = `\{4,5,6\}`, `\pm 8` = `8,-8` | `1,2,5` / `1,2` |
| tuples | `(1,4.5)` = `(1,\frac{9}{2})` | `(1,2)` / `(2,1)` |
| intervals | `0<x<8` = `(0,8)`, `x\ne 3` = `(-\infty,3)\cup(3,\infty)` | `[0,1]` / `(0,1)` |
| relations | `5<x` = `x>5`, `x+3y=6` = `2x+6y-12=0`, `x=6` = `6` | `x\ge 7` / `x\le 7` |
| matrices | entry by entry | |
| texts | `\text{Monday}` = `monday`, `(C)` = `C` | `even` / `odd` |

What cannot be read is a text. A decimal equals a number that it is not exactly only where it shows
at least six digits, all of them right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sympy

from mentor_kit.judging.answers import Answer, Group, Named, Relation, Text, Value, readings
from mentor_kit.judging.latex import bare, clean

UNORDERED = ("list", "set", "or", "union", "and")


def equal(prediction: str, gold: str) -> bool:
    """Whether two answers mean the same.

    Raises:
        Exception: of any kind, where SymPy fails at one of them.
    """
    written, wanted = clean(prediction), clean(gold)
    if bare(written) == bare(wanted):
        return bool(bare(wanted))
    return any(same(p, g) for g in readings(wanted) for p in readings(written))


def same(prediction: Answer, gold: Answer) -> bool:
    """Whether two answers are equal, in each other's form where they are of different kinds."""
    match prediction, gold:
        case (Named(), _) | (_, Named()):
            return _same_named(prediction, gold)
        case Value(), Value():
            return _same_values(prediction, gold)
        case Text(), Text():
            return prediction == gold
        case Relation(left, sign), Relation(right, other) if sign == other:
            if _proportional(left, right, sign):
                return True
        case Group(), Group():
            if _same_groups(prediction, gold):
                return True
    if _stands_for(prediction, gold) or _stands_for(gold, prediction):
        return True
    regions = _region(prediction), _region(gold)
    return None not in regions and regions[0] == regions[1]


def _stands_for(one: Answer, other: Answer) -> bool:
    """A set of one for its element, a number in a base for its digits, a letter for a variable."""
    match one, other:
        case Group("base", (Text(digits), _)), Value(expression):
            return digits == str(expression)
        case Group(kind, (item,)), Value() | Text() | Relation():
            return kind in UNORDERED and same(item, other)
        case Text(letter), Value(sympy.Symbol(name=name)):
            return letter == name
    return False


def _same_named(prediction: Answer, gold: Answer) -> bool:
    for named, other in ((prediction, gold), (gold, prediction)):
        if isinstance(named, Named) and isinstance(other, Relation):
            is_equation = named.left is not None and isinstance(named.answer, Value)
            return is_equation and same(
                Relation(named.left - named.answer.expression, "="), other)
    names = {a.name for a in (prediction, gold) if isinstance(a, Named)}
    if len(names) == 2:
        short, long = sorted(names, key=len)
        indexed = re.search(r"\d", short) and re.search(r"\d", long)
        if len(long) == 1 or indexed:
            return False  # x = 1 is not y = 1, and a_3 is not a_5
    return same(*(a.answer if isinstance(a, Named) else a for a in (prediction, gold)))


def _same_groups(prediction: Group, gold: Group) -> bool:
    kinds = {prediction.kind, gold.kind}
    pairs = [[same(p, g) for g in gold.items] for p in prediction.items]
    if kinds <= set(UNORDERED):  # each item is one of the others
        return all(map(any, pairs)) and all(map(any, zip(*pairs, strict=True)))
    # a list may stand for a tuple without its brackets
    return (len(kinds) == 1 or kinds <= {"list", "()"}) and len(pairs) == len(gold.items) and all(
        row[i] for i, row in enumerate(pairs))


def _same_values(a: Value, b: Value) -> bool:
    if a.unit and b.unit and a.unit != b.unit:
        return False
    if _equal(a.expression, b.expression) or _rounded(a, b) or _rounded(b, a):
        return True
    if "%" in (a.unit, b.unit) and a.unit != b.unit:
        shares = [v.expression / 100 if v.unit == "%" else v.expression for v in (a, b)]
        return _equal(*shares)
    return False


def _rounded(decimal: Value, exact: Value) -> bool:
    """Whether a decimal of six digits or more is the other number, rounded to its last place."""
    if decimal.places is None or exact.places is not None or exact.expression.free_symbols:
        return False
    if len(str(abs(decimal.expression * 10**decimal.places))) < 6:
        return False
    distance = (exact.expression - decimal.expression).evalf(30)
    return bool(abs(distance) * 10**decimal.places <= sympy.Rational(1, 2))


def _points(symbols: Sequence[sympy.Symbol]) -> Iterator[tuple[bool, dict[sympy.Symbol, Any]]]:
    """Values for the symbols; first positive ones, then of both signs."""
    for k in range(7):
        numbers = (sympy.Rational(7 * i + 11 * k + 5, 3 * i + 7) for i in range(len(symbols)))
        signs = (-1 if k > 3 and (i + k) % 2 else 1 for i in range(len(symbols)))
        yield k <= 3, {s: sign * n for s, sign, n in zip(symbols, signs, numbers, strict=True)}


def _value(expression: sympy.Expr, point: dict[sympy.Symbol, Any]) -> Any:
    """The exact fraction, else a complex number to 25 digits; None where it is not a number."""
    value = expression.subs(point).doit()
    if value.is_Rational:
        return value
    value = value.evalf(25)
    if not value.is_number or not value.is_finite:
        return None
    real, imaginary = (0 if p.is_Float and p._prec == 1 else p for p in value.as_real_imag())
    return real + sympy.I * imaginary


def _equal(a: sympy.Expr, b: sympy.Expr) -> bool:
    """Equal as expressions, tried at points: everywhere positive, and where both are real."""
    if a == b:
        return True
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    tried = 0
    for positive, point in _points(symbols):
        u, v = _value(a, point), _value(b, point)
        if u is None and v is None:
            continue
        if u is None or v is None or not _close(u, v):
            if positive or None not in (u, v) and u.is_real and v.is_real:
                return False
            continue
        tried += 1
        if not symbols:
            return True
    return tried > 1 or tried == 0 and sympy.simplify(a - b) == 0


def _close(u: Any, v: Any) -> bool:
    if u.is_Rational and v.is_Rational:
        return u == v
    return bool(abs(u - v) <= sympy.Float("1e-18") * max(abs(u), abs(v)))


def _proportional(a: sympy.Expr, b: sympy.Expr, sign: str) -> bool:
    """Whether a = c b for a number c, positive where the sign has a direction."""
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    ratios = []
    for _, point in _points(symbols):
        u, v = _value(a, point), _value(b, point)
        if u is not None and v:
            ratios.append(u / v)
    if len(ratios) < 2 or not all(_close(r, ratios[0]) for r in ratios) or ratios[0] == 0:
        return False
    return sign in ("=", "!=") or bool(sympy.re(ratios[0]) > 0)


def _region(answer: Answer) -> sympy.Set | None:
    """An interval, a union, or a relation of one variable as a set of numbers; else None."""
    if isinstance(answer, Relation):
        relation = {"=": sympy.Eq, "!=": sympy.Ne, "<": sympy.Lt, "<=": sympy.Le}[answer.sign]
        if len(answer.left.free_symbols) != 1:
            return None
        variable = sympy.Symbol("x", real=True)
        left = answer.left.subs(dict.fromkeys(answer.left.free_symbols, variable))
        return relation(left, 0).as_set()
    if isinstance(answer, Named):
        return _region(answer.answer)
    if not isinstance(answer, Group):
        return None
    if answer.kind in ("()", "(]", "[)", "[]") and len(answer.items) == 2:
        ends = [v.expression for v in answer.items if isinstance(v, Value)]
        if len(ends) < 2 or any(e.free_symbols for e in ends) or not ends[0] < ends[1]:
            return None
        return sympy.Interval(*ends, answer.kind[0] == "(", answer.kind[1] == ")")
    if answer.kind == "set":
        numbers = [v.expression for v in answer.items if isinstance(v, Value)]
        return sympy.FiniteSet(*numbers) if len(numbers) == len(answer.items) else None
    if answer.kind in UNORDERED:
        regions = [_region(item) for item in answer.items]
        if None in regions:
            return None
        joined: Callable[..., Any] = sympy.Intersection if answer.kind == "and" else sympy.Union
        return joined(*regions)
    return None
