"""The quirky teacher: right answers, idle calls at the rates asked for."""

from __future__ import annotations

import pytest

from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.problems import load_problems
from mentor_kit.problems.registry.world import ATTRIBUTES, RELATIONS
from mentor_kit.teachers import load_teacher
from mentor_kit.teachers.attempt import reject_reason


def solved(problems: list[Problem], **options) -> list[Trajectory]:
    attempts = [load_teacher("quirky", reasoning="none", **options).solve(p) for p in problems]
    assert all(a.accepted for a in attempts)
    return [a.trajectory for a in attempts]


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return load_problems("registry", 0, {"train": 200}, hops="3-4")


def test_every_answer_is_right_by_the_judge_and_every_call_carried_out(problems):
    for problem, trajectory in zip(problems, solved(problems), strict=True):
        assert reject_reason(trajectory, problem) is None
        assert trajectory.producer == "teacher:quirky"


def test_without_chances_it_is_the_clean_teacher(problems):
    clean = load_teacher("worked_solution", reasoning="none")
    for problem, trajectory in zip(problems, solved(problems, repeat=0, irrelevant=0),
                                   strict=True):
        assert trajectory.turns == clean.solve(problem).trajectory.turns


def test_repeats_come_at_their_rate_and_right_after_the_call(problems):
    repeated = total = 0
    for problem, trajectory in zip(problems, solved(problems, repeat=0.3, irrelevant=0),
                                   strict=True):
        assert [n for i, n in enumerate(trajectory.tool_names)
                if i == 0 or trajectory.calls[i] != trajectory.calls[i - 1]] \
            == problem.meta["chain"]
        repeated += len(trajectory.calls) - problem.meta["n_calls"]
        total += problem.meta["n_calls"]
    assert abs(repeated / total - 0.3) < 0.06


def test_irrelevant_first_calls_come_at_their_rate_and_show_no_held_out_tool(problems):
    irrelevant = 0
    for problem, trajectory in zip(problems, solved(problems, repeat=0, irrelevant=0.4),
                                   strict=True):
        first, *others = trajectory.calls
        if len(trajectory.calls) > problem.meta["n_calls"]:
            irrelevant += 1
            assert first.arguments == others[0].arguments and first.name != others[0].name
            assert [c.name for c in others] == problem.meta["chain"]
        assert set(trajectory.tool_names) <= {*RELATIONS.seen, *ATTRIBUTES.seen}
    assert abs(irrelevant / len(problems) - 0.4) < 0.1


def test_idle_calls_stop_at_the_turn_limit(problems):
    assert all(len(t.turns) == min(2 * p.meta["n_calls"] + 2, 6) for p, t in
               zip(problems, solved(problems, repeat=1, irrelevant=1, max_turns=6), strict=True))


def test_its_calls_depend_on_problem_sample_and_seed_alone(problems):
    again = solved(list(reversed(problems)))
    assert solved(problems) == list(reversed(again))
    assert solved(problems) != solved(problems, seed=1)


def test_it_repeats_calls_of_any_toolbox_but_needs_a_tool_with_the_same_arguments():
    story = load_problems("arithmetic_stories", 0, {"train": 20})
    for problem, trajectory in zip(story, solved(story, repeat=1, max_turns=12), strict=True):
        assert len(trajectory.calls) >= 2 * problem.meta["n_calls"]


@pytest.mark.parametrize("option", ["repeat", "irrelevant"])
def test_what_is_no_chance_is_refused(option):
    with pytest.raises(UserError, match=f"{option}=1.5"):
        load_teacher("quirky", **{option: 1.5})
