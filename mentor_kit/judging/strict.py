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
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import latex2sympy
from latex2sympy2_extended.math_normalization import (
    NormalizationConfig,
    extract_boxed_content,
    normalize_latex,
)
from sympy.core.function import AppliedUndef

# --- what an answer may be ------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """Words, or what cannot be read."""

    words: str


@dataclass(frozen=True)
class Value:
    """A number or an expression. `places`: decimal places, where it is written as a decimal."""

    expression: sympy.Expr
    unit: str = ""
    places: int | None = None


@dataclass(frozen=True)
class Group:
    """Several answers. `kind`: "list", "set", "or" and "union" in any order; else in this one: the
    brackets of a tuple or interval, or what stands between the items."""

    kind: str
    items: tuple[Answer, ...]


@dataclass(frozen=True)
class Named:
    """`name = answer`; `left`: the name as an expression, where it is one."""

    name: str
    answer: Answer
    left: sympy.Expr | None = None


@dataclass(frozen=True)
class Relation:
    """`left sign 0`; the sign is =, <, <= or !=."""

    left: sympy.Expr
    sign: str


Answer = Text | Value | Group | Named | Relation


def equal(prediction: str, gold: str) -> bool:
    """Whether two answers mean the same.

    Raises:
        Exception: of any kind, where SymPy fails at one of them.
    """
    written, wanted = clean(prediction), clean(gold)
    if bare(written) == bare(wanted):
        return bool(bare(wanted))
    return any(same(p, g) for g in readings(wanted) for p in readings(written))


# --- writing: one form for the many ways to write a sign ------------------------------------------
SIGNS = {"−": "-", "–": "-", "‐": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
         "÷": "/", "⁄": "/", "∕": "/", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ",
         "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "°": r"^{\circ}", "∅": r"\emptyset ",
         "±": r"\pm ", "∓": r"\mp ", "√": r"\sqrt ", "’": "'", "′": "'", "²": "^{2}", "³": "^{3}",
         "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "¢": r"\text{cent}",
         "€": r"\text{euro}", "£": r"\text{pound}", "¥": r"\text{yen}"}
for _letter in "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ":
    _name = unicodedata.name(_letter).split()[-1].lower().replace("lamda", "lambda")
    SIGNS[_letter] = f"\\{_name.capitalize() if _letter.isupper() else _name} "

REWRITES = [(re.compile(pattern), replacement) for pattern, replacement in (
    (r"\\(?:left|right|[bB]igg?[lrm]?)(?![a-zA-Z])\.?", ""),
    (r",\\!\s*", ","), (r"\\!|\\(?:displaystyle|textstyle|limits|nonumber)(?![a-zA-Z])|\"", ""),
    (r"\\(?:math|text|operator)(?:rm|bf|it|sf|tt|normal|name)\*?\s*\{", r"\\text{"),
    (r"\\(?:mbox|hbox|fbox|boldsymbol|bm)\s*\{", r"\\text{"), (r"\\[dtc]frac", r"\\frac"),
    (r"\\(?:[,;:> ]|(?:quad|qquad)(?![a-zA-Z])|hspace\{[^}]*\})|~", " "), (r"\{\s*,\s*\}", ","),
    (r"\\text\{([a-zA-Z])\}", r"\1"), (r"\\text\{\s*\}", ""),
    (r"\\(?:leq|leqslant|leqq)(?![a-zA-Z])|<=", r"\\le "), (r"\\lt(?![a-zA-Z])", "<"),
    (r"\\(?:geq|geqslant|geqq)(?![a-zA-Z])|>=", r"\\ge "), (r"\\gt(?![a-zA-Z])", ">"),
    (r"\\(?:neq|not\s*=)(?![a-zA-Z])|!=", r"\\ne "), (r"\\(?:equiv|simeq)", "="),
    (r"\\(?:varnothing|empty)(?![a-zA-Z])", r"\\emptyset"), (r"\\lbrace", r"\\{"),
    (r"\\rbrace", r"\\}"), (r"\\l?brack", "["), (r"\*\*", "^"),
    (r"\^\s*\\(?:circ|degree)", r"^{\\circ}"),
    (r"\\degree", r"^{\\circ}"), (r"\^\s*(-?\d+(?:\.\d+)?)", r"^{\1}"),
    (r"\\text\{\s*(?:percent|percentage|pct)\s*\}|(?<![a-zA-Z])(?:percentage|percent|pct)\b|\\%",
     "%"),
    (r"(?<![\\a-zA-Z])(sqrt|sin|cos|tan|ln|log|pi|infty)(?![a-zA-Z])", r"\\\1"),
    (r"(?<![\\a-zA-Z])(?:infinity|inf|oo)(?![a-zA-Z])", r"\\infty"),
    (r"(?<![a-zA-Z])([a-zA-Z])('+)(?![a-zA-Z])", lambda m: f"{m[1]}_{{prime{len(m[2])}}}"))]


