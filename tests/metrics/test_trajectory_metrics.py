"""Metrics of trajectories against hand-computed numbers and scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from synthetic_results import trajectory

from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.metrics import samples as s
from mentor_kit.metrics import trajectories as m
from mentor_kit.toolboxes.arithmetic import ARITHMETIC

KNOWN = ARITHMETIC.names
TWICE = ("multiply", {"a": 2, "b": 3})
PLUS = ("add", {"a": 6, "b": 1})
INVENTED = ("calculate", {"a": 1})
TEACHER = trajectory("p", [TWICE, PLUS], "7")


def record(calls, answer, correct, reference=TEACHER, number=0, **meta) -> Record:
    made = trajectory(f"p{number}", calls, answer).with_meta(correct=correct, failure=None, **meta)
    return Record(Problem(f"p{number}", "2 * 3 + 1?", ("7",), "test", "in_domain"), made, reference)


def test_tool_counts_put_unknown_names_in_one_bin_and_skip_malformed_calls():
    broken = Trajectory("p", (Turn("<tool_call>\n{not json\n</tool_call>"),))
    made = trajectory("p", [TWICE, INVENTED, ("solve", {})], "7")
    assert m.tool_counts([made, broken, TEACHER], KNOWN) == {"multiply": 2, m.UNKNOWN: 2, "add": 1}


def test_similarity_by_hand():
    # p = (1/2, 1/2), q = (1, 0), m = (3/4, 1/4): JSD = (0.5 log2(2/3) + 0.5 log2(2) + log2(4/3)) /
    # 2 = 0.311278
    assert m.tool_similarity({"add": 1,
                              "multiply": 1}, {"add": 4}) == pytest.approx(1 - 0.31127812445913283)
    assert m.tool_similarity({"add": 2, "multiply": 4}, {"add": 1,
                                                         "multiply": 2}) == pytest.approx(1)
    assert m.tool_similarity({"add": 2}, {m.UNKNOWN: 2}) == 0
    assert m.tool_similarity({"add": 2}, {}) == m.tool_similarity({}, {}) == 0


counts = st.dictionaries(st.sampled_from([*KNOWN, m.UNKNOWN]), st.integers(0, 50), max_size=6)


@given(counts, counts)
def test_similarity_is_scipys_distance_squared_base_two(p, q):
    names = sorted(set(p) | set(q))
    found = m.tool_similarity(p, q)
    assert 0 <= found <= 1 and found == pytest.approx(m.tool_similarity(q, p))
    if sum(p.values()) and sum(q.values()):
        distance = jensenshannon([p.get(n, 0) for n in names], [q.get(n, 0) for n in names], base=2)
        assert found == pytest.approx(1 - np.nan_to_num(distance) ** 2, abs=1e-12)


def test_similarity_is_the_definition_to_1e_12():
    def entropy(p, m):
        ratio = np.divide(p, m, out=np.ones_like(p), where=p > 0)
        return (p * np.log2(ratio)).sum(-1)

    rng = np.random.default_rng(0)
    p, q = rng.integers(0, 4, size=(2, 2000, 6))
    x, y = (c / np.maximum(c.sum(-1, keepdims=True), 1e-300) for c in (p, q))
    mean = (x + y) / 2
    wanted = 1 - (entropy(x, mean) + entropy(y, mean)) / 2
    called = (p.sum(-1) > 0) & (q.sum(-1) > 0)
    assert np.allclose(m.count_similarity(p, q), np.where(called, wanted, 0), atol=1e-12, rtol=0)


def test_set_match_ignores_order_and_counts_and_the_reward_ignores_unknown_names():
    assert m.set_match(TEACHER, trajectory("p", [PLUS, PLUS, TWICE], "7"))
    assert not m.set_match(TEACHER, trajectory("p", [PLUS], "7"))
    invented = trajectory("p", [INVENTED, TWICE, PLUS], "7")
    assert not m.set_match(TEACHER, invented)
    assert m.set_match(TEACHER, invented, KNOWN)


def test_sequence_similarity_is_the_common_subsequence_over_the_longer_length():
    teacher = trajectory("p", [TWICE, PLUS, PLUS], "8")
    assert m.sequence_similarity(teacher, trajectory("p", [PLUS, TWICE, PLUS],
                                                     "8")) == pytest.approx(2 / 3)
    assert m.sequence_similarity(teacher, trajectory("p", [], "8")) == 0
    assert m.sequence_similarity(trajectory("p", [], "8"), trajectory("p", [], "8")) == 1
    assert m.sequence_similarity(teacher, trajectory("p", [TWICE, PLUS, PLUS, PLUS], "8")) == 0.75


def test_call_counts_tell_written_executed_failed_unknown_and_malformed_calls_apart():
    made = trajectory("p", [TWICE, INVENTED, ("divide", {"a": 1, "b": 0})], "7")
    cut = replace(made.turns[-1], text='<tool_call>\n{"name": '
                                       '"add"}\n</tool_call><tool_call>oops</tool_call>')
    made = replace(made, turns=(*made.turns[:-1], cut))
    assert m.call_counts(made, KNOWN) == {"n_calls": 5, "n_executed": 3, "n_ok": 1, "n_failed": 2,
                                          "n_unknown": 1,
                                          "n_malformed": 1}


def test_record_metrics_by_hand():
    facts = m.record_metrics(record([INVENTED, TWICE, PLUS], "7", True), KNOWN)
    # teacher (1/2, 1/2, 0), student (1/3, 1/3, 1/3): JSD = (log2(6/5) + 2/3 log2(4/5) + 1/3) / 2 =
    # 0.190875
    assert facts["similarity"] == pytest.approx(1 - 0.190875, abs=1e-6)
    assert facts | {"similarity": 0} == {
        "correct": True, "boxed": True, "set_match": True,
        "sequence_similarity": pytest.approx(2 / 3), "similarity": 0,
        "n_calls": 3, "n_executed": 3, "n_ok": 2, "n_failed": 1, "n_unknown": 1, "n_malformed": 0,
        "unknown_tool": True, "turns": 4, "finish": "eos", "failure": None,
        "repeats_teacher_exactly": False}


def test_without_a_reference_there_is_no_similarity():
    facts = m.record_metrics(record([TWICE], None, False, reference=None), KNOWN)
    assert facts["set_match"] is facts["similarity"] is facts["sequence_similarity"] is None
    assert not facts["boxed"] and not facts["repeats_teacher_exactly"]


def test_an_unjudged_record_is_refused():
    with pytest.raises(UserError, match="no verdict"):
        m.record_metrics(Record(Problem("p", "?", ("1",), "test", "x"), TEACHER), KNOWN)


def test_summary_keeps_every_record_in_the_denominator():
    cut = record([TWICE], None, False, number=2)
    cut = replace(cut, trajectory=cut.trajectory.with_meta(failure="length"))
    records = [record([TWICE, PLUS], "7", True), record([TWICE, PLUS], "6", False, number=1),
               cut,
               record([INVENTED], "7", True, reference=None, number=3)]
    summary = m.summarise(records, KNOWN)
    assert (summary["n"], summary["n_reference"], summary["correct"], summary["boxed"]) == (4, 3,
                                                                                            0.5,
                                                                                            0.75)
    assert summary["set_match"] == pytest.approx(2 / 3)
    assert summary["unknown_tool"] == 0.25
    assert summary["failure/length"] == 0.25 and summary["finish/eos"] == 1
    # pooled over records with a reference: teacher 3 multiply + 3 add, student 3 multiply + 2 add
    assert summary["similarity_pooled"] == pytest.approx(
        m.tool_similarity({"multiply": 3, "add": 3}, {"multiply": 3, "add": 2}))
    assert summary["similarity"] == pytest.approx((1 + 1 + 1 - 0.31127812445913283) / 3)


def test_exact_repeats_that_end_wrong_and_why():
    right, miscopied = record([TWICE, PLUS], "7", True), record([TWICE, PLUS], "17", False,
                                                                number=1)
    silent, other = record([TWICE, PLUS], None, False, number=2), record([PLUS, TWICE], "8", False,
                                                                         number=3)
    assert m.exact_repeats_with_wrong_answer([right, miscopied, silent, other]) == [miscopied,
                                                                                    silent]
    assert m.is_miscopied_last_result(miscopied)
    assert not m.is_miscopied_last_result(silent)
    assert not m.is_miscopied_last_result(right)
    # a right value that the judge called wrong is not a mis-copy, however it is written
    assert not m.is_miscopied_last_result(record([TWICE, PLUS], "7.0", False))
    # the same calls with another last result point to the rollout loop, not to the student
    tampered = replace(miscopied.trajectory, turns=tuple(
        replace(t, env_response=t.env_response.replace("\n7\n", "\n9\n"))
        for t in miscopied.trajectory.turns))
    assert not m.is_miscopied_last_result(replace(miscopied, trajectory=tampered))


def test_pass_mean_and_majority_at_k():
    assert s.pass_at_k(5, 2, 2) == pytest.approx(0.7)  # 1 - C(3,2) / C(5,2)
    assert s.pass_at_k(4, 0, 2) == 0 and s.pass_at_k(4, 3, 2) == 1
    assert s.mean_at_k([True, False, False, True]) == 0.5
    assert s.maj_at_k(["7", "7", "8"], [True, True, False]) == 1
    assert s.maj_at_k(["7", "8"], [True, False]) == 0.5
    assert s.maj_at_k(["8", "7", "9"], [False, True, False]) == pytest.approx(1 / 3)
    assert s.maj_at_k([None, None, "8"], [False, False, False]) == s.maj_at_k([None], [False]) == 0
    # right samples are one answer, however it is written, and also without a box
    assert s.maj_at_k(["Paris", "the Paris", "London", "London"], [True, True, False, False]) == 0.5
    assert s.maj_at_k([None, None, "8"], [True, True, False]) == 1
    with pytest.raises(UserError, match="pass@6"):
        s.pass_at_k(5, 2, 6)


@pytest.mark.parametrize(("one", "other", "same"), [
    ("1/2", "0.50", True), ("\\frac{1}{2}", "0.5", True), ("1,024", "1024.0", True),
    ("1,2", "12", False), ("$7", "7", True), ("50%", "50", True), ("x+1", "x-1", False),
    ("x + 1", "x+1", True), ("The Hague", "the hague.", True), ("X_1", "x_1", False),
    ("1e999999999", "2e999999999", False), ("1/0", "2/0", False)])
def test_wrong_answers_are_one_vote_where_they_are_equal(one, other, same):
    votes = [s.vote(trajectory("p", [], answer)) for answer in (one, other)]
    assert (votes[0] == votes[1]) == same


def test_samples_without_a_box_vote_by_their_calls_and_failed_ones_do_not_vote():
    calls = [[TWICE], [TWICE], [PLUS]]
    votes = [s.vote(trajectory("p", c, None)) for c in calls]
    assert votes[0] == votes[1] != votes[2]
    assert s.vote(trajectory("p", [TWICE], "7").with_meta(failure="length")) is None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), min_size=1, max_size=8),
       st.randoms())
def test_the_order_of_samples_does_not_matter(samples, random):
    shuffled = random.sample(samples, len(samples))
    assert s.maj_at_k(*zip(*samples, strict=True)) == s.maj_at_k(*zip(*shuffled, strict=True))


@given(st.integers(1,
                   12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n),
                                                   st.integers(1, n))))
def test_pass_at_one_is_the_mean_and_more_samples_never_hurt(case):
    n, c, k = case
    assert s.pass_at_k(n, c, 1) == pytest.approx(c / n)
    assert s.pass_at_k(n, c, k) >= c / n - 1e-12


def test_sample_metrics_need_equally_many_samples():
    records = [record([TWICE, PLUS], a, a == "7", number=n) for n,
               a in ((0, "7"), (0, "8"), (1, "8"), (1, "8"))]
    assert s.sample_metrics(records) == {"k": 2, "mean_at_k": 0.25, "pass_at_k": 0.5,
                                         "maj_at_k": 0.25}
    with pytest.raises(UserError, match="same number"):
        s.sample_metrics(records[:3])


def test_no_records_are_refused():
    with pytest.raises(UserError, match="No records"):
        m.summarise([], KNOWN)
