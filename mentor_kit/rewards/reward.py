"""A reward: weighted terms behind a gate. The same object trains, scores on the command line and
plots.

A preset is a YAML file:

    description: one line for tables
    source: where it comes from
    executed_only: false            # count only calls that were carried out (default false)
    judge: strict                   # by which rules answers are judged (default released)
    gate: {not_ended: 0.0, no_answer: 0.1, no_reference_tools: 0.1}   # first that holds decides
    terms:
      answer_right: {weight: 0.7}
      same_tools: {weight: 0.3, when_wrong: 0.2}      # times 0.2 when the answer is wrong
      my_term: {use: "my_package.my_module:my_function", weight: 0.1}
"""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentor_kit.core.chat_markup import render_call
from mentor_kit.core.files import find_path
from mentor_kit.core.plugins import load_object
from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError, did_you_mean
from mentor_kit.judging.judge import RULES
from mentor_kit.rewards.context import RewardContext
from mentor_kit.rewards.terms import TERMS

PRESET_FOLDER = Path(__file__).parent / "presets"
PRESETS = ("sparse", "mentor", "any_overlap", "no_tool_match", "set_f1", "count_f1", "ordered",
           "arguments", "strict",
           "executed", "matchtir", "toolrl", "mentor_fixed", "mentor_no_hygiene",
           "strict_no_hygiene")

GATES: dict[str, Callable[[RewardContext], bool]] = {
    "not_ended": lambda context: context.student.finish in ("length", "error"),
    "no_answer": lambda context: context.answer is None,
    "no_reference_tools": lambda context: not context.reference_calls,
}


@dataclass(frozen=True)
class Score:
    """A rollout's reward: `terms` (name -> weighted contribution) sum to `total`; a gated one has
    the term `gate`."""

    total: float
    terms: Mapping[str, float]


@dataclass(frozen=True)
class Term:
    """One weighted term; `when_wrong` multiplies it when the final answer is wrong."""

    name: str
    function: Callable[[RewardContext], float]
    weight: float = 1.0
    when_wrong: float = 1.0

    def __call__(self, context: RewardContext) -> float:
        value = self.weight * self.function(context)
        if self.when_wrong == 1.0 or context.verdict.correct:
            return value
        return value * self.when_wrong


@dataclass(frozen=True)
class PlainFunction:
    """A user's function (problem, reference, student) -> float as a term.

    Raises:
        UserError: it cannot take three arguments; or called, it raised or returned no finite
            number.
    """

    function: Callable[[Problem, Trajectory | None, Trajectory], float]

    def __post_init__(self) -> None:
        try:
            inspect.signature(self.function).bind("problem", "reference", "student")
        except (TypeError, ValueError) as error:
            raise UserError(
                f"Reward function {self.name} cannot be called with (problem, "
                f"reference, student) ({error}): give it these three arguments."
            ) from None

    @property
    def name(self) -> str:
        """module:name."""
        named = self.function if hasattr(self.function, "__qualname__") else type(self.function)
        return f"{named.__module__}:{named.__qualname__}"

    def __call__(self, context: RewardContext) -> float:
        value = self._returned(context)
        if isinstance(value, Score):
            value = value.total
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"Reward function {self.name} returned {value!r} for problem "
                            f"{context.problem.id!r}: it must return a finite number.")
        return number

    def _returned(self, context: RewardContext) -> Any:
        try:
            return self.function(context.problem, context.reference, context.student)
        except Exception as error:
            # after this frame: the function's own
            place = traceback.extract_tb(error.__traceback__)[:2][-1]
            raise UserError(f"Reward function {self.name} raised {type(error).__name__}: "
                            f"{' '.join(str(error).split())} ({Path(place.filename).name}, line "
                            f"{place.lineno}) for problem {context.problem.id!r}.") from error


@dataclass(frozen=True)
class Reward:
    """Terms behind a gate; picklable, and pure: the same stored rollout always gets the same score.

    Args:
        name: preset name, file stem or function name.
        terms: weighted terms, summed in this order.
        gate: (condition, value) in the order they are tried; the first that holds is the whole
            score.
        executed_only: count only calls that were carried out without an error.
        judge: the rules of `mentor_kit.judging.judge`, `released` or `strict`.
    """

    name: str
    terms: tuple[Term, ...]
    gate: tuple[tuple[str, float], ...] = ()
    executed_only: bool = False
    description: str = ""
    source: str = ""
    judge: str = "released"

    def __call__(self, problem: Problem, reference: Trajectory | None,
                 student: Trajectory) -> Score:
        """Score one rollout.

        Raises:
            UserError: the problem's toolbox does not exist, or a user's function raised or did not
                return a number.
        """
        context = RewardContext(problem, reference, student, self.executed_only, self.judge)
        for condition, value in self.gate:
            if GATES[condition](context):
                return Score(value, {"gate": value})
        terms = {t.name: float(t(context)) for t in self.terms}
        return Score(sum(terms.values()), terms)


