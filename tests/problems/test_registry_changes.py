"""The registry's desk: what its splits share (nothing), that answers hang on the change, and that a
verdict looks at the table as well as at the box."""

from __future__ import annotations

import pytest

from mentor_kit.collection.collect import attempt
from mentor_kit.core.chat_markup import render_call
from mentor_kit.core.environment import make_environment
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.judging.verdicts import judge_trajectory
from mentor_kit.problems import load_problems
from mentor_kit.problems.registry.changes import ASSIGN, CHANGED, SPLITS, UNCHANGED, load
from mentor_kit.problems.registry.world import ENTITIES, TABLE, follow
from mentor_kit.rewards import load_reward
from mentor_kit.teachers import load_teacher
from mentor_kit.teachers.imperfect import with_habits

SIZES = dict.fromkeys(SPLITS, 40)
TEACHER = load_teacher("worked_solution", reasoning="none")


@pytest.fixture(scope="module")
def records():
    return [attempt(p, TEACHER) for p in load_problems("registry_changes", 0, SIZES)]


def of(records, split):
    return [r for r in records if r.problem.split == split]


def entries(problem):
    return [step["arguments"]["entry"] for step in problem.meta["program"]
            if step["tool"] == ASSIGN]


def first_change(problem):
    program = problem.meta["program"]
    return repr(program[:[step["tool"] for step in program].index(ASSIGN) + 1])


def played(problem, *texts):
    desk = make_environment(problem)
    return Trajectory(problem.id, tuple(desk.answered(text) for text in texts), "student:told")


def change(person, entry, value):
    return render_call(ASSIGN, {"person": person, "entry": entry, "value": value})


def test_the_teacher_solves_every_problem_in_an_environment_of_its_own(records):
    for record in records:
        problem, trajectory = record.problem, record.trajectory
        assert trajectory.meta["accepted"], trajectory.meta
        assert len(trajectory.calls) == sum(problem.meta["calls_per_message"])
        assert [t.user for t in trajectory.turns if t.user] == [
            later["message"] for later in problem.meta["later_turns"]]
        assert judge_trajectory(problem, trajectory)["correct"]


def test_no_two_splits_share_a_change(records):
    others = [attempt(p, TEACHER) for p in load(1, {"train": 40, "in_domain": 40})]
    seen = {s: {first_change(r.problem) for r in of(records + others, s)} for s in SPLITS}
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))
    assert load(0, {"longer": 5}) == [r.problem for r in of(records, "longer")][:5]


def test_each_split_moves_one_thing(records):
    for record in records:
        problem = record.problem
        assert len(problem.meta["changes"]) == len(entries(problem)) == (
            2 if problem.split == "second_change" else len(entries(problem)))
        if problem.split != "pretrain":
            allowed = UNCHANGED if problem.split == "unseen_change" else CHANGED
            assert set(entries(problem)) <= set(allowed)
            people = {c.arguments.get("person") for c in record.trajectory.calls}
            assert people <= set(ENTITIES.seen)
    lengths = {s: [len(r.trajectory.calls) for r in of(records, s)] for s in SPLITS}
    assert sum(lengths["longer"]) > sum(lengths["in_domain"]) + 40
    assert {len(r.problem.meta["later_turns"]) for r in of(records, "train")} == {0, 1}
    assert {len(r.problem.meta["later_turns"]) for r in of(records, "second_change")} == {2}


def test_whoever_changes_nothing_reads_another_number(records):
    for record in records:
        program = record.problem.meta["program"]
        last = max(k for k, step in enumerate(program) if step["tool"] == ASSIGN)
        question = program[last + 1:]
        found = follow(question[0]["arguments"]["person"], [step["tool"] for step in question])
        assert found[-1] != record.problem.answers[0]


def test_a_right_number_over_a_wrong_table_is_wrong(records):
    record = of(records, "train")[0]
    problem, *texts = record.problem, *(t.text for t in record.trajectory.turns)
    person, entry, _ = problem.meta["changes"][0]
    other = next(p for p in ENTITIES.seen if problem.meta["changes"][0] != [p, "boss", "Anna"]
                 and TABLE["boss"][p] != "Anna" and (p, "boss") != (person, entry))
    extra = played(problem, change(other, "boss", "Anna"), *texts)
    undone = played(problem, change(other, "boss", "Anna"),
                    change(other, "boss", TABLE["boss"][other]), *texts)
    only_answer = Trajectory(problem.id, (Turn(texts[-1]),))
    assert judge_trajectory(problem, undone)["correct"]
    for wrong in (extra, only_answer):
        verdict = judge_trajectory(problem, wrong)
        assert (verdict["correct"], verdict["judged_by"]) == (False, "state")
        assert load_reward("sparse")(problem, record.trajectory, wrong).total < load_reward(
            "sparse")(problem, record.trajectory, undone).total
    wrong_box = played(problem, *texts[:-1], "The answer is \\boxed{-1}.")
    assert judge_trajectory(problem, wrong_box)["judged_by"] == "exact"


def test_the_table_is_an_attempts_own_and_takes_what_fits(records):
    problem = of(records, "train")[0].problem
    first, second = make_environment(problem), make_environment(problem)
    assert first.toolbox.execute(ASSIGN, {"person": "Anna", "entry": "boss", "value": "Theo"}).ok
    assert first.toolbox.execute("boss", {"person": "Anna"}).content == "Theo"
    assert second.toolbox.execute("boss", {"person": "Anna"}).content == TABLE["boss"]["Anna"]
    for person, entry, value in (("Nobody", "boss", "Theo"), ("Anna", "manager", "Theo"),
                                 ("Anna", "boss", "217"), ("Anna", "room", "Theo"),
                                 ("Anna", "room", "9")):
        assert not first.answered(change(person, entry, value)).calls[0].ok
    broken = first.step(Turn("<tool_call>\nno call\n</tool_call>"))
    assert broken is None, "a turn that cannot be read ends the attempt"


def test_what_cannot_be_asked_is_refused(records):
    with pytest.raises(UserError, match="registry_changes has no split 'nowhere'"):
        load(0, {"nowhere": 1})
    with pytest.raises(UserError, match="must not be negative"):
        load(0, {"train": -1})
    record = of(records, "train")[0]
    with pytest.raises(UserError, match="a call may change the state"):
        attempt(record.problem, load_teacher("quirky"))
    with pytest.raises(UserError, match="brings tools of its own"):
        with_habits(record, record.problem, None)
