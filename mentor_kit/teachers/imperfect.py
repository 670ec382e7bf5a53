"""Imperfect demonstrations for the cold start: right answers reached with bad tool habits.

A cold start on clean teacher trajectories leaves the alignment reward nothing to teach. Here a
teacher
trajectory gets, step by step and seeded, habits that keep every value: detours through other tools,
calls that change nothing, and invented tool names, whose error the demonstration mends by calling
the right tool, or ignores: it then goes on with the right value, which a student can only guess.
Everything is executed again, and the boxed answer stays the teacher's.

Paper silent on how its base model fails (it starts from a pretrained one); habits and rates are
ours.

| habit | instead of | the demonstration calls |
|---|---|---|
| `pairwise_sum` | sum_numbers([a, b, c]) | add(a, b), add(that, c) |
| `sum_of_two` / `add_two` | add(a, b) / sum_numbers([a, b]) | sum_numbers([a, b]) / add(a, b) |
| `add_negative` | subtract(a, b) | add(a, -b) |
| `doubled` | multiply(a, 2) or multiply(2, a) | add(a, a) |
| `repeated_sum` | multiply(a, b), b whole, 3 to 5 | sum_numbers([a, ..., a]) |
| `by_reciprocal` | divide(a, b), 1/b exact | multiply(a, 1/b) |
| `square_by_hand` | power(a, 2) | multiply(a, a) |
| `root_as_power` | sqrt(x) | power(x, 0.5) |
| `other_rounding` | floor, ceil, round_number(x) | another of them that gives the same |
| `negated` | abs_value(x), x < 0 | multiply(x, -1) |
| `skipped_abs` | abs_value(x), x >= 0, x an earlier result | nothing |
| `redundant` | any call | the same, then abs_value, floor or round_number of it, unchanged |
| `invented` | any call | an unknown name with the same arguments (an error), then the right call |
| `guessed` | any call | an unknown name, then on as if its result were known |

A habit is consistent: each tool has its own (`PREFERRED`), so that it shows when the student
decodes greedily too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from random import Random
from typing import Any

from mentor_kit.core.chat_markup import render_call, render_environment
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record
from mentor_kit.core.toolbox import Toolbox, load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import ToolCall, Turn
from mentor_kit.errors import UserError

INVENTED = {"add": "plus", "sum_numbers": "total", "subtract": "minus", "multiply": "times",
            "divide": "share",
            "floor": "round_down", "ceil": "round_up", "round_number": "round", "power": "raise_to",
            "sqrt": "root",
            "abs_value": "positive", "modulo": "remainder"}
PREFERRED = {"add": ("sum_of_two",), "sum_numbers": ("pairwise_sum", "add_two"),
             "subtract": ("guessed",),
             "multiply": ("invented", "doubled", "repeated_sum"),
             "divide": ("redundant", "invented"),
             "floor": ("other_rounding", "redundant"), "ceil": ("invented",),
             "round_number": ("redundant",),
             "power": ("square_by_hand", "invented"), "sqrt": ("root_as_power",),
             "abs_value": ("skipped_abs", "negated", "invented"), "modulo": ("guessed",)}
ROUNDERS = ("floor", "ceil", "round_number")
MENDED = "That tool is unknown."
CHECKED = "Check it."

Made = tuple[str, dict[str, Any]]
Execute = Callable[[str, dict[str, Any]], str]


@dataclass(frozen=True)
class Rewrite:
    """A habit as it would turn out: its name and the calls that replace one call (none: it is left
    out)."""

    habit: str
    calls: tuple[Made, ...]


def with_habits(demonstration: Record | Trajectory, problem: Problem, rng: Random, *,
                probability: float = 0.6,
                max_turns: int = 5) -> Trajectory:
    """A clean trajectory made imperfect, with the same boxed answer.

    Args:
        demonstration: an accepted teacher trajectory (or its Record): one executed call a turn,
            then the answer.
        problem: the problem that it solves.
        rng: draws, step by step, whether the tool's habit shows.
        probability: chance of that at each step.
        max_turns: a habit that would need more assistant turns than this is passed over.

    Returns:
        A Trajectory whose `meta["habits"]` names the habits used, in order; producer
        `<producer>+habits`.

    Raises:
        UserError: for a probability outside 0..1, or a demonstration with failed or several calls
            in a turn.
    """
    if not 0 <= probability <= 1:
        raise UserError(f"probability={probability} is not a probability: give a number from 0 to "
                        "1.")
    if "tool_schemas" in problem.meta:
        raise UserError(f"{problem.id!r} brings tools of its own, which cannot be called on the "
                        "side: leave the cold start out (start_run: none), train by sft first, or "
                        "where the source has a split pretrain, set cold_start_level.")
    clean = demonstration.trajectory if isinstance(demonstration, Record) else demonstration
    _check(clean)
    toolbox = load_toolbox(problem.toolbox)
    turns: list[Turn] = []
    used: list[str] = []
    spare = max_turns - len(clean.turns)
    for turn in clean.turns[:-1]:
        wanted = rng.random() < probability
        rewrite = _habit(turn.calls[0], turns, toolbox, spare) if wanted else None
        made = _demonstrate(turn, rewrite, toolbox) if rewrite else [turn]
        spare -= len(made) - 1
        turns += made
        used += [rewrite.habit] if rewrite else []
    return replace(clean, turns=(*turns, clean.turns[-1]), producer=f"{clean.producer}+habits",
                   meta={**clean.meta, "habits": used})


def _check(clean: Trajectory) -> None:
    if (any(len(t.calls) != 1 or not t.calls[0].ok for t in clean.turns[:-1])
        or clean.turns[-1].calls):
        raise UserError(f"Trajectory of {clean.problem_id!r} has a turn without exactly one "
                        "successful call: habits are added to accepted teacher trajectories only.")


def _habit(call: ToolCall, before: list[Turn], toolbox: Toolbox, spare: int) -> Rewrite | None:
    """The tool's most preferred habit that fits the call and the turns left, or None."""
    options = [r for r in [*_invented(call, toolbox), *rewrites(call, toolbox, before)]
               if len(r.calls) - 1 <= spare]
    preferred = PREFERRED.get(call.name, ("invented",))
    return next((r for habit in preferred for r in options if r.habit == habit), None)


