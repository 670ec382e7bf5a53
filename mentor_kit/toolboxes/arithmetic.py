"""The 12 arithmetic tools of the paper, under its exact names.

The released tools are plain functions on floats, without guards; argument names are those of the
released examples (`a`, `b`, `x`, `numbers`). Ours are exact wherever the result is a fraction: a
number counts as the decimal that was written, so 0.1 + 0.2 - 0.3 is 0. They never hang: see the
limits in `mentor_kit.core.toolbox`.
"""

from __future__ import annotations

import math
from fractions import Fraction

from mentor_kit.core.arguments import MAX_NUMBER
from mentor_kit.core.toolbox import Toolbox
from mentor_kit.errors import ToolError

MAX_DIGITS = 15  # decimal places of round_number
MAX_BITS = 10_000  # of an exact power


def exact(number: float) -> Fraction:
    """The decimal that a number was written as."""
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def add(a: float, b: float) -> float:
    """a plus b."""
    return exact(a) + exact(b)


def subtract(a: float, b: float) -> float:
    """a minus b."""
    return exact(a) - exact(b)


def multiply(a: float, b: float) -> float:
    """a times b."""
    return exact(a) * exact(b)


def divide(a: float, b: float) -> float:
    """a divided by b; exact when both are whole and b divides a."""
    if b == 0:
        raise ToolError("division by zero.")
    return exact(a) / exact(b)


def sum_numbers(numbers: list[float]) -> float:
    """The sum of a list of numbers."""
    return sum(map(exact, numbers))


def floor(x: float) -> float:
    """The largest whole number not above x."""
    return math.floor(exact(x))


def ceil(x: float) -> float:
    """The smallest whole number not below x."""
    return math.ceil(exact(x))


def round_number(x: float, digits: int = 0) -> float:
    """x rounded to a number of decimal places (0 unless given); halves go to the even neighbour."""
    if abs(digits) > MAX_DIGITS:
        raise ToolError(f"digits must be between -{MAX_DIGITS} and {MAX_DIGITS}.")
    return round(exact(x), digits)


def power(a: float, b: float) -> float:
    """a to the power of b."""
    if a == 0 and b < 0:
        raise ToolError("zero to a negative power.")
    if a < 0 and not isinstance(b, int):
        raise ToolError("a negative number to a fractional power.")
    if abs(a) not in (0, 1) and b * math.log10(abs(a)) > math.log10(MAX_NUMBER):
        raise ToolError("result is too large.")
    if not isinstance(b, int):
        return a**b
    if a in (0, 1, -1):
        return a ** (b % 2 + 2) if b else 1
    base = exact(a)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(b)
    return base**b if bits <= MAX_BITS else a**b


def sqrt(x: float) -> float:
    """The square root of x."""
    if x < 0:
        raise ToolError("square root of a negative number.")
    square = exact(x)
    root = Fraction(math.isqrt(square.numerator), math.isqrt(square.denominator))
    return root if root * root == square else math.sqrt(x)


def abs_value(x: float) -> float:
    """The absolute value of x."""
    return abs(exact(x))


def modulo(a: float, b: float) -> float:
    """The remainder of a divided by b, with the sign of b."""
    if b == 0:
        raise ToolError("division by zero.")
    return exact(a) % exact(b)


ARITHMETIC = Toolbox("arithmetic", [add, subtract, multiply, divide, sum_numbers, floor, ceil,
                                    round_number, power, sqrt, abs_value, modulo])
