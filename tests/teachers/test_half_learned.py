"""The registry's cold start: which habits show, how often, and in which stages."""

from __future__ import annotations

from random import Random

import pytest

from mentor_kit.collection.collect import attempt
from mentor_kit.core.chat_markup import EOS
from mentor_kit.core.records import Record
from mentor_kit.errors import UserError
from mentor_kit.judging.verdicts import judge_trajectory
from mentor_kit.problems import load_problems
from mentor_kit.problems.registry.world import WORDS
from mentor_kit.teachers import load_teacher
from mentor_kit.teachers.half_learned import (
    LEVELS,
    MAX_TURNS,
    SIBLINGS,
    Habits,
    curriculum,
    demonstrate,
    stages,
)

NONE = {"repeated": 0.0, "extra": 0.0}


@pytest.fixture(scope="module")
def records() -> list[Record]:
    teacher = load_teacher("worked_solution", reasoning="none")
    return [attempt(p, teacher) for p in load_problems("registry", 0, {"pretrain": 300})]


def shown(records: list[Record], **habits: float) -> list[Record]:
    return [demonstrate(r, Random(i), Habits(**{**NONE, **habits})) for i, r in enumerate(records)]


def chains(records: list[Record]) -> list[tuple[list[str], list[str]]]:
    """What the problem asks, and what the demonstration calls."""
    return [(r.problem.meta["chain"], list(r.trajectory.tool_names)) for r in records]


def test_without_habits_it_is_the_clean_trajectory(records):
    for clean, made in zip(records, shown(records), strict=True):
        assert made.trajectory.turns == clean.trajectory.turns
        assert made.trajectory.meta["habits"] == []


def test_every_habit_does_what_the_table_says(records):
    for asked, called in chains(shown(records, wrong_tool=1.0)):
        assert called == [SIBLINGS[tool] for tool in asked]
    for asked, called in chains(shown(records, reversed=1.0)):
        assert called == [*reversed(asked[:-1]), asked[-1]]
    for asked, called in chains(shown(records, short=1.0)):
        assert called == [*asked[:-2], asked[-1]]
    for asked, called in chains(shown(records, extra=1.0)):
        assert [*called[:-2], called[-1]] == asked
    for asked, called in chains(shown(records, repeated=1.0)):
        room = MAX_TURNS - 1 - len(asked)
        assert len(called) == len(asked) + min(room, len(asked)) and set(called) == set(asked)


def test_an_invented_name_is_mended_half_of_the_time_and_one_of_the_tools_words(records):
    mended = total = 0
    for record in shown(records, invented=1.0):
        calls = record.trajectory.calls
        assert len(record.trajectory.turns) <= MAX_TURNS
        for call, following in zip(calls, [*calls[1:], None], strict=True):
            if call.name in WORDS:
                continue
            tool = next(t for t, words in WORDS.items() if call.name in words)
            assert not call.ok and "not found" in call.observation.content
            total += 1
            mended += following is not None and following.name == tool
    assert 0.35 < mended / total < 0.5, "less than half: a long chain has no turn left for it"


def test_every_turn_and_answer_is_whole_and_the_answer_is_the_last_number(records):
    for record in shown(records, wrong_tool=0.5, invented=0.5, repeated=0.5):
        turns = record.trajectory.turns
        assert all(len(t.calls) == 1 and t.calls[0].executed for t in turns[:-1])
        assert record.trajectory.to_text().endswith("}." + EOS)
        answer = turns[-1].text.partition("{")[2].rstrip("}.")
        assert answer.isdigit()
        if turns[-2].calls[0].ok:
            assert answer == turns[-2].calls[0].observation.content


def test_a_higher_level_is_right_less_often(records):
    narrow = [r for r in records if r.problem.meta["n_calls"] in (2, 3)]
    rates = []
    for level in LEVELS.values():
        made = [demonstrate(r, Random(i), level) for i, r in enumerate(narrow * 5)]
        rates.append(sum(judge_trajectory(r.problem, r.trajectory)["correct"] for r in made)
                     / len(made))
    assert rates == sorted(rates, reverse=True) and rates[0] > 0.2 and rates[-1] < 0.03, rates


def test_stages_keep_their_shares_of_the_steps():
    assert [p.steps for p in stages("mid", 1400)] == [1000, 250, 150]
    assert sum(p.steps for p in stages("mid", 7)) == 7
    assert [p.habits for p in stages("easy", 1400)][1:] == [LEVELS["hard"], LEVELS["easy"]]
    with pytest.raises(UserError, match="cold_start_level='odd'"):
        stages("odd", 10)


def test_the_curriculum_is_clean_then_partly_then_all_with_habits(records):
    (clean, a), (some, b), (all_, c) = curriculum(records, "vhard", 1400, seed=0)
    assert (a, b, c) == (1000, 250, 150)
    assert clean == list(records)
    changed = [sum(m is not r for m, r in zip(part, records, strict=True)) / len(records)
               for part in (some, all_)]
    assert abs(changed[0] - 0.6) < 0.1 and changed[1] == 1
    assert curriculum(records, "vhard", 1400, seed=0) == [(clean, a), (some, b), (all_, c)]
    assert curriculum(records, "vhard", 1400, seed=1)[1] != (some, b)