def _invented(call: ToolCall, toolbox: Toolbox) -> Iterator[Rewrite]:
    name = INVENTED.get(call.name, f"do_{call.name}")
    if name not in toolbox.tools:
        made = (name, dict(call.arguments))
        yield Rewrite("guessed", (made,))
        yield Rewrite("invented", (made, (call.name, dict(call.arguments))))


def rewrites(call: ToolCall, toolbox: Toolbox, before: list[Turn]) -> list[Rewrite]:
    """Every value-preserving rewrite of a call whose last result is, character for character, the
    call's own.

    `before` are the turns already made; `skipped_abs` needs the argument to be the result of the
    latest.
    """
    def execute(name: str, arguments: dict[str, Any]) -> str:
        observation = toolbox.execute(name, arguments)
        return observation.content if observation.ok else ""

    result = call.observation.content
    found = [r for r in _options(call.name, dict(call.arguments), execute, result)
             if all(name in toolbox.tools for name, _ in r.calls)
             and execute(*r.calls[-1]) == result]
    latest = before[-1].calls[-1].observation if before else None
    if (call.name == "abs_value" and latest is not None
        and latest.content == result == str(call.arguments.get("x"))):
        found.append(Rewrite("skipped_abs", ()))
    return found


def _options(name: str, arguments: dict[str, Any], execute: Execute,
             result: str) -> Iterator[Rewrite]:
    """Candidate rewrites; whether they keep the value is checked by `rewrites`."""
    if name in REWRITES:
        yield from REWRITES[name](arguments, execute)
    value = _json_number(result)
    for check in ("abs_value", "floor", "round_number"):
        if check != name:
            yield Rewrite("redundant", ((name, arguments), (check, {"x": value})))


