"""Which numbers an argument may come from: the numbers of the question, in words and signs too.

The rule, in full. Grounded in a question are
- its numerals (`1,250`, `$3.50`, `12-inch`, `-4`); of `30%` also 0.3; of `2/3` also its value;
- its number words: zero to twenty, the tens, hundred, thousand; half (1/2 and 2), third (3),
  quarter (1/4 and 4), once, twice, double (2), thrice, triple (3), dozen (12), twins (2) to
  quintuplets (5), both and pair (2), squared (2), cubed (3);
- the constants of the units that it names (`CONSTANTS`): a week has 7 days, an hour 60 minutes, a
  percentage 100. Everything else must be an earlier result.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
          "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
          "nineteen", "twenty"]
_TENS = dict(zip(["thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"],
                 range(30, 100, 10), strict=True))
WORDS: dict[str, tuple[Fraction, ...]] = {
    **{w: (Fraction(i),) for i, w in enumerate(_UNITS)},
    **{w: (Fraction(n),) for w, n in _TENS.items()},
    **{w: (Fraction(n),) for w,
       n in {"hundred": 100, "thousand": 1000, "dozen": 12, "once": 1, "twice": 2,
                                      "double": 2, "thrice": 3, "triple": 3, "twin": 2,
             "triplet": 3,
                                      "quadruplet": 4, "quintuplet": 5, "both": 2, "pair": 2,
             "squared": 2,
                                      "cubed": 3}.items()},
    "half": (Fraction(1, 2), Fraction(2)), "third": (Fraction(3),),
    "quarter": (Fraction(1, 4), Fraction(4))}
CONSTANTS: tuple[tuple[str, tuple[int, ...]], ...] = (
    (r"percent|%|\bcents?\b", (100,)),
    (r"\bweek|\bdaily\b", (7,)),
    (r"\bmonth", (4, 12, 30)),
    (r"\byear|\bannual", (12, 52, 365)),
    (r"\bhour|\bminute|\bsecond", (60,)),
    (r"\balphabet", (26,)),
    (r"\byard|\bfeet|\bfoot", (3, 12)),
    (r"\baverage|\bperimeter|\bsplit|\bre-writes", (2,)),
)
NUMERAL_RE = re.compile(r"\d{1,3}(?:,\d{3}){1,9}(?:\.\d{1,20})?(?!\d)|\d{1,30}(?:\.\d{1,20})?")
NEGATIVE_RE = re.compile(rf"(?<![^\s(])-(?:{NUMERAL_RE.pattern})")
PERCENT_RE = re.compile(rf"({NUMERAL_RE.pattern})\s*(?:%|percent)")
FRACTION_RE = re.compile(r"(\d{1,15})\s*/\s*(\d{1,15})")
WORD_RE = re.compile(r"[a-z]+")


def to_fraction(text: str | float) -> Fraction:
    """The exact value of a numeral, commas allowed."""
    return Fraction(str(text).replace(",", ""))


@lru_cache(maxsize=4096)
def written_numbers(text: str) -> frozenset[Fraction]:
    """The values a text writes out, in numerals, signs and words; without the constants of its
    units."""
    values = {to_fraction(m) for m in NUMERAL_RE.findall(text)}
    values |= {to_fraction(m) for m in NEGATIVE_RE.findall(text)}
    values |= {to_fraction(m) / 100 for m in PERCENT_RE.findall(text)}
    values |= {Fraction(int(a), int(b)) for a, b in FRACTION_RE.findall(text) if int(b)}
    for word in WORD_RE.findall(text.lower()):
        values |= set(WORDS.get(word, ()) or WORDS.get(word.removesuffix("s"), ()))
    return frozenset(values)


@lru_cache(maxsize=4096)
def grounded_numbers(question: str) -> frozenset[Fraction]:
    """Every value that an argument may take from the question (see the rule above)."""
    lower = question.lower()
    constants = {Fraction(n) for pattern, numbers in CONSTANTS if re.search(pattern, lower)
                 for n in numbers}
    return written_numbers(question) | constants
