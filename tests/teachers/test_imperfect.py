"""Imperfect demonstrations: every habit by hand, values kept, turns bounded, seeds respected."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.judging.judge import final_answer
from mentor_kit.problems import load_problems
from mentor_kit.teachers.imperfect import INVENTED, rewrites, with_habits
from mentor_kit.teachers.worked_solution import WorkedSolutionTeacher

TOOLBOX = load_toolbox("arithmetic")
TEACHER = WorkedSolutionTeacher()


def demonstrate(question, answer, *program):
    calls = [{"tool": tool, "arguments": arguments} for tool, arguments in program]
    item = Problem("h/0", question, (answer,), "test", "train", meta={"program": calls})
    attempt = TEACHER.solve(item)
    assert attempt.accepted, attempt.reason
    return item, attempt.trajectory


def found(tool, arguments):
    """Habit -> the calls that it makes of one call, redundant ones left out."""
    numbers = [v for a in arguments.values() for v in (a if isinstance(a, list) else [a])]
    answer = TOOLBOX.execute(tool, arguments).content
    _, clean = demonstrate(" ".join(map(str, numbers)), answer, (tool, arguments))
    return [(r.habit, r.calls) for r in rewrites(clean.calls[0], TOOLBOX, [])
            if r.habit != "redundant"]


@pytest.mark.parametrize(("tool", "arguments", "habit", "calls"), [
    ("sum_numbers", {"numbers": [1, 2, 4]}, "pairwise_sum",
     (("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4}))),
    ("sum_numbers", {"numbers": [1, 2]}, "add_two", (("add", {"a": 1, "b": 2}),)),
    ("add", {"a": 1, "b": 2}, "sum_of_two", (("sum_numbers", {"numbers": [1, 2]}),)),
    ("subtract", {"a": 9, "b": 4}, "add_negative", (("add", {"a": 9, "b": -4}),)),
    ("multiply", {"a": 7, "b": 2}, "doubled", (("add", {"a": 7, "b": 7}),)),
    ("multiply", {"a": 7, "b": 3}, "repeated_sum", (("sum_numbers", {"numbers": [7, 7, 7]}),)),
    ("divide", {"a": 30, "b": 4}, "by_reciprocal", (("multiply", {"a": 30, "b": 0.25}),)),
    ("power", {"a": 7, "b": 2}, "square_by_hand", (("multiply", {"a": 7, "b": 7}),)),
    ("sqrt", {"x": 49}, "root_as_power", (("power", {"a": 49, "b": 0.5}),)),
    ("floor", {"x": 4.2}, "other_rounding", (("round_number", {"x": 4.2}),)),
    ("abs_value", {"x": -3}, "negated", (("multiply", {"a": -3, "b": -1}),)),
])
def test_each_habit(tool, arguments, habit, calls):
    assert found(tool, arguments) == [(habit, calls)]


@pytest.mark.parametrize(("tool", "arguments"), [
    ("divide", {"a": 30, "b": 7}), ("multiply", {"a": 7, "b": 8}), ("power", {"a": 2, "b": 3}),
    ("round_number", {"x": 2.345, "digits": 2}), ("modulo", {"a": 9, "b": 4})])
def test_calls_without_a_detour(tool, arguments):
    assert found(tool, arguments) == []


def test_redundant_call_changes_nothing():
    _, clean = demonstrate("1 from 4.5", "3.5", ("subtract", {"a": 4.5, "b": 1}))
    redundant = [r.calls for r in rewrites(clean.calls[0], TOOLBOX, []) if r.habit == "redundant"]
    # floor would change it
    assert redundant == [(("subtract", {"a": 4.5, "b": 1}), ("abs_value", {"x": 3.5}))]


def test_invented_name_is_mended():
    item, clean = demonstrate("6 times 7", "42", ("multiply", {"a": 6, "b": 7}))
    made = with_habits(clean, item, Random(0), probability=1)
    wrong, right = made.calls
    assert wrong.name == INVENTED["multiply"] and wrong.arguments == {"a": 6, "b": 7}
    assert wrong.observation.content == str({"error": f"Tool {wrong.name} not found."})
    assert (right.name, right.observation.content) == ("multiply", "42")
    assert [t.reasoning for t in made.turns] == ["Multiply.", "That tool is unknown.",
                                                 "The answer is \\boxed{42}."]
    assert made.meta["habits"] == ["invented"] and made.producer == "teacher:worked_solution+habits"


def test_a_guess_goes_on_without_the_result():
    item, clean = demonstrate("9 minus 4", "5", ("subtract", {"a": 9, "b": 4}))
    made = with_habits(clean, item, Random(0), probability=1, max_turns=2)
    assert (
        made.tool_names == ("minus",) and not made.calls[0].ok and made.turns[-1] == clean.turns[-1]
    )
    assert made.meta["habits"] == ["guessed"]


def test_invented_names_are_no_tools():
    assert set(INVENTED) == set(TOOLBOX.names)
    assert not set(INVENTED.values()) & set(TOOLBOX.names)


def test_skipped_absolute_value():
    item, clean = demonstrate("1 and 4", "5", ("add", {"a": 1, "b": 4}),
                              ("abs_value", {"x": {"result": 0}}))
    made = with_habits(clean, item, Random(0), probability=1, max_turns=3)
    assert made.meta["habits"] == ["sum_of_two", "skipped_abs"]
    assert made.tool_names == ("sum_numbers",) and made.turns[-1] == clean.turns[-1]


def test_no_habit_without_turns_to_spare():
    item, clean = demonstrate("6 times 7", "42", ("multiply", {"a": 6, "b": 7}))
    assert with_habits(clean, item, Random(0), probability=1, max_turns=2).turns == clean.turns


def test_probability_zero_is_the_clean_trajectory():
    item, clean = demonstrate("6 times 7", "42", ("multiply", {"a": 6, "b": 7}))
    assert with_habits(clean, item, Random(0), probability=0).to_text() == clean.to_text()


def test_record_is_accepted_and_seed_decides():
    item, clean = demonstrate("6 times 7", "42", ("multiply", {"a": 6, "b": 7}))
    texts = {with_habits(Record(item, clean), item, Random(i)).to_text() for i in range(20)}
    assert len(texts) == 2
    assert with_habits(clean, item, Random(3)).to_text() == with_habits(clean, item,
                                                                        Random(3)).to_text()


@pytest.mark.parametrize("probability", [1.2, -1])
def test_bad_probability(probability):
    item, clean = demonstrate("6 times 7", "42", ("multiply", {"a": 6, "b": 7}))
    with pytest.raises(UserError, match="not a probability"):
        with_habits(clean, item, Random(0), probability=probability)


def test_unclean_demonstration_is_refused():
    item, clean = demonstrate("6 times 7", "42", ("multiply", {"a": 6, "b": 7}))
    for turns in ((Turn("no call"), *clean.turns), (clean.turns[0],)):
        with pytest.raises(UserError, match="without exactly one successful call"):
            with_habits(Trajectory("h/0", turns), item, Random(0))


@pytest.fixture(scope="module")
def demonstrations():
    problems = load_problems("gsm_symbolic", 0, {"train": 120}) + load_problems(
        "arithmetic_stories", 0, {"train": 80}
    )
    return [(p, a.trajectory) for p in problems for a in [TEACHER.solve(p)] if a.accepted]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), probability=st.floats(0, 1), max_turns=st.integers(4, 8))
def test_answer_and_observations_stay_right(demonstrations, seed, probability, max_turns):
    """Every habit keeps the boxed answer, and every observation is what the toolbox gives again."""
    rng = Random(seed)
    for item, clean in rng.sample(demonstrations, 15):
        made = with_habits(clean, item, rng, probability=probability, max_turns=max_turns)
        assert made.turns[-1] == clean.turns[-1] and final_answer(made) == final_answer(clean)
        assert len(made.turns) <= max(max_turns, len(clean.turns))
        assert all(TOOLBOX.execute(c.name, c.arguments) == c.observation for c in made.calls)
        assert {c.name for c in made.calls if not c.ok} <= set(INVENTED.values())
        assert Trajectory.from_text(made.to_text(), item.id, producer=made.producer,
                                    meta=made.meta) == made


def test_rates_of_the_default_recipe(demonstrations):
    """Both alignment terms have something to teach: many unknown tools, and sets unlike the
    teacher's."""
    made = [(clean, with_habits(clean, p, Random(i))) for i,
            (p, clean) in enumerate(demonstrations)]
    unknown = sum(any(not c.ok for c in m.calls) for _, m in made) / len(made)
    match = sum({c.name for c in m.calls if c.ok} == set(t.tool_names) for t, m in made) / len(made)
    assert 0.3 < unknown < 0.7 and 0.2 < match < 0.6