def _as_one_call(habit: str, tool: str, arguments: dict[str, Any]) -> Iterator[Rewrite]:
    yield Rewrite(habit, ((tool, arguments),))


def _sums(arguments: dict[str, Any], execute: Execute) -> Iterator[Rewrite]:
    numbers = arguments["numbers"]
    if len(numbers) == 2:
        yield from _as_one_call("add_two", "add", {"a": numbers[0], "b": numbers[1]})
    elif len(numbers) > 2:
        yield Rewrite("pairwise_sum", tuple(_pairwise(numbers, execute)))


def _division(arguments: dict[str, Any], _: Execute) -> Iterator[Rewrite]:
    a, b = arguments["a"], arguments["b"]
    if b and (10**4 / Fraction(str(b))).denominator == 1:  # 1/b has at most four decimals
        yield from _as_one_call("by_reciprocal", "multiply", {"a": a, "b": 1 / b})


def _rounding(name: str, arguments: dict[str, Any]) -> Iterator[Rewrite]:
    if set(arguments) == {"x"}:
        for other in ROUNDERS:
            if other != name:
                yield from _as_one_call("other_rounding", other, arguments)


def _power(arguments: dict[str, Any], _: Execute) -> Iterator[Rewrite]:
    if arguments["b"] == 2:
        yield from _as_one_call("square_by_hand", "multiply",
                                {"a": arguments["a"], "b": arguments["a"]})


def _absolute(arguments: dict[str, Any], _: Execute) -> Iterator[Rewrite]:
    if arguments["x"] < 0:
        yield from _as_one_call("negated", "multiply", {"a": arguments["x"], "b": -1})


def _as_sums(a: Any, b: Any) -> Iterator[Rewrite]:
    for value, times in ((a, b), (b, a)):
        if times == 2:
            yield Rewrite("doubled", (("add", {"a": value, "b": value}),))
        elif times in (3, 4, 5):
            yield Rewrite("repeated_sum", (("sum_numbers", {"numbers": [value] * int(times)}),))


def _pairwise(numbers: list[Any], execute: Execute) -> Iterator[Made]:
    total = numbers[0]
    for value in numbers[1:]:
        arguments = {"a": total, "b": value}
        yield "add", arguments
        total = _json_number(execute("add", arguments))


def _json_number(text: str) -> int | float:
    value = Fraction(text)
    return int(value) if value.denominator == 1 else float(value)


def _demonstrate(turn: Turn, rewrite: Rewrite, toolbox: Toolbox) -> list[Turn]:
    """The turns of a rewrite, executed; the first keeps the reasoning of the turn that it
    replaces."""
    later = (MENDED if rewrite.habit == "invented" else CHECKED if rewrite.habit == "redundant"
             else turn.reasoning)
    words = [turn.reasoning] + [later if turn.reasoning else ""] * len(rewrite.calls)
    return [Turn("\n".join(filter(None, [said, render_call(*call)])), "eos",
                 render_environment([toolbox.execute(*call).content]))
            for said, call in zip(words, rewrite.calls, strict=False)]


REWRITES: dict[str, Callable[[dict[str, Any], Execute], Iterator[Rewrite]]] = {
    "sum_numbers": _sums,
    "add": lambda a, _: _as_one_call("sum_of_two", "sum_numbers", {"numbers": [a["a"], a["b"]]}),
    "subtract": lambda a, _: _as_one_call("add_negative", "add", {"a": a["a"], "b": -a["b"]}),
    "multiply": lambda a, _: _as_sums(a["a"], a["b"]),
    "divide": _division,
    "power": _power,
    "sqrt": lambda a, _: _as_one_call("root_as_power", "power", {"a": a["x"], "b": 0.5}),
    **{name: lambda a, _, name=name: _rounding(name, a) for name in ROUNDERS},
    "abs_value": _absolute,
}
