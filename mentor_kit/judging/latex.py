r"""An answer's LaTeX, for the strict judge: one style for many ways to write it, its parts, and its
expressions."""

from __future__ import annotations

import re
import unicodedata

import sympy
from latex2sympy2_extended.latex2sympy2 import latex2sympy
from latex2sympy2_extended.math_normalization import (
    NormalizationConfig,
    extract_boxed_content,
    normalize_latex,
)
from sympy.core.function import AppliedUndef

# --- one form for the many ways to write a sign ---------------------------------------------------
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
    return trimmed(re.sub(r"\s+", " ", text))


def trimmed(text: str) -> str:
    return text.lstrip(" ,;:").rstrip(" .,;:")


def bare(text: str) -> str:
    """A text without spaces, case, marks of style and the signs between words."""
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text.casefold())
    return re.sub(r"[\s{}\"“”]|^the |\.$", "", text)


# --- its parts ------------------------------------------------------------------------------------
OPENING, CLOSING = "([{", ")]}"


def bracket_depth(text: str) -> int:
    """How many brackets are open at the end of a text."""
    return sum((c in OPENING) - (c in CLOSING) for c in text)


def balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character in OPENING) - (character in CLOSING)
        if depth < 0:
            return False
    return True


def split(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts of a text between separators that stand in no bracket and in no matrix."""
    parts, start = [], 0
    for found in separator.finditer(text):
        before = text[:found.start()]
        if bracket_depth(before) == 0 and before.count("\\begin") == before.count("\\end"):
            parts.append(text[start:found.start()])
            start = found.end()
    return [*parts, text[start:]]


# --- its expressions ------------------------------------------------------------------------------
DECIMAL = re.compile(r"(\d*)\.(\d+)")
NUMBER = r"(?:\d+(?:\.\d+)?|\.\d+)"
NORMALIZED = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True,
                                 nits=False, boxed="none")


def try_expression(text: str) -> sympy.Expr | None:
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


def matrix(text: str) -> sympy.Matrix:
    """A matrix that is an expression of matrices."""
    return latex2sympy(normalize_latex(text, NORMALIZED), normalization_config=None).doit()
