r"""What an answer is, for the strict judge: a number, a list, a relation, a text, read from its
LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sympy

from mentor_kit.judging.latex import (
    CLOSING,
    NUMBER,
    OPENING,
    balanced,
    bare,
    bracket_depth,
    matrix,
    split,
    trimmed,
    try_expression,
)


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

# --- reading --------------------------------------------------------------------------------------
GROUPED = re.compile(r"(?<![\d.,])(\d{1,3})((?:[, ]\d{3})+)(?![\d])(?!,\d)")
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
    text = trimmed(text)
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
    parts = split(text, OR)
    if len(parts) > 1:
        return _group("or", parts)
    parts = split(text, AND)
    return _group("list", parts) if len(parts) > 1 else None


def _plus_minus(text: str) -> Answer | None:
    if "\\pm" not in text and "\\mp" not in text:
        return None
    signs = (("+", "-"), ("-", "+"))
    return _group("list", [text.replace("\\pm", a).replace("\\mp", b) for a, b in signs])


def _listed(text: str) -> Answer | None:
    """`1, 2; 3, 4` is a list of two lists."""
    parts = [p for p in split(text, re.compile(";")) if p.strip()]
    if len(parts) > 1:
        return Group("list", tuple(read(p) for p in parts))
    parts = [p for p in split(text, re.compile(",")) if p.strip()]
    return _group("list", parts) if len(parts) > 1 else None


def _united(text: str) -> Answer | None:
    parts = split(text, re.compile(r"\\cup(?![a-zA-Z])"))
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
    places = [m for m in SIGN.finditer(text) if bracket_depth(text[:m.start()]) == 0]
    if not places:
        return None
    edges = [0, *[e for m in places for e in m.span()], len(text)]
    parts = [text[a:b].strip() for a, b in zip(edges[::2], edges[1::2], strict=True)]
    signs = [m[0] for m in places]
    if set(signs) == {"="}:
        if len(parts) == 2 and _is_name(parts[1]) and not _is_name(parts[0]):
            parts = parts[::-1]  # 5 = x
        if _is_name(parts[0]) or len(parts) > 2:
            return Named(bare(parts[0]), read(parts[-1]), try_expression(parts[0]))
    if signs == ["\\in"]:
        return Named(bare(parts[0]), read(parts[1]))
    sides = [try_expression(part) for part in parts]
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
    if opened not in (*OPENING, "]") or closed not in (*CLOSING, "[") or not balanced(inner):
        return None
    if text.startswith("{"):
        return read(inner)  # braces without a backslash are not seen
    if opened == "{":
        condition = split(inner, re.compile(r"\\mid(?![a-zA-Z])|\||:"))
        return read(condition[1]) if len(condition) == 2 else Group("set", _items(inner))
    items = _items(inner)
    if len(items) < 2:
        return items[0] if items and opened + closed in ("()", "[]") else None
    # ]a, b[ is another way to write (a, b)
    brackets = {"]": "("}.get(opened, opened) + {"[": ")"}.get(closed, closed)
    return Group(brackets, items)


def _items(text: str) -> tuple[Answer, ...]:
    return tuple(read(p) for p in split(text, re.compile("[,;]")) if p.strip())


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
        entries = matrix(text)
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
    expression = try_expression(text)
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