VERB = re.compile(r"(?<![\\a-zA-Z{])(?:is|are|it's|equals)(?![a-zA-Z}])")
SPAN = re.compile(r"\$\$?([^$]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def stated(text: str) -> str:
    """What a sentence says: what follows its last verb, or its only or last piece of
    mathematics. Anything else is the answer itself."""
    text = text.strip()
    spans = list(SPAN.finditer(text))
    verbs = [m.end() for m in VERB.finditer(text)]
    if verbs and re.search(r"\d", text[verbs[-1]:]):
        return text[verbs[-1]:]
    outside = SPAN.sub("", text)
    if not spans or not (verbs or len(spans) == 1) or re.search(r"\d|\\|\bnot\b", outside):
        return text
    after = text[spans[-1].end():].strip(" .")
    unit = f"\\text{{ {after}}}" if not verbs and re.fullmatch("[A-Za-z ]+", after) else ""
    return next(filter(None, spans[-1].groups())) + unit


def clean(text: str) -> str:
    """An answer as LaTeX of one style, without the marks of mathematics around it."""
    if "\\boxed" in text:
        text = extract_boxed_content(text, "last")  # several boxes in a row are a list
    text = re.sub(r"√\s*(\d+)", r"\\sqrt{\1}", text)
    for sign, latex in SIGNS.items():
        text = text.replace(sign, latex)
    text = unicodedata.normalize("NFKC", text)  # full-width digits, no-break spaces
    text = stated(text).replace("\\$", r"\text{dollar}").strip()
    if text.count("$") == 1 and re.match(r"\$?[\d,.]+\$?$", text):
        text = text.replace("$", r"\text{dollar}")
    for mark in ("$", r"\(", r"\)", r"\[", r"\]"):
        text = text.replace(mark, " ")
    if "\\begin" not in text:  # where there are no rows, two backslashes before a command are one
        text = re.sub(r"\\\\(?=[a-zA-Z])", r"\\", text)
    for pattern, replacement in REWRITES:
        text = pattern.sub(replacement, text)
    return _trimmed(re.sub(r"\s+", " ", text))


def _trimmed(text: str) -> str:
    return text.lstrip(" ,;:").rstrip(" .,;:")


def bare(text: str) -> str:
    """A text without spaces, case, marks of style and the signs between words."""
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text.casefold())
    return re.sub(r"[\s{}\"“”]|^the |\.$", "", text)


# --- reading --------------------------------------------------------------------------------------
OPENING, CLOSING = "([{", ")]}"
GROUPED = re.compile(r"(?<![\d.,])(\d{1,3})((?:[, ]\d{3})+)(?![\d])(?!,\d)")
DECIMAL = re.compile(r"(\d*)\.(\d+)")
NUMBER = r"(?:\d+(?:\.\d+)?|\.\d+)"
PLAIN = re.compile(rf"-?{NUMBER}|-?\\frac.*")
SIGN = re.compile(r"\\(?:le|ge|ne|in)(?![a-zA-Z])|[=<>]")
MATRIX = re.compile(r"\\begin\{([a-zA-Z]*matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}", re.DOTALL)
BASED = re.compile(r"([0-9A-Fa-f]+)_(?:\{(\d+)\}|(\d))")
WORDS = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{4,}|[a-zA-Z]{2,} [a-zA-Z]")
OR = re.compile(r"\\text\{\s*or\s*\}|(?<![a-zA-Z\\])or(?![a-z])|\\lor(?![a-zA-Z])")
AND = re.compile(r"\\text\{\s*,?\s*and\s*\}|(?<![a-zA-Z\\])and(?![a-zA-Z])|\\land(?![a-zA-Z])")
UNIT = re.compile(r"(.*[\d}\])])\s*(?:\\text\{([^{}]*)\}|"
                  r"(?<=[\d} ])([a-zA-Z][a-zA-Z. ]+|[mgshlLNJWVK]))(?:\^\{?(\d)\}?)?", re.DOTALL)