def load_reward(spec: str | Reward | Callable[..., float]) -> Reward:
    """A reward by preset name, path of a YAML file, or `package.module:name` (a Reward or a plain
    function).

    A plain function (problem, reference, student) -> float becomes a reward of one term named after
    it.

    Raises:
        UserError: for an unknown name, a missing or invalid file, an object of another kind, or a
            function that cannot take these three arguments.
    """
    if isinstance(spec, Reward):
        return spec
    if callable(spec):
        name = getattr(spec, "__name__", type(spec).__name__)
        return Reward(name, (Term(name, PlainFunction(spec)),),
                      description=(spec.__doc__ or "").split("\n")[0])
    if spec in PRESETS:
        return reward_from_file(PRESET_FOLDER / f"{spec}.yaml")
    if spec.endswith((".yaml", ".yml")):
        return reward_from_file(find_path(spec))
    if ":" not in spec:
        raise UserError(f"Unknown reward {spec!r}{did_you_mean(spec, PRESETS)} It may also be "
                        "the path of a YAML file, or 'package.module:name' for a function of "
                        "yours, looked for in the working folder.")
    found = load_object(spec, "reward")
    if not callable(found):
        raise UserError(f"reward {spec!r} is a {type(found).__name__}: it must be a Reward or a "
                        "function (problem, reference, student) -> float.")
    return load_reward(found)


def reward_from_file(path: Path) -> Reward:
    """Read a preset file (format: this module's docstring)."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"Reward file {str(path)!r} cannot be read ({str(error).splitlines()[0]})."
        ) from error
    data = _mapping(data, path, "the file",
                    {"description", "source", "executed_only", "judge", "gate", "terms"})
    gate = _mapping(data.get("gate") or {}, path, "gate", set(GATES))
    terms = _mapping(data.get("terms"), path, "terms", None)
    if not terms:
        raise UserError(f"Reward file {str(path)!r} has no terms: name at least one of "
                        f"{', '.join(TERMS)}.")
    judge = data.get("judge", "released")
    if judge not in RULES:
        raise UserError(f"Reward file {str(path)!r}: judge is {judge!r}; it must be one of "
                        f"{', '.join(RULES)}.")
    return Reward(path.stem, tuple(_term(name, entry, path) for name, entry in terms.items()),
                  tuple((g, _number(gate[g], path, f"gate {g}")) for g in GATES if g in gate),
                  data.get("executed_only") is True, str(data.get("description", "")),
                  str(data.get("source", "")), judge)


def _term(name: str, entry: Any, path: Path) -> Term:
    entry = _mapping(entry, path, f"term {name!r}", {"use", "weight", "when_wrong"})
    use = str(entry.get("use", name))
    if use not in TERMS and ":" not in use:
        raise UserError(f"Reward file {str(path)!r}: unknown term {use!r}; use one of "
                        f"{', '.join(TERMS)}, or 'package.module:name'.")
    function = TERMS.get(use) or PlainFunction(load_object(use, "reward term"))
    return Term(str(name), function, _number(entry.get("weight", 1.0), path, f"weight of {name!r}"),
                _number(entry.get("when_wrong", 1.0), path, f"when_wrong of {name!r}"))


def _mapping(value: Any, path: Path, what: str, allowed: set[str] | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"Reward file {str(path)!r}: {what} must be a mapping, got {value!r}.")
    for key in value:
        if allowed is not None and key not in allowed:
            raise UserError(f"Reward file {str(path)!r}: {what} has an unknown key {key!r}; it may "
                            f"hold {', '.join(sorted(allowed))}.")
    return value


def _number(value: Any, path: Path, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"Reward file {str(path)!r}: {what} is {value!r}; it must be a finite "
                        "number (in YAML 1e-6 is a text: write 1.0e-6).")
    return float(value)


def is_reward(spec: str) -> bool:
    """Whether `load_reward` takes it."""
    try:
        return bool(load_reward(spec))
    except UserError:
        return False


def reference_from_names(names: Iterable[str], problem_id: str = "") -> Trajectory:
    """A reference trajectory for data that has only the teacher's tool names: calls without
    arguments."""
    text = "\n".join(render_call(name, None) for name in names)
    return Trajectory(problem_id, (Turn(text),), producer="teacher:names")


def presets_table() -> list[dict[str, Any]]:
    """One row a preset: name, description, formula, source. For notebook 02."""
    return [{"preset": r.name, "description": r.description, "formula": formula(r),
             "source": r.source}
            for r in map(load_reward, PRESETS)]


def formula(reward: Reward) -> str:
    """The weighted sum in one line, e.g. `0.7 answer_right + 0.3 same_tools (x0.2 when wrong)`."""
    return " + ".join(f"{t.weight:g} {t.name}"
                      + (f" (x{t.when_wrong:g} when wrong)" if t.when_wrong != 1 else "")
                      for t in reward.terms)
