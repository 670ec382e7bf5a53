"""Rewards: the released scores, the pathologies on record, and the properties the repaired preset
promises."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentor_kit.core.problem import Problem
from mentor_kit.core.records import load_records, save_records
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.rewards import (
    PRESETS,
    Score,
    formula,
    load_reward,
    presets_table,
    reference_from_names,
)
from mentor_kit.rewards.behaviours import (
    MULTIPLY,
    PROBLEM,
    REFERENCE,
    RIGHT,
    SUBTRACT,
    WRONG,
    behaviours,
    rollout,
)
from mentor_kit.rewards.context import RewardContext, canonical
from mentor_kit.rewards.reward import PRESET_FOLDER
from mentor_kit.rewards.terms import (
    TERMS,
    call_match,
    matched_credit,
    same_arguments,
    tool_order,
    turn_credits,
)

CASES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data/reward_parity.jsonl").open(encoding="utf-8")
]
RELEASED = {"mentor": "mentor", "sparse": "sparse", "any_overlap": "ablation2",
            "no_tool_match": "ablation3",
            "set_f1": "ablation4"}
REWARDS = {name: load_reward(name) for name in PRESETS}
BEHAVIOURS = dict(behaviours())


def total(preset: str, student: Trajectory | str,
          reference: Trajectory | None = REFERENCE) -> float:
    student = BEHAVIOURS[student].trajectory if isinstance(student, str) else student
    return REWARDS[preset](PROBLEM, reference, student).total


@pytest.mark.parametrize("preset", RELEASED)
def test_released_scores(preset):
    assert len(CASES) == 160
    for case in CASES:
        golds = case["ground_truth"]
        problem = Problem(str(case["id"]), "?", (golds,) if isinstance(golds, str)
                          else tuple(golds), "cases", "parity")
        score = REWARDS[preset](problem, reference_from_names(case["teacher_tools"]),
                                Trajectory.from_text(case["response"]))
        assert score.total == pytest.approx(case["scores"][RELEASED[preset]], abs=1e-6), case["id"]
        assert sum(score.terms.values()) == pytest.approx(score.total, abs=1e-12)


def test_terms_are_weighted_contributions_and_a_gate_stands_alone():
    score = REWARDS["mentor"](PROBLEM, REFERENCE, REFERENCE)
    assert score.terms == {"answer_right": 0.7, "same_tools": 0.3, "no_unknown_tool": 0.1}
    wrong = REWARDS["mentor"](PROBLEM, REFERENCE, rollout([MULTIPLY, SUBTRACT], WRONG))
    assert wrong.terms == pytest.approx({"answer_right": 0.0, "same_tools": 0.06,
                                         "no_unknown_tool": 0.1})
    assert REWARDS["mentor"](PROBLEM, None, REFERENCE) == Score(0.1, {"gate": 0.1})
    assert REWARDS["mentor"](PROBLEM, REFERENCE, BEHAVIOURS["not ended"].trajectory) == Score(
        0.0, {"gate": 0.0}
    )


# what the released formulas pay: right + extra valid tool 0.8, right + hallucinated tool 1.0, ...
PATHOLOGIES = [
    ("mentor", "perfect", 1.1), ("mentor", "extra valid tool", 0.8),
    ("mentor", "hallucinated tool", 1.0),
    ("mentor", "never executed", 1.1), ("mentor", "dummy calls", 1.1),
    ("mentor", "repeated calls", 1.1),
    ("mentor", "other order", 1.1), ("mentor", "malformed call", 1.1),
    ("mentor", "missing tool", 0.8),
    ("mentor", "wrong answer, hallucinated tool", 0.0), ("mentor", "no box", 0.1),
    ("mentor", "not ended", 0.0),
    ("sparse", "no tools", 1.0), ("sparse", "wrong answer, right tools", 0.1),
    ("any_overlap", "hallucinated tool", 1.0),
    ("no_tool_match", "no tools", 0.8), ("set_f1", "extra valid tool", 1.04),
    ("set_f1", "missing tool", 1.0),
    ("strict", "other order", 0.8), ("strict", "perfect", 1.1), ("ordered", "other order", 0.95),
    ("arguments", "dummy calls", 0.8), ("executed", "never executed", 0.8),
    ("count_f1", "repeated calls", 1.0),
    ("matchtir", "dummy calls", 0.95), ("matchtir", "missing tool", 0.95),
    ("toolrl", "dummy calls", 0.8 + 0.9 / 7),
    ("mentor_no_hygiene", "perfect", 1.0), ("mentor_no_hygiene", "hallucinated tool", 1.0),
    ("mentor_no_hygiene", "wrong answer, right tools", 0.06),
    ("strict_no_hygiene", "perfect", 1.0), ("strict_no_hygiene", "other order", 0.7),
    ("mentor_fixed", "perfect", 1.0), ("mentor_fixed", "extra valid tool", 0.95),
    ("mentor_fixed", "hallucinated tool", 0.85), ("mentor_fixed", "never executed", 0.875),
    ("mentor_fixed", "malformed call", 0.85), ("mentor_fixed", "wrong answer, right tools", 0.12),
    ("mentor_fixed", "wrong answer, hallucinated tool", 0.05), ("mentor_fixed", "no box", 0.0)]


@pytest.mark.parametrize(("preset", "behaviour", "expected"), PATHOLOGIES)
def test_what_each_preset_pays(preset, behaviour, expected):
    assert total(preset, behaviour) == pytest.approx(expected, abs=1e-9)


def test_behaviours_are_what_they_are_called():
    context = {name: RewardContext(r.problem, r.reference, r.trajectory)
               for name, r in BEHAVIOURS.items()}
    assert context["hallucinated tool"].unknown == ("count_books",)
    assert context["malformed call"].malformed == 1
    assert not BEHAVIOURS["never executed"].trajectory.calls[-1].executed
    assert not BEHAVIOURS["failed call"].trajectory.calls[-1].ok
    assert context["no box"].answer is None
    assert BEHAVIOURS["not ended"].trajectory.finish == "length"
    assert {n for n, c in context.items() if c.verdict.correct} == set(BEHAVIOURS) - {
        "wrong answer, right tools", "wrong answer, hallucinated tool", "no box", "not ended"}


def test_an_unclosed_call_swallows_the_next_as_in_the_release():
    text = (
        '<tool_call>{"name": '
        '"add"<|im_end|>\n<|im_start|>user\n<tool_response>\nx\n</tool_response><|im_end|>\n'  # noqa: E501
        '<|im_start|>assistant\n<tool_call>{"name": "multiply", "arguments": '
        "{}}</tool_call>\\boxed{100}<|im_end|>"  # noqa: E501
    )
    context = RewardContext(PROBLEM, REFERENCE, Trajectory.from_text(text))
    assert context.names == []
    assert (context.n_written_calls, context.malformed) == (2, 1)


# --- terms by hand
def by_hand(term, student_calls, teacher_calls, **kwargs):
    return term(RewardContext(PROBLEM, rollout(teacher_calls, RIGHT), rollout(student_calls, RIGHT),
                     **kwargs))


A, B, C = ("add", {"a": 1, "b": 2}), ("subtract", {"a": 5, "b": 3}), ("floor", {"x": 1.5})


def test_order():
    assert by_hand(tool_order, [A, B, C], [A, C, B]) == pytest.approx(4 / 6)
    assert by_hand(tool_order, [], []) == 1.0
    assert by_hand(tool_order, [A], []) == 0.0


def test_arguments():
    assert by_hand(same_arguments, [A, ("subtract", {"a": 5, "b": 4})], [A,
                                                                         B]) == pytest.approx(0.5)
    assert by_hand(same_arguments, [("add", {"b": 2.0, "a": 1})], [A]) == 1.0
    names_only = RewardContext(PROBLEM, reference_from_names(["add"]), rollout([A], RIGHT))
    assert same_arguments(names_only) == 1.0
    assert canonical({"b": [4.0], "a": 1.5}) == '{"a":1.5,"b":[4]}'


def test_matchtir_assigns_optimally():
    near, far = ("add", {"a": 1, "b": 9}), ("add", {"a": 8, "b": 9})
    # similarities: near~A (1+1+1)/4, near~A' (1+1+1)/4, far~A' 1/4*(1+1+1), far~A 2/4: best pairs near-A, far-A'  # noqa: E501
    assert by_hand(matched_credit, [near, far], [A, ("add", {"a": 8, "b": 7})]) == pytest.approx(
        (3 / 4 + 3 / 4) / 2
    )
    assert by_hand(matched_credit, [A, C], [A]) == pytest.approx(1 / 2)
    context = RewardContext(PROBLEM, REFERENCE, BEHAVIOURS["dummy calls"].trajectory,
                            executed_only=True)
    assert turn_credits(context) == [0.5, 0.5, 0.0]


def test_toolrl_formula():
    # names {add} & {add, subtract}: 1/2; add: keys 1 + values 1 (a equal); S_max = 1 + (1+2) + (1+2) = 7  # noqa: E501
    assert by_hand(call_match, [("add", {"a": 1, "b": 7})], [A,
                                                             B]) == pytest.approx((0.5 + 1 + 1) / 7)
    assert by_hand(call_match, [A, B], [A, B]) == 1.0
    assert by_hand(call_match, [], [A]) == 0.0


# --- properties
TOOLS = st.sampled_from([MULTIPLY, SUBTRACT, A, B, C, ("abs_value", {"x": -3}),
                         ("invented", {"x": 1}), "not json",
                         ("divide", {"a": 1, "b": 0})])
CALLS = st.lists(TOOLS, max_size=5)
ANSWERS = st.sampled_from([RIGHT, WRONG, "no box", "\\boxed{}"])
ENDS = {name: (max(sum(t.weight for t in r.terms), *(v for _, v in r.gate))) for name,
        r in REWARDS.items()}


@given(st.sampled_from(PRESETS), CALLS, ANSWERS, CALLS)
@settings(max_examples=300, deadline=None)
def test_bounds_and_sum(preset, calls, answer, reference):
    score = REWARDS[preset](PROBLEM, rollout(reference, RIGHT), rollout(calls, answer))
    assert 0 <= score.total <= ENDS[preset] + 1e-12
    assert score.total == pytest.approx(sum(score.terms.values()), abs=1e-12)


@given(st.sampled_from(PRESETS), CALLS, ANSWERS)
@settings(max_examples=100, deadline=None)
def test_gate_order(preset, calls, answer):
    student = rollout(calls, answer)
    cut = Trajectory(student.problem_id,
                     (*student.turns[:-1], Turn(student.turns[-1].text, "length")))
    gate = dict(REWARDS[preset].gate)
    assert REWARDS[preset](PROBLEM, None, cut) == Score(0.0, {"gate": gate["not_ended"]})
    if answer not in (RIGHT, WRONG):
        assert REWARDS[preset](PROBLEM, None, student) == Score(gate["no_answer"],
                                                                {"gate": gate["no_answer"]})


@given(st.sampled_from(PRESETS), CALLS, ANSWERS,
       st.text(st.characters(exclude_characters="<\\", codec="utf-8"), max_size=80))
@settings(max_examples=100, deadline=None)
def test_reasoning_text_does_not_matter(preset, calls, answer, words):
    student = rollout(calls, answer)
    thinking = Trajectory(student.problem_id,
                          tuple(Turn(f"<think>{words}</think>{t.text}", t.finish, t.env_response)
                                                    for t in student.turns))
    assert REWARDS[preset](PROBLEM, REFERENCE, thinking).total == REWARDS[preset](PROBLEM,
                                                                                  REFERENCE,
                                                                                  student).total


@given(st.sampled_from(["sparse", "mentor", "any_overlap", "no_tool_match", "set_f1", "count_f1",
                        "arguments",
                        "executed", "matchtir", "toolrl", "mentor_fixed"]), CALLS, ANSWERS,
       st.randoms())
@settings(max_examples=100, deadline=None)
def test_order_of_calls_does_not_matter_to_set_rewards(preset, calls, answer, random):
    shuffled = random.sample(calls, len(calls))
    assert total(preset, rollout(shuffled, answer)) == pytest.approx(total(preset,
                                                                           rollout(calls, answer)),
                                                                     abs=1e-12)


@given(CALLS, CALLS, CALLS)
@settings(max_examples=150, deadline=None)
def test_fixed_right_beats_wrong_and_a_box_beats_none(right, wrong, reference):
    teacher = rollout(reference, RIGHT)
    scores = [total("mentor_fixed", rollout(calls, answer), teacher)
              for calls, answer in ((right, RIGHT), (wrong, WRONG), (wrong, "no box"))]
    assert scores[0] > scores[1] > scores[2]


@given(CALLS, ANSWERS, CALLS)
@settings(max_examples=150, deadline=None)
def test_fixed_hallucinated_malformed_and_failed_calls_never_pay(calls, answer, reference):
    teacher = rollout(reference, RIGHT)
    before = total("mentor_fixed", rollout(calls, answer), teacher)
    extra_valid = total("mentor_fixed", rollout([*calls, ("sqrt", {"x": 4})], answer), teacher)
    for bad in (("no_such_tool", {}), "{broken", ("divide", {"a": 1, "b": 0})):
        after = total("mentor_fixed", rollout([*calls, bad], answer), teacher)
        assert after <= before + 1e-12
        assert after <= extra_valid + 1e-12


@given(CALLS, st.integers(0, 4))
@settings(max_examples=100, deadline=None)
def test_fixed_a_call_of_the_teachers_never_costs(calls, i):
    reference = [MULTIPLY, SUBTRACT, A, B, C]
    done = [c for c in calls if not isinstance(c, str)]
    if [c[0] for c in done].count(reference[i][0]) < [c[0] for c in reference].count(
        reference[i][0]
    ):
        teacher = rollout(reference, RIGHT)
        assert (total("mentor_fixed", rollout([*calls, reference[i]], RIGHT), teacher)
                >= total("mentor_fixed", rollout(calls, RIGHT), teacher) - 1e-12)


def test_counter_examples_of_the_released_formulas():
    assert total("mentor", "hallucinated tool") > total("mentor", "extra valid tool")
    assert total("mentor", "no box") > total("mentor", "wrong answer, hallucinated tool")
    assert total("mentor", "never executed") == total("mentor", "dummy calls") == total("mentor",
                                                                                        "perfect")


# --- presets and users' rewards
def share_of_calls(problem, reference, student):
    """Plain user function."""
    return min(len(student.calls), 2) / 2


def broken(problem, reference, student):
    return float("nan")


def test_presets_are_the_files_and_a_table():
    assert sorted(PRESETS) == sorted(p.stem for p in PRESET_FOLDER.glob("*.yaml"))
    rows = presets_table()
    assert [r["preset"] for r in rows] == list(PRESETS)
    assert all(r["description"] and r["source"] and r["formula"] for r in rows)
    assert (
        formula(REWARDS["mentor"])
        == "0.7 answer_right + 0.3 same_tools (x0.2 when wrong) + 0.1 no_unknown_tool"
    )
    assert all(f.__doc__ for f in TERMS.values())


@pytest.mark.parametrize("preset", PRESETS)
def test_pickle(preset):
    copy = pickle.loads(pickle.dumps(REWARDS[preset]))
    assert copy == REWARDS[preset]
    assert copy(PROBLEM, REFERENCE, REFERENCE) == REWARDS[preset](PROBLEM, REFERENCE, REFERENCE)


def test_a_plain_function_is_a_reward():
    for spec in (share_of_calls, f"{__name__}:share_of_calls"):
        reward = load_reward(spec)
        assert (reward.name, reward.description) == ("share_of_calls", "Plain user function.")
        assert reward(PROBLEM, None, rollout([A], RIGHT)) == Score(0.5, {"share_of_calls": 0.5})
        assert pickle.loads(pickle.dumps(reward)) == reward
    assert load_reward(REWARDS["mentor"]) is REWARDS["mentor"]
    with pytest.raises(UserError, match="finite number"):
        load_reward(broken)(PROBLEM, None, REFERENCE)


def nothing(problem, reference, student):
    pass


def raising(problem, reference, student):
    raise KeyError("no such\ncall")


def test_what_a_plain_function_does_wrong_names_it():
    with pytest.raises(
        UserError,
        match=f"^Reward function {__name__}:nothing returned None for problem '{PROBLEM.id}'",
    ):
        load_reward(nothing)(PROBLEM, None, REFERENCE)
    with pytest.raises(
        UserError,
        match=f"{__name__}:raising raised KeyError: .* .test_rewards.py, line .*'{PROBLEM.id}'",
    ) as error:
        load_reward(raising)(PROBLEM, None, REFERENCE)
    assert "\n" not in str(error.value) and isinstance(error.value.__cause__, KeyError)
    for function in (lambda problem, reference: 1.0, lambda problem, reference, student, /,
                     weight: 1.0):
        with pytest.raises(UserError, match="cannot be called with .problem, reference, student."):
            load_reward(function)
    assert load_reward(lambda *arguments, weight=1.0: weight)(PROBLEM, None, REFERENCE).total == 1.0


def test_a_users_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"terms:\n  answer_right: {{weight: 0.5}}\n  mine: {{use: '{__name__}:share_of_calls', "
        "weight: 0.5, "  # noqa: E501
        "when_wrong: 0}\n"
    )
    assert load_reward(str(path))(PROBLEM, None, REFERENCE).terms == {"answer_right": 0.5,
                                                                      "mine": 0.5}
    assert load_reward(str(path))(PROBLEM, None, rollout([A], WRONG)).total == 0.0


def test_a_users_file_may_name_the_strict_judge(tmp_path):
    path = tmp_path / "mine.yaml"
    hedged = rollout([], "It is \\boxed{100 or 124}.")
    scores = {}
    for judge in ("released", "strict"):
        path.write_text(f"judge: {judge}\nterms: {{answer_right: {{}}}}")
        scores[judge] = load_reward(str(path))(PROBLEM, None, hedged).total
    wrong = Problem("p", "?", ("124",), "s", "train")
    assert load_reward("sparse")(wrong, REFERENCE, hedged).total == 1
    assert load_reward(str(path))(wrong, REFERENCE, hedged).total == 0
    assert scores == {"released": 0.0, "strict": 0.0}


@pytest.mark.parametrize(("text", "reason"), [
    ("judge: loose\nterms: {answered: {}}", "judge is 'loose'"),
    ("terms: {}", "no terms"), ("terms: [1]", "must be a mapping"),
    ("a: 1\nterms: {answered: {}}", "unknown key 'a'"),
    ("terms: {same_tool: {}}", "unknown term 'same_tool'"),
    ("terms: {answered: {weight: 1e-6}}", "1.0e-6"),
    ("gate: {no_box: 1}\nterms: {answered: {}}", "unknown key 'no_box'"),
    ("terms: {answered: {weight: .inf}}", "finite"),
    ("terms: {a: ", "cannot be read"),
    ("terms: {x: {use: 'no.such:thing'}}", "cannot be imported")])
def test_bad_files_say_what_is_wrong(tmp_path, text, reason):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=reason):
        load_reward(str(path))


def test_unknown_names_say_what_is_known(tmp_path):
    with pytest.raises(UserError, match="did you mean 'mentor'"):
        load_reward("mentr")
    with pytest.raises(UserError, match="cannot be read"):
        load_reward(str(tmp_path / "none.yaml"))
    with pytest.raises(UserError, match="must be a Reward or a function"):
        load_reward("mentor_kit.core.arguments:MAX_LIST")


def test_known_tools_follow_the_problem():
    problem = Problem("p", "?", ("100",), "s", "t",
                      meta={"tools": ["multiply", "subtract", "count_books"]})
    counted = RewardContext(problem, REFERENCE, BEHAVIOURS["hallucinated tool"].trajectory)
    assert counted.unknown == ()
    arithmetic = frozenset(load_toolbox("arithmetic").names)
    assert RewardContext(PROBLEM, None, REFERENCE).known == arithmetic


def test_reference_from_names_survives_storage(tmp_path):
    reference = reference_from_names(["add", "add", "floor"], "p")
    assert reference.tool_names == ("add", "add", "floor")
    record = behaviours()[0][1]
    path = save_records(tmp_path / "r.parquet",
                        [type(record)(PROBLEM, record.trajectory, reference)])
    assert load_records(path)[0].reference.tool_names == ("add", "add", "floor")
    assert reference_from_names([]).tool_names == ()