UNITS = {"centimeter": "cm", "centimetre": "cm", "millimeter": "mm", "meter": "m", "metre": "m",
         "kilometer": "km", "kilometre": "km", "gram": "g", "kilogram": "kg", "second": "s",
         "sec": "s", "minute": "min", "hour": "h", "hr": "h", "inch": "in", "inches": "in",
         "foot": "ft", "feet": "ft", "usd": "dollar", "buck": "dollar", "unit": "", "degree": "",
         "circ": "", "rad": "", "radian": ""}


def readings(text: str) -> Iterator[Answer]:
    """The ways to read an answer, the likeliest first: `1,234` is a number or a list, `2,74` is a
    list or a number with a decimal comma."""
    ungrouped = GROUPED.sub(lambda m: m[1] + re.sub("[, ]", "", m[2]), text)
    yield read(ungrouped)
    if ungrouped != text:
        yield read(text)
    if re.fullmatch(r"-?\d+,\d+", text):
        yield read(text.replace(",", "."))


def read(text: str) -> Answer:
    """An answer of which nothing is left over; a Text where that cannot be."""
    text = _trimmed(text)
    for reader in (_words, _alternatives, _plus_minus, _listed, _united, _related, _bracketed,
                   _special, _matrix, _number):
        answer = reader(text)
        if answer is not None:
            return answer
    return Text(bare(text))


def _words(text: str) -> Answer | None:
    inner = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text).strip(" .")
    if choice := re.fullmatch(r"\(?([A-Za-z])\)?", inner):
        return Text(choice[1].lower())
    is_text = "\\text{" in text or WORDS.search(inner)
    mathematics = re.search(r"[\d=<>+^/\\]", inner) or OR.search(text) or AND.search(text)
    return Text(bare(text)) if not text or is_text and not mathematics else None


def _alternatives(text: str) -> Answer | None:
    parts = _split(text, OR)
    if len(parts) > 1:
        return _group("or", parts)
    parts = _split(text, AND)
    return _group("list", parts) if len(parts) > 1 else None


def _plus_minus(text: str) -> Answer | None:
    if "\\pm" not in text and "\\mp" not in text:
        return None
    signs = (("+", "-"), ("-", "+"))
    return _group("list", [text.replace("\\pm", a).replace("\\mp", b) for a, b in signs])


def _listed(text: str) -> Answer | None:
    """`1, 2; 3, 4` is a list of two lists."""
    parts = [p for p in _split(text, re.compile(";")) if p.strip()]
    if len(parts) > 1:
        return Group("list", tuple(read(p) for p in parts))
    parts = [p for p in _split(text, re.compile(",")) if p.strip()]
    return _group("list", parts) if len(parts) > 1 else None


def _united(text: str) -> Answer | None:
    parts = _split(text, re.compile(r"\\cup(?![a-zA-Z])"))
    return _group("union", parts) if len(parts) > 1 else None


def _group(kind: str, parts: Sequence[str]) -> Group:
    """Lists in a list are one list: `1, 2 or 3`, `x = \\pm 1, 0`."""
    items: list[Answer] = []
    for part in parts:
        answer = read(part)
        inner = answer.answer if isinstance(answer, Named) else answer
        is_list = isinstance(inner, Group) and inner.kind in ("list", "or")
        items += inner.items if is_list else [answer]
    return Group(kind, tuple(items))


