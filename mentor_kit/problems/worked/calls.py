"""A worked solution as verified tool calls: the offline teacher's work, and the test of a problem
that has one.

    calls, reason = work_out(problem)      # reason: "accepted", or why not (REASONS)

Two kinds of worked solution are read: `meta["worked_solution"]`, a text with equations
(GSM-Symbolic), and `meta["program"]`, a list of calls (arithmetic stories, registry) whose
arguments may be `{"result": k}`, the result of the k-th call. Every call is executed by the
problem's toolbox; the work is accepted only when the last result equals the answer exactly, every
equation holds, and every argument is grounded: a number as `grounding` says, a text where it stands
in the question.

How an equation becomes calls: an n-ary sum of positives is `add` or `sum_numbers`, any other sum
goes left to right; in a product all multiplications come before the divisions (`116/209*1881`
multiplies first), so that no rounded quotient is multiplied; a factor 1 over something is dropped.
The worked solution's structure is kept: calls are neither pruned nor deduplicated by value, because
two steps with equal numbers may mean different things (`300*0.5`, `150*2`, `300*0.5`). An argument
that equals several earlier results is the latest of them. Only template 11 of GSM-Symbolic states
results that it never uses (two subtotals); they stay in its reference.

Paper silent on its teacher's prompts and filters except that the answer must be right and tools
used; the grounding rule and the reject reasons are ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mentor_kit.core.problem import Problem
from mentor_kit.core.toolbox import Toolbox, load_toolbox
from mentor_kit.problems.worked import equations as eq
from mentor_kit.problems.worked.grounding import grounded_numbers, to_fraction

REASONS = ("accepted", "no_equation", "ungrounded_argument", "equation_mismatch", "hidden_step",
           "needs_floor",
           "tool_error", "wrong_answer")
FIRST = {"add": "First add.", "sum_numbers": "First add.", "subtract": "First subtract.",
         "multiply": "First multiply.", "divide": "First divide.", "power": "First raise."}
THEN = {"add": "Add them.", "sum_numbers": "Add them up.", "subtract": "Subtract.",
        "multiply": "Multiply.",
        "divide": "Divide.", "power": "Raise it.", "round_number": "Round it.",
        "floor": "Round down."}
UNIT_STOP_RE = re.compile(
    "a|all|an|and|are|as|at|because|by|came|cost|covered|for|from|gets|had|has|have|he|her|"
    "his|if|in|is|it|left|more|of|on|or|per|playing|she|so|spent|than|that|the|them|there|"
    "they|this|to|together|total|used|was|were|which|who|will|with|worth",
    re.IGNORECASE,
)


class Rejected(Exception):
    """The worked solution cannot become a verified trajectory; the message is the reason."""


@dataclass(frozen=True)
class Call:
    """An executed call: arguments as JSON numbers, the result as the tool printed it, and its
    reasoning."""

    name: str
    arguments: Mapping[str, Any]
    result: str
    short: str = ""
    full: str = ""


def work_out(problem: Problem) -> tuple[list[Call], str]:
    """The executed calls of a problem's worked solution, as far as they go, and `accepted` or why
    not."""
    work = _Work(load_toolbox(problem.toolbox), problem.question)
    try:
        if "program" in problem.meta:
            work.run_program(problem.meta["program"], problem.meta.get("reasoning", ()))
        else:
            for equation in eq.equations(problem.meta.get("worked_solution", "")):
                work.run_equation(equation)
        reason = _verdict(work, problem)
    except Rejected as rejected:
        reason = str(rejected)
    return work.calls, reason


def _verdict(work: _Work, problem: Problem) -> str:
    if not work.calls:
        return "no_equation"
    if not any(_equal(work.calls[-1].result, answer) for answer in problem.answers):
        return "wrong_answer"
    return "needs_floor" if work.floored else "accepted"


def _equal(result: str, answer: str) -> bool:
    try:
        return to_fraction(result) == to_fraction(answer)
    except (ValueError, ZeroDivisionError):
        return False


def number(value: Fraction | str) -> int | float:
    """A value as the JSON number of an argument: whole numbers without a point."""
    value = to_fraction(value) if isinstance(value, str) else value
    return int(value) if value.denominator == 1 else float(value)


class _Work:
    """The calls made so far and what may be used as an argument."""

    def __init__(self, toolbox: Toolbox, question: str) -> None:
        self.toolbox, self.question = toolbox, question
        self.grounded = grounded_numbers(question)
        self.calls: list[Call] = []
        # a stated result and what the tool printed
        self.stated: list[tuple[eq.Number | eq.Ratio, str]] = []
        self.floored = False
        self.words: Callable[[str, bool], tuple[str, str]] = lambda name, last: ("", "")

    # -- calls
    def call(self, name: str, *, last: bool = False, **arguments: Any) -> str:
        observation = self.toolbox.execute(name, arguments)
        if not observation.ok:
            raise Rejected("tool_error")
        short, full = self.words(name, last)
        self.calls.append(Call(name, arguments, observation.content, short, full))
        return observation.content

    def run_program(self, program: list[Mapping[str, Any]], phrases: Any) -> None:
        for i, step in enumerate(program):
            phrase = phrases[i] if i < len(phrases) else ""
            self.words = lambda name, last, phrase=phrase: (phrase or THEN.get(name, "Next "
                                                                                     "step."),
                                                            phrase)
            self.call(step["tool"],
                      **{n: self._program_value(v) for n, v in step["arguments"].items()})

    def _program_value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._program_value(v) for v in value]
        if isinstance(value, Mapping):
            result = self.calls[value["result"]].result
            try:
                return number(result)
            except ValueError:  # a name
                return result
        grounded = value in self.question if isinstance(value, str) else \
            to_fraction(value) in self.grounded
        if not grounded:
            raise Rejected("ungrounded_argument")
        return value

    def run_equation(self, equation: eq.Equation) -> None:
        """Make the calls of an equation and check its stated result."""
        if isinstance(equation.expression, eq.Number):
            raise Rejected("hidden_step")
        self.words = lambda name, last: (_short(name, last, equation.unit), _full(equation))
        stated, made = _stated_value(equation.stated), len(self.calls)
        points = _in_percentage_points(equation)
        result = self._node(equation.expression, points, last=True)
        percent = isinstance(equation.stated, eq.Number) and equation.stated.percent
        if percent and not points and _close(result, stated / 100):
            result = self.call("multiply", a=number(result), b=100, last=True)
        result = self._checked(result, stated)
        if len(self.calls) > made:
            self.stated.append((equation.stated, result))

    def _checked(self, result: str, stated: Fraction) -> str:
        if _close(result, stated):
            return result
        if stated == math.floor(to_fraction(result)):
            self.floored = True
            return self.call("floor", x=number(result), last=True)
        raise Rejected("equation_mismatch")

    # -- expressions
    def _node(self, node: eq.Node, points: bool, last: bool = False) -> str:
        """Make the calls of an expression; returns its value as text."""
        if isinstance(node, eq.Number):
            return self._literal(node, points)
        if isinstance(node, eq.Rounding):
            return self.call("round_number", x=number(self._literal(node.number, points)),
                             last=last)
        if isinstance(node, eq.Power):
            base, exponent = (number(self._node(n, points)) for n in (node.base, node.exponent))
            return self.call("power", a=base, b=exponent, last=last)
        if isinstance(node, eq.Sum):
            return self._sum(node, points, last)
        return self._product(node if isinstance(node, eq.Product) else eq.Product(((1, node),)),
                             points, last)

    def _literal(self, node: eq.Number, points: bool) -> str:
        value = node.value / 100 if node.percent and not points else node.value
        for stated, printed in reversed(self.stated):
            if _close(printed, value) or (_stated_value(stated) == value
                                          and points == _is_percent(stated)):
                return printed
        if value not in self.grounded:
            raise Rejected("ungrounded_argument")
        return str(number(value))

    def _sum(self, node: eq.Sum, points: bool, last: bool) -> str:
        values = [number(self._node(term, points)) for _, term in node.terms]
        signs = [sign for sign, _ in node.terms]
        if len(values) > 2 and min(signs) > 0:
            return self.call("sum_numbers", numbers=values, last=last)
        for i, (sign, value) in enumerate(zip(signs[1:], values[1:], strict=True), start=1):
            name = "add" if sign > 0 else "subtract"
            result = self.call(name, a=values[0], b=value, last=last and i == len(values) - 1)
            values[0] = number(result)
        return result

    def _product(self, node: eq.Product, points: bool, last: bool) -> str:
        sides: dict[int, list[int | float]] = {1: [], -1: []}
        for side, value in self._factors(node, points):
            sides[side].append(number(value))
        above, below = sides[1] or [1], sides[-1]
        steps = [("multiply", v) for v in above[1:]] + [("divide", v) for v in below]
        result = str(above[0])
        for i, (name, value) in enumerate(steps):
            result = self.call(name, a=number(result), b=value, last=last and i == len(steps) - 1)
        return result

    def _factors(self, node: eq.Product, points: bool) -> Iterator[tuple[int, str]]:
        """(+1, value) above the line, (-1, value) below. Ones of a fraction or a unit conversion
        are left out."""
        for sign, factor in node.factors:
            earlier = next((p for s, p in reversed(self.stated) if s == factor), None)
            if isinstance(factor, eq.Ratio) and earlier is None:
                yield from ((sign * s, self._literal(n, points)) for s,
                            n in ((1, factor.top), (-1, factor.bottom))
                            if n.value != 1 or factor.bottom.value == 100)
            elif isinstance(factor, eq.Product):  # `3 feet / 1 yards` without its one
                others = tuple(f for f in factor.factors if f[1] != eq.Number(Fraction(1)))
                yield from ((sign * s, v) for s, v in self._factors(eq.Product(others), points))
            else:
                yield sign, earlier or self._node(factor, points)


def _stated_value(stated: eq.Number | eq.Ratio) -> Fraction:
    if isinstance(stated, eq.Number):
        return stated.value
    return stated.top.value / stated.bottom.value if stated.bottom.value else Fraction(0)


def _is_percent(stated: eq.Number | eq.Ratio) -> bool:
    return isinstance(stated, eq.Number) and stated.percent


def _close(result: str, value: Fraction) -> bool:
    """Equal up to the rounding of printed floats."""
    return math.isclose(float(to_fraction(result)), float(value), rel_tol=1e-9, abs_tol=1e-9)


def _in_percentage_points(equation: eq.Equation) -> bool:
    """Whether `%` is only a unit here: `100% - 20% = 80%`, `34 / 170 * 100% = 20%`."""
    if not _is_percent(equation.stated):
        return False
    node = equation.expression
    if isinstance(node, eq.Sum):
        return all(_is_percent(term) for _, term in node.terms)
    return isinstance(node, eq.Product) and (1, eq.Number(Fraction(100), True)) in node.factors


def _short(name: str, last: bool, unit: str) -> str:
    if not last:
        return FIRST.get(name, "First step.")
    words = []
    for word in unit.split():
        if UNIT_STOP_RE.fullmatch(word) or len(words) == 3 or not word.isalpha():
            break
        words.append(word)
    return f"Find the {' '.join(words)}." if words else THEN.get(name, "Next step.")


def _full(equation: eq.Equation) -> str:
    """The words before the equation, unless they give its result away."""
    numerals = [t.text for t in eq.tokenize(equation.lead) if t.kind == "num"]
    given_away = any(to_fraction(n) == _stated_value(equation.stated) for n in numerals)
    return "" if given_away else equation.lead
