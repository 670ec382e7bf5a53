"""Reading the equations of a worked solution: text -> expressions with their stated results.

Nothing is evaluated: a small tokenizer and a recursive-descent parser read `+ - * x × ÷ / ^ ( ) %`,
currency signs, thousands commas, units (`180 carrots / 15 carrots/minute = 12 minutes`), number
words (`half * 186 = 93`), implicit products (`2(40+38)`) and chains (`a + b = c = d`). Any text is
accepted; what does not read as an equation is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

MAX_TOKENS = 60  # on each side of an equals sign; bounds time and recursion on hostile text
MAX_NUMERAL = 40  # characters of one number
MAX_UNIT_WORDS = 6  # words between a number and the operator that follows it

TOKEN_RE = re.compile(
    r"(?P<num>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?)|(?P<word>[^\W\d_][\w'’]*)"
    r"|(?P<op>[-+*×·/÷^()%])|(?P<skip>[\s$€£¥])|(?P<other>.)",
    re.DOTALL,
)
OPERATORS = {"×": "*", "·": "*"}
NUMBER_WORDS = {"half": Fraction(1, 2), "quarter": Fraction(1, 4), "third": Fraction(1, 3)}
BULLET_RE = re.compile(r"^\s*(?:[-•*]\s+|\d+\.\s+)")
VARIABLE_TERM_RE = re.compile(r"\s*\+\s*[A-Z]\b(?!\w)")
UNKNOWN_RE = re.compile(r"(?:^|[\w,:]\s)\s*[A-Z]\s*$")
LINEAR_RE = re.compile(r"(\d{1,15})([a-z])\s*\+\s*(\d{1,15})\s*=\s*(\d{1,15})")
ROUNDING_RE = re.compile(r"\bround\w*\b[^\d=]*from\s+[$€£]?(\d{1,15}(?:\.\d{1,15})?)\s+to\s+[$€£]?"
                         r"(\d{1,15}(?:\.\d{1,15})?)")


@dataclass(frozen=True)
class Number:
    """A literal; `percent` when a % sign follows (its value is still the number before the
    sign)."""

    value: Fraction
    percent: bool = False


@dataclass(frozen=True)
class Ratio:
    """Two literals written as a fraction, without blanks: `3/4`."""

    top: Number
    bottom: Number


@dataclass(frozen=True)
class Sum:
    """Terms with their signs (+1 or -1), in the order written; at least two."""

    terms: tuple[tuple[int, Node], ...]


@dataclass(frozen=True)
class Product:
    """Factors with +1 (multiply) or -1 (divide), in the order written; at least two."""

    factors: tuple[tuple[int, Node], ...]


@dataclass(frozen=True)
class Power:
    base: Node
    exponent: Node


@dataclass(frozen=True)
class Rounding:
    """`round ... from 2.73 to 3`."""

    number: Number


Node = Number | Ratio | Sum | Product | Power | Rounding


@dataclass(frozen=True)
class Equation:
    """An expression with the result that the worked solution states for it.

    `34 = 34` and `W = 4` are kept as `4 = 4`: signs that a calculation is hidden. `lead` is the
    text of the line before the expression, `unit` the words after the result.
    """

    expression: Node
    stated: Number | Ratio
    lead: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Token:
    kind: str  # num, word, op or other
    text: str
    start: int
    end: int


class _NotAnExpression(Exception):
    pass


def equations(text: str) -> list[Equation]:
    """Every equation of a worked solution, in order. Never raises; lines that begin with `####` are
    skipped."""
    lines = (BULLET_RE.sub("", line) for line in text.splitlines()
             if not line.strip().startswith("####") and not LINEAR_RE.search(line))
    return [*_linear_equations(text),
            *(equation for line in lines for equation in _line_equations(line))]


def _linear_equations(text: str) -> Iterator[Equation]:
    """`2x+90=252 ... 2x=162 ... x=81` as a difference and a quotient."""
    match = LINEAR_RE.search(text)
    if match is None:
        return
    factor, name, shift, total = match.groups()
    rest = text[match.end():]
    multiple = re.search(rf"\b{factor}{name}\s*=\s*(\d{{1,15}})", rest)
    single = re.search(rf"\b{name}\s*=\s*(\d{{1,15}})", rest)
    if multiple and single:
        factor, shift, total, multiple, single = (
            Number(Fraction(n)) for n in (factor, shift, total, multiple[1], single[1]))
        yield Equation(Sum(((1, total), (-1, shift))), multiple)
        yield Equation(Product(((1, multiple), (-1, factor))), single)


def _line_equations(line: str) -> Iterator[Equation]:
    for match in ROUNDING_RE.finditer(line):
        number, stated = (Number(Fraction(g)) for g in match.groups())
        yield Equation(Rounding(number), stated, line[: match.start()].strip(), "")
    segments = _without_variables(line.split("="))
    for i, (left, right) in enumerate(pairwise(segments)):
        found = _suffix_expression(left)
        stated = _prefix_result(right)
        if stated is not None and UNKNOWN_RE.search(left):
            yield Equation(stated[0], stated[0], left.strip(), stated[1])
        if found is None or stated is None or (isinstance(found[0], Number)
                                               and (i or found[0] != stated[0])):
            continue
        yield Equation(found[0], stated[0], left[: found[1]].strip(), stated[1])


def _without_variables(segments: list[str]) -> list[str]:
    """Drop `+ T` from both sides of `75 + 46 + T = 121 + T`."""
    segments = list(segments)
    for i in range(len(segments) - 1):
        if VARIABLE_TERM_RE.search(segments[i]) and VARIABLE_TERM_RE.search(segments[i + 1]):
            segments[i], segments[i + 1] = (VARIABLE_TERM_RE.sub("", s) for s in segments[i: i + 2])
    return segments


def tokenize(text: str) -> list[Token]:
    """Tokens of a text; operators inside units and hyphenated words (`km/hour`, `100-item`) become
    words."""
    raw = [Token(m.lastgroup, m.group(), m.start(), m.end()) for m in TOKEN_RE.finditer(text)
           if m.lastgroup != "skip"]
    return [_classify(raw, i) for i in range(len(raw))]


def _classify(raw: list[Token], i: int) -> Token:
    token, following = raw[i], raw[i + 1] if i + 1 < len(raw) else None
    begins_operand = following is not None and (following.kind == "num" or following.text == "("
                                                or following.text in NUMBER_WORDS)
    if token.text in ("x", "X") and begins_operand and i > 0:
        return Token("op", "*", token.start, token.end)
    if token.text in "-/" and following and following.kind == "word" and not begins_operand:
        return Token("word", token.text, token.start, token.end)
    return Token(token.kind, OPERATORS.get(token.text, token.text) if token.kind == "op"
                 else token.text,
                 token.start, token.end)


def _suffix_expression(text: str) -> tuple[Node, int] | None:
    """The longest end of the text that reads as an expression, and where it starts."""
    tokens = tokenize(text)[-MAX_TOKENS:]
    for i, token in enumerate(tokens):
        if token.kind == "num" or token.text == "(" or token.text in NUMBER_WORDS:
            try:
                return _Parser(tokens[i:]).whole(), token.start
            except _NotAnExpression:
                continue
    return None


def _prefix_result(text: str) -> tuple[Number | Ratio, str] | None:
    """The number that begins the text (not one that begins a longer expression), and the words
    after it."""
    tokens = tokenize(text)[:MAX_TOKENS]
    negative = len(tokens) > 1 and tokens[0].text == "-" and tokens[1].kind == "num"
    parser = _Parser(tokens[negative:])
    try:
        value = parser.atom()
    except _NotAnExpression:
        return None
    if not isinstance(value, Number if negative else Number | Ratio):
        return None
    words = [t.text for t in parser.tokens[parser.at - parser.skipped: parser.at]]
    if parser.at < len(parser.tokens) and parser.tokens[parser.at].text in tuple("+-*/÷^"):
        return None
    return (Number(-value.value, value.percent) if negative else value), " ".join(words)


class _Parser:
    """Recursive descent over tokens. Words after an operand are its unit and are skipped."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.skipped = 0  # unit words skipped after the last operand

    def whole(self) -> Node:
        node = self.sum()
        if self.at < len(self.tokens):
            raise _NotAnExpression
        return node

    def sum(self) -> Node:
        return self._chain(self.product, {"+": 1, "-": -1}, Sum)

    def product(self) -> Node:
        return self._chain(self.power, {"*": 1, "/": -1, "÷": -1}, Product)

    def _chain(self, operand, signs: dict[str, int], make) -> Node:
        items = [(1, operand())]
        while self._text() in signs:
            sign = signs[self._text()]
            self.at += 1
            items.append((sign, operand()))
        return items[0][1] if len(items) == 1 else make(tuple(items))

    def power(self) -> Node:
        base = self.atom()
        if self._text() == "^":
            self.at += 1
            return Power(base, self.power())
        return base

    def atom(self) -> Node:
        token = self._next()
        if token.text == "(":
            node = self.sum()
            if self._next().text != ")":
                raise _NotAnExpression
        elif token.kind == "num":
            node = self._ratio(self._number(token))
            if self._text() == "(" and self.tokens[self.at].start == self.tokens[self.at - 1].end:
                node = Product(((1, node), (1, self.atom())))  # 2(40+38)
        elif token.text in NUMBER_WORDS:
            node = Number(NUMBER_WORDS[token.text])
        else:
            raise _NotAnExpression
        self._skip_units()
        return node

    def _number(self, token: Token) -> Number:
        if len(token.text) > MAX_NUMERAL:
            raise _NotAnExpression
        percent = self._text() == "%"
        self.at += percent
        return Number(Fraction(token.text.replace(",", "")), percent)

    def _ratio(self, top: Number) -> Number | Ratio:
        """`3/4` without blanks on either side is one operand."""
        near = self.tokens[self.at - 1: self.at + 2]
        if (len(near) == 3 and near[1].text == "/" and near[2].kind == "num"
                and near[0].end == near[1].start and near[1].end == near[2].start):
            self.at += 2
            return Ratio(top, self._number(near[2]))
        return top

    def _skip_units(self) -> None:
        start = self.at
        while (self.at < len(self.tokens) and self.tokens[self.at].kind == "word"
               and self.at - start < MAX_UNIT_WORDS):
            self.at += 1
        self.skipped = self.at - start

    def _text(self) -> str:
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        return token.text if token is not None and token.kind == "op" else ""

    def _next(self) -> Token:
        if self.at >= len(self.tokens):
            raise _NotAnExpression
        self.at += 1
        return self.tokens[self.at - 1]