def _related(text: str) -> Answer | None:
    exact, approximate, rest = text.partition("\\approx")
    if approximate:
        text = f"{exact}={rest}" if _is_name(exact) else exact
    places = [m for m in SIGN.finditer(text) if _depth(text, m.start()) == 0]
    if not places:
        return None
    edges = [0, *[e for m in places for e in m.span()], len(text)]
    parts = [text[a:b].strip() for a, b in zip(edges[::2], edges[1::2], strict=True)]
    signs = [m[0] for m in places]
    if set(signs) == {"="}:
        if len(parts) == 2 and _is_name(parts[1]) and not _is_name(parts[0]):
            parts = parts[::-1]  # 5 = x
        if _is_name(parts[0]) or len(parts) > 2:
            return Named(bare(parts[0]), read(parts[-1]), _try_expression(parts[0]))
    if signs == ["\\in"]:
        return Named(bare(parts[0]), read(parts[1]))
    sides = [_try_expression(part) for part in parts]
    if None in sides or "\\in" in signs:
        return None
    if signs == ["="] and not sides[0].free_symbols | sides[1].free_symbols:
        return read(parts[1])  # 2 + 3 = 5
    relations = []
    for left, sign, right in zip(sides, signs, sides[1:], strict=False):
        turned = sign in (">", "\\ge")
        plain = {">": "<", "\\ge": "<=", "\\le": "<=", "\\ne": "!="}.get(sign, sign)
        relations.append(Relation(right - left if turned else left - right, plain))
    return relations[0] if len(relations) == 1 else Group("and", tuple(relations))


def _is_name(text: str) -> bool:
    """Whether the left side of an equation says only what is asked: `x`, `f(2)`, `|AB|`."""
    text = re.sub(r"_(?:\{[^{}]*\}|\w)|(?<=[\w}])\([^()]*\)", "", text)
    return re.search("[a-zA-Z]", text) is not None and not re.search(r"[\d+*^-]|\\cdot", text)


def _bracketed(text: str) -> Answer | None:
    text = re.sub(r"^\\langle|\\rangle$", lambda m: "(" if m[0][1] == "l" else ")", text)
    opened = "{" if text.startswith("\\{") else text[:1]
    closed = text[-1:]
    inner = text[len("\\{"):-len("\\}")] if text.startswith("\\{") else text[1:-1]
    if opened not in (*OPENING, "]") or closed not in (*CLOSING, "[") or not _balanced(inner):
        return None
    if text.startswith("{"):
        return read(inner)  # braces without a backslash are not seen
    if opened == "{":
        condition = _split(inner, re.compile(r"\\mid(?![a-zA-Z])|\||:"))
        return read(condition[1]) if len(condition) == 2 else Group("set", _items(inner))
    items = _items(inner)
    if len(items) < 2:
        return items[0] if items and opened + closed in ("()", "[]") else None
    # ]a, b[ is another way to write (a, b)
    brackets = {"]": "("}.get(opened, opened) + {"[": ")"}.get(closed, closed)
    return Group(brackets, items)


def _items(text: str) -> tuple[Answer, ...]:
    return tuple(read(p) for p in _split(text, re.compile("[,;]")) if p.strip())


def _special(text: str) -> Answer | None:
    if text == "\\emptyset":
        return Group("set", ())
    if found := BASED.fullmatch(text):
        return Group("base", (Text(found[1].lower()), Text(found[2] or found[3])))
    parts = text.split(":")
    if len(parts) > 1 and all(re.match(r"\s*[-\d\\(a-z]", p) for p in parts):
        return Group(":", tuple(read(p) for p in parts))
    return None


def _matrix(text: str) -> Answer | None:
    found = MATRIX.fullmatch(text.strip("[]() "))
    if "\\begin" not in text:
        return None
    if not found or "\\begin" in found[2]:
        entries = latex2sympy(normalize_latex(text, NORMALIZED), normalization_config=None).doit()
        return Group("matrix", tuple(Group("row", tuple(map(Value, entries.row(i))))
                                     for i in range(entries.rows)))
    rows = [row for row in re.split(r"\\\\", found[2]) if row.strip()]
    cells = [[read(cell) for cell in row.split("&")] for row in rows]
    return Group("matrix", tuple(Group("row", tuple(row)) for row in cells))


