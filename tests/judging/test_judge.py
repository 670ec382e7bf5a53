"""The judge: the released verdicts, the fast path's agreement with them, hostile answers, threads
and forks."""

from __future__ import annotations

import multiprocessing
import subprocess
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentor_kit.core import processes
from mentor_kit.core.chat_markup import render_environment, render_user
from mentor_kit.core.processes import LineWorker
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.judging import judge as judge_module
from mentor_kit.judging import worker as worker_module
from mentor_kit.judging.grading_process import Graders, may_evaluate
from mentor_kit.judging.judge import (
    MAX_CHARACTERS,
    RULES,
    Verdict,
    _compare_numbers,
    final_answer,
    judge,
    unboxed,
)
from mentor_kit.judging.worker import GRADERS

YES = [("18", "18.0"), ("1,234", "1234"), ("10^3", "1000"), ("-0", "0"), ("100", "1e2"),
       ("0.75", "\\frac{3}{4}"),
       ("0.333333", "1/3"), ("\\frac{2}{4}", "\\frac{1}{2}"), ("1/3", "\\frac{1}{3}"),
       ("2\\sqrt{3}", "\\sqrt{12}"),
       ("x^2+2x+1", "(x+1)^2"), ("(1,2)", "(1,2)"), ("[0,1]", "[0,1]"), ("\\{1,2\\}", "\\{1,2\\}"),
       ("5\\text{ cm}", "5"), ("50\\%", "50"), ("yes", "yes"), ("$7$", "7"), ("4", "\\boxed{4}"),
       ("2+2", "4")]
NO = [("17", "-17"), ("0.333", "1/3"), ("3.14", "\\pi"), ("\\frac{5}{6}", "\\frac{9}{7}"),
      ("\\sqrt{3}", "\\sqrt{5}"),
      ("(1,2)", "(2,1)"), ("[0,1]", "(0,1)"), ("\\{1,2\\}", "\\{2,1\\}"), ("5\\text{ cm}", "6"),
      ("50\\%", "51"),
      ("yes", "no")]
HOSTILE = [
    "\\frac{1}{2}" * 4600,
    "{" * 900,
    "((" * 400,
    "\\frac{" * 100 + "1" + "}" * 100,
    "10^{10^{10}}",
    "9^{9^{9}}",
    "9^9^9^9",
    "9**9**9",
    "2^{99999999}",
    "100000000!",
    "\\boxed{\\boxed{",
    "}{",
    "\\left(",
    "\\sqrt{",
    "٣٤",
    "４２",
    "１/２",
    "\ud800",
    "\x00",
    "__import__('os')",
    "lambda: 1",
    "a" * 50_000,
    "1+" * 499 + "1",  # noqa: E501
    "x^{2}" * 190,
    "\\int_0^1 e^{x^2} dx",
    "\\sum_{i=1}^{10^9} i^i",
    "(1+x)^{1000}(1+y)^{999}",
    "e^{e^{e^{e^{9}}}}",
    "\\begin{pmatrix}1&2\\\\3",
    "nan",
    "inf",
    "1/0",
    "0/0",
    "-" * 999,
]


@pytest.fixture(scope="module", autouse=True)
def warm():
    GRADERS.warm()


def ask(prediction: str, gold: str, rules: str = "released") -> Verdict:
    """A verdict that the cache cannot answer."""
    judge_module._judge.cache_clear()
    return judge(prediction, gold, rules)


@pytest.mark.parametrize(("prediction", "gold"), YES)
def test_accepts(prediction, gold):
    assert judge(prediction, gold).correct


@pytest.mark.parametrize(("prediction", "gold"), NO)
def test_rejects(prediction, gold):
    assert not judge(prediction, gold).correct


def test_any_gold_may_match_and_the_name_says_who_judged():
    assert judge("77", ["-17", "77"]) == Verdict(True, "identical")
    assert judge("77.0", ["-17", "77"]) == Verdict(True, "exact")
    assert judge("17", ["-17", "77"]) == Verdict(False, "exact")
    assert judge("2\\sqrt{3}", ["1", "\\sqrt{12}"]) == Verdict(True, "mathruler")
    assert judge("2+2", "4") == Verdict(True, "math_verify")
    assert judge(None, "4") == judge(" ", "4") == Verdict(False, "no_answer")


