"""The 12 arithmetic tools of the paper, under its exact names.

The released tools are plain functions without guards; argument names are those of the released
examples (`a`, `b`, `x`, `numbers`). Ours never hang: see the limits in `mentor_kit.core.toolbox`.
"""

from __future__ import annotations

import math

from mentor_kit.core.toolbox import MAX_NUMBER, Toolbox, ToolError

MAX_DIGITS = 15  # decimal places of round_number


def add(a: float, b: float) -> float:
    """a plus b."""
    return a + b


def subtract(a: float, b: float) -> float:
    """a minus b."""
    return a - b


def multiply(a: float, b: float) -> float:
    """a times b."""
    return a * b


def divide(a: float, b: float) -> float:
    """a divided by b; exact when both are whole and b divides a."""
    if b == 0:
        raise ToolError("division by zero.")
    return a // b if isinstance(a, int) and isinstance(b, int) and a % b == 0 else a / b


def sum_numbers(numbers: list[float]) -> float:
    """The sum of a list of numbers."""
    return sum(numbers) if all(isinstance(n, int) for n in numbers) else math.fsum(numbers)


def floor(x: float) -> float:
    """The largest whole number not above x."""
    return math.floor(x)


def ceil(x: float) -> float:
    """The smallest whole number not below x."""
    return math.ceil(x)


def round_number(x: float, digits: int = 0) -> float:
    """x rounded to a number of decimal places (0 unless given); halves go to the even neighbour."""
    if abs(digits) > MAX_DIGITS:
        raise ToolError(f"digits must be between -{MAX_DIGITS} and {MAX_DIGITS}.")
    return round(x, digits)


def power(a: float, b: float) -> float:
    """a to the power of b."""
    if a == 0 and b < 0:
        raise ToolError("zero to a negative power.")
    if a < 0 and not isinstance(b, int):
        raise ToolError("a negative number to a fractional power.")
    if abs(a) not in (0, 1) and b * math.log10(abs(a)) > math.log10(MAX_NUMBER):
        raise ToolError("result is too large.")
    if a in (0, 1, -1) and isinstance(b, int):
        return a ** (b % 2 + 2) if b else 1
    return a**b


def sqrt(x: float) -> float:
    """The square root of x."""
    if x < 0:
        raise ToolError("square root of a negative number.")
    root = math.isqrt(x) if isinstance(x, int) else 0
    return root if root * root == x else math.sqrt(x)


def abs_value(x: float) -> float:
    """The absolute value of x."""
    return abs(x)


def modulo(a: float, b: float) -> float:
    """The remainder of a divided by b, with the sign of b."""
    if b == 0:
        raise ToolError("division by zero.")
    return a % b


ARITHMETIC = Toolbox("arithmetic",
                     [add, subtract, multiply, divide, sum_numbers, floor, ceil, round_number,
                                    power, sqrt, abs_value, modulo])