def _number(text: str) -> Answer | None:
    """A number or expression, with its unit."""
    percent, unit = text.endswith("%"), ""
    text = text.rstrip("% ")
    text = re.sub(r"\^\{\\circ\}(?![a-zA-Z])\s*$", "", text)
    if lead := re.match(r"\\text\{(dollar|euro|pound|yen)s?\}\s*(?=[-\d.])", text):
        unit, text = lead[1], text[lead.end():]
    found = UNIT.fullmatch(text)
    if found and (found[2] is not None or PLAIN.fullmatch(found[1].strip())):
        text, unit = found[1].strip(), _unit(found[2] or found[3], found[4])
    if "\\text{" in text and not re.search(r"\d", text):
        return None
    expression = _try_expression(text)
    if expression is None:
        return None
    decimal = re.fullmatch(r"-?\d*\.(\d+)", text)
    return Value(expression, "%" if percent else unit, len(decimal[1]) if decimal else None)


def _unit(words: str, power: str | None) -> str:
    words = re.sub(r"\s+", " ", words.strip(" .").lower())
    for pattern, exponent in ((r"(?:sq(?:uare)?d?) ", "2"), (r"cubic ", "3")):
        if re.match(pattern, words):
            words, power = re.sub(pattern, "", words), exponent
    words = UNITS.get(words, UNITS.get(words.removesuffix("s"), words.removesuffix("s")))
    return words + (power or "") if words else ""


def _try_expression(text: str) -> sympy.Expr | None:
    """A number or expression; None where a part of the text cannot be read as one."""
    try:
        return _expression(text)
    except Exception:  # noqa: BLE001 - the parser raises anything
        return None


def _expression(text: str) -> sympy.Expr:
    text = text.strip()
    repeating = re.fullmatch(r"(-?)(\d*)\.(\d*)(?:\\overline|\\dot|\\bar)\s*\{?(\d+)\}?", text)
    if repeating:
        sign, whole, fixed, period = repeating.groups()
        shift, nines = sympy.Integer(10) ** len(fixed), sympy.Integer(10) ** len(period) - 1
        value = sympy.Integer((whole or "0") + fixed) + sympy.Rational(int(period), nines)
        return (-1 if sign else 1) * value / shift
    text = re.sub(rf"({NUMBER})[eE]([+-]?\d+)", r"\1\\cdot 10^{\2}", text)
    text = re.sub(r"(?<![\d/.])(\d+) (\d+)/(\d+)(?!\d)", r"(\1+\\frac{\2}{\3})", text)
    text = re.sub(r"(?<![\d}])(\d+)/(\d+)(?=\s*[a-zA-Z\\(])", r"\\frac{\1}{\2}", text)
    if re.search(r"\d \d", text) or not text:
        raise ValueError(text)
    text = normalize_latex(text, NORMALIZED)
    text = DECIMAL.sub(lambda m: f"(\\frac{{{int(m[1] + m[2])}}}{{1{'0' * len(m[2])}}})", text)
    text = re.sub(r"([\d)])\s*\(", r"\1\\cdot (", text)  # 2(3) is a product
    found = latex2sympy(text, is_real=None, convert_degrees=False, normalization_config=None)
    if not isinstance(found, sympy.Expr) or isinstance(found, sympy.MatrixExpr):
        raise ValueError(text)
    # f(x) is a quantity like any other
    found = found.replace(lambda e: isinstance(e, AppliedUndef), lambda e: sympy.Symbol(str(e)))
    return found.subs(sympy.Symbol("i"), sympy.I)


NORMALIZED = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True,
                                 nits=False, boxed="none")


def _depth(text: str, end: int) -> int:
    return sum((c in OPENING) - (c in CLOSING) for c in text[:end])


def _balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character in OPENING) - (character in CLOSING)
        if depth < 0:
            return False
    return True


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts of a text between separators that stand in no bracket and in no matrix."""
    parts, start = [], 0
    for found in separator.finditer(text):
        before = text[:found.start()]
        if _depth(before, len(before)) == 0 and before.count("\\begin") == before.count("\\end"):
            parts.append(text[start:found.start()])
            start = found.end()
    return [*parts, text[start:]]


# --- comparing ------------------------------------------------------------------------------------
UNORDERED = ("list", "set", "or", "union", "and")


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