@pytest.mark.parametrize(("text", "answer"), [
    ("so \\boxed{42}.<|im_end|>", "42"), ("\\boxed{999} no: \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
    ("\\boxed{$7$}", "$7$"), ("\\boxed 5$ as asked", "5"), ("\\boxed 5<|im_end|>", "5"),
    ("\\fbox{8}", None),
    ("\\boxed{}", None), ("\\boxed{ }", None), ("\\boxed{1,234", None),
    ("\\boxed{1} then \\boxed{2", None),
    ("the answer is 5", None), ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"), ("\\boxedx{3}", None),
    ("\\boxed{3} \\fbox{4}", "3")])
def test_final_answer(text, answer):
    assert final_answer(text) == answer
    assert final_answer(Trajectory.from_text(text)) == answer


def test_what_tools_and_users_say_is_not_an_answer():
    for response in (render_environment(["\\boxed{9}"]), render_user("Is it \\boxed{9}?")):
        trajectory = Trajectory("p", (Turn("\\boxed{3}", "eos", response), Turn("Done.")))
        assert final_answer(trajectory) == "3"
    assert final_answer(Trajectory("p", (Turn("x", "eos", render_environment(["\\boxed{9}"])),
                                         Turn("Done.")))) is None


def test_gold_is_unboxed_once_and_kept_when_broken():
    assert unboxed("\\boxed{\\{2,1\\}}") == "\\{2,1\\}"
    assert unboxed("\\boxed{2") == "\\boxed{2"
    assert unboxed("7") == "7"


NUMBERS = st.one_of(
    st.integers(-10**9 + 1, 10**9 - 1).map(str), st.integers(1000, 10**9 - 1).map("{:,}".format),
    st.tuples(st.integers(-9999, 9999), st.integers(1, 6)).map(lambda n: f"{n[0] / 8:.{n[1]}f}"),
    st.tuples(st.integers(1, 99), st.integers(1, 32)).map(lambda n: f"{n[0]}/{n[1]}"),
    st.tuples(st.integers(1, 99), st.integers(1, 32)).map(lambda n: f"-\\frac{{{n[0]}}}{{{n[1]}}}"))


@st.composite
def number_pairs(draw):
    """Two plain numbers, half the time written forms of one value."""
    if draw(st.booleans()):
        return draw(NUMBERS), draw(NUMBERS)
    a, b, k = draw(st.integers(1,
                               999)), draw(st.sampled_from([1, 2, 3, 4, 5, 8, 16,
                                                            7])), draw(st.integers(1, 9))
    forms = [f"{a}/{b}", f"\\frac{{{a * k}}}{{{b * k}}}", f"{a / b:.6f}", f"{a / b:.5f}"]
    forms += [str(a // b), f"{a // b}.0"] if a % b == 0 else []
    return draw(st.sampled_from(forms)), draw(st.sampled_from(forms))


@given(number_pairs())
@settings(max_examples=250, deadline=None)
def test_fast_path_agrees_with_the_three_graders(pair):
    prediction, gold = pair
    quick = _compare_numbers(prediction, gold)
    if quick is not None:
        graders, golds = Graders(), [[gold, gold]]
        assert quick == (graders.mathruler(prediction, golds)
                         or graders.math_verify(prediction, golds)
                         or graders.math_verify_metric(prediction, golds))


def test_fast_path_leaves_the_uncertain_to_the_graders():
    for prediction, gold in [("0.3333335", "1/3"), ("\\dfrac{2}{4}", "1/2"), ("007", "7"),
                             ("1e2", "100"), ("+5", "5"),
                             ("1234567890123", "1234567890123.0"), ("٣", "3"),
                             ("0.333334", "1/3.0"), ("5.", "5"),
                             ("0.000100", "3/30068")]:
        assert _compare_numbers(prediction, gold) is None


@pytest.mark.parametrize("prediction", HOSTILE, ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("gold", ["5", "x+\\frac{1}{2}"])
@pytest.mark.parametrize("rules", RULES)
def test_hostile_answers_are_judged_or_refused_in_time(prediction, gold, rules):
    GRADERS.warm()
    start = time.process_time()
    verdict = ask(prediction, gold, rules)
    assert not verdict.correct
    assert time.process_time() - start < 0.5  # nothing heavy runs in our process


def test_a_timeout_is_named_and_the_next_question_is_answered():
    assert ask("9^9^9^9", "5") == Verdict(False, "timeout")
    assert ask("2\\sqrt{3}", "\\sqrt{12}").correct


def test_a_killed_worker_is_replaced():
    GRADERS.process.kill()
    GRADERS.process.wait()
    assert ask("2\\sqrt{3}", "\\sqrt{12}").correct


def test_what_sympy_may_evaluate():
    assert all(may_evaluate(text) for pair in YES + NO for text in pair)
    for text in ("1" * 3000, "x.__class__", "x.\uff3f\uff3fa", "'a'", "`a`", "a@b", "1#2", "\x00"):
        assert not may_evaluate(text), text


def test_refusals():
    assert ask("`a`", "b") == Verdict(False, "refused")
    assert ask("x.__a__", "x") == Verdict(False, "refused")
    assert ask("1+" * 600 + "1", "5") == Verdict(False, "refused")
    assert ask("a" * (MAX_CHARACTERS + 1), "5") == Verdict(False, "refused")
    assert judge("'quoted'", "'quoted'") == Verdict(True, "identical")


@pytest.mark.parametrize(("prediction", "gold"), [
    ("7\u00a0cm", "7"), ("８", "8"), ("λ", "\\lambda"), ("6'", "6"), ("z'=5z", "z' = 5z"),
    ("\\text{Tom's}", "Tom's"), ("80¢", "80"), ("\\text{上海}", "上海"), ("\\text{Нет}", "Нет"),
    ("7.0", '["7"]'), ("30°", "30"), ("5 “apples”", "5"), ("a " * 700 + "end", "a " * 700 + "End"),
    ("1+2=3\n#### 3", "3"), ("3", "1+2=3\n#### 3")])
def test_any_text_may_be_compared(prediction, gold):
    """As the released judge does: characters that may not reach SymPy spoil no comparison."""
    assert ask(prediction, gold).correct


def test_the_strict_judge_reads_both_sides_whole():
    assert ask("5", "5\\sqrt{3}") == Verdict(True, "math_verify")
    assert ask("5", "5\\sqrt{3}", "strict") == Verdict(False, "none")
    assert ask("4,5,6", ["1", "\\boxed{6,5,4}"], "strict") == Verdict(True, "strict")
    assert ask("0.5", "1/2", "strict") == Verdict(True, "exact")
    assert ask("0.33333", "1/3", "strict") == Verdict(False, "none")
    assert ask("333.333", "1000/3", "strict") == Verdict(True, "strict")
    assert not ask("9^{9^{9^{9}}}", "5", "strict").correct
    with pytest.raises(UserError, match="no rules 'exact'"):
        judge("5", "5", "exact")


def test_one_odd_gold_does_not_spoil_the_others():
    assert judge("2\\sqrt{5}", ["it's", "\\sqrt{20}"]).correct
    assert judge("2\\sqrt{5}", ["9" * (MAX_CHARACTERS + 1), "\\sqrt{20}"]).correct
    assert judge("2+2", ["x" * 2000, "4"]).correct


def test_other_threads():
    verdicts = {}

    def work(i):
        verdicts[i] = (ask(f"{i}+\\sqrt{{12}}", f"2\\sqrt{{3}}+{i}").correct,
                       ask("9^9^9^9" if i == 0 else "1", "x").by)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {i: v for i, v in verdicts.items() if i} == {i: (True, "none") for i in (1, 2, 3)}
    assert verdicts[0][0]


def _in_child(queue):
    queue.put((GRADERS.process is None, ask("2\\sqrt{3}", "\\sqrt{12}").correct))


def test_a_forked_process_gets_its_own_worker():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == (True, True)
    child.join()
    assert ask("2\\sqrt{3}", "\\sqrt{12}").correct


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_no_text_raises(text):
    assert isinstance(judge(text, "x+1"), Verdict)
    assert isinstance(judge(text, "x+1", "strict"), Verdict)
    final_answer(text)


def test_a_missing_grader_fails_at_the_start(monkeypatch):
    monkeypatch.setitem(judge_module.PACKAGES, "no_such_grader", "no-such-grader==1.0")
    judge_module.require_graders.cache_clear()
    with pytest.raises(UserError, match="no_such_grader.*pip install no-such-grader==1.0"):
        judge("1", "1")
    judge_module.require_graders.cache_clear()


def test_a_worker_that_cannot_start_is_a_user_error(monkeypatch):
    monkeypatch.setattr(worker_module, "GRADERS", LineWorker(lambda folder: (["/bin/false"], {})))
    with pytest.raises(UserError, match="cannot start"):
        ask("2+2", "4")


def test_the_worker_gets_no_secret(monkeypatch):
    seen = {}
    real = subprocess.Popen

    def popen(*args, **kwargs):
        seen.update(kwargs["env"])
        return real(*args, **kwargs)

    monkeypatch.setenv("SOME_API_KEY", "secret")
    monkeypatch.setattr(processes.subprocess, "Popen", popen)
    GRADERS.stop()
    GRADERS.warm()
    assert "SOME_API_KEY" not in seen
    assert seen["PYTHONHASHSEED"] == "0"
