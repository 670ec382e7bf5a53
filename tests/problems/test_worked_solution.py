"""The worked-solution teacher: equations by hand, grounding, yield, and parsers that verify
falsely."""

from __future__ import annotations

from collections import Counter, defaultdict
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.problems.gsm_symbolic import active_templates, generators
from mentor_kit.problems.worked.calls import REASONS
from mentor_kit.problems.worked.equations import Number, Product, Ratio, Sum, equations
from mentor_kit.problems.worked.grounding import grounded_numbers, written_numbers
from mentor_kit.teachers import load_teacher
from mentor_kit.teachers.worked_solution import WorkedSolutionTeacher

TEACHER = WorkedSolutionTeacher()
EQUATION_LIKE = st.text(alphabet="0123456789+-*/x×÷^()%=$€., \nTabc{}'\"", max_size=80)


def problem(question, answer, solution, **meta):
    return Problem("p/0", question, (answer,), "test", "train",
                   meta={"worked_solution": solution, **meta})


def solve(question, answer, solution):
    return TEACHER.solve(problem(question, answer, solution))


def calls(attempt):
    return [(c.name, c.arguments, c.observation.content) for c in attempt.trajectory.calls]


def template_items(template, items, seed=0):
    rng = Random(1000 * seed + template)
    for _ in range(items):
        example = generators()[template](rng)
        yield problem(example["question"], example["answer"], example["metadata"]["answer_cot"])


# -- equations

def n(value, percent=False):
    return Number(Fraction(value), percent)


@pytest.mark.parametrize(("line", "expression", "stated", "unit"), [
    ("She peels: 180 carrots / 15 carrots/minute = 12 minutes", Product(((1, n(180)), (-1, n(15)))),
     n(12), "minutes"),
    ("That is $1,250.50 + $2 = $1,252.50.", Sum(((1, n("1250.5")), (1, n(2)))), n("1252.5"), ""),
    ("There are 28 girls x 3 boys/girl = 84 boys in all", Product(((1, n(28)), (1, n(3)))), n(84),
     "boys in all"),
    ("27 students - 5 play music - 3 bake = 19", Sum(((1, n(27)), (-1, n(5)), (-1, n(3)))), n(19),
     ""),
    ("half * 186 bugs = 93", Product(((1, n("1/2")), (1, n(186)))), n(93), ""),
    ("870 * 1/2 = £435 for it", Product(((1, n(870)), (1, Ratio(n(1), n(2))))), n(435), "for it"),
    ("50% * 40% = 20%.", Product(((1, n(50, True)), (1, n(40, True)))), n(20, True), ""),
    ("perimeter is 2(40+38) = 156", Product(((1, n(2)), (1, Sum(((1, n(40)), (1, n(38))))))),
     n(156), ""),
    ("- 3 bags × €6 per bag = €18", Product(((1, n(3)), (1, n(6)))), n(18), ""),
    ("He has 75 + 46 + T = 121 + T = 220 toys.", Sum(((1, n(75)), (1, n(46)))), n(121), ""),
    ("84 years - 85 years = -1 years old", Sum(((1, n(84)), (-1, n(85)))), n(-1), "years old"),
])
def test_one_equation(line, expression, stated, unit):
    (equation,) = equations(line)
    assert (equation.expression, equation.stated, equation.unit) == (expression, stated, unit)


def test_chains_and_restated_results():
    found = equations("He needs 20 + 33 = 53. Then 115 - 53 = 62 = 62 more.\n#### 62")
    assert [(e.expression, e.stated) for e in found] == [
        (Sum(((1, n(20)), (1, n(33)))), n(53)), (Sum(((1, n(115)), (-1, n(53)))), n(62))]


@pytest.mark.parametrize("text",
                         ["", "=", "Karen = 438 points", "a = b = c", "2 + = 3", "1 + T = 220"])
def test_no_equation(text):
    assert equations(text) == []


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), EQUATION_LIKE))
def test_parser_never_raises_on_any_text(text):
    equations(text)
    written_numbers(text)


@settings(max_examples=150, deadline=None)
@given(EQUATION_LIKE, EQUATION_LIKE)
def test_teacher_never_raises_on_any_text(question, solution):
    attempt = TEACHER.solve(problem("How many? " + question, "1", solution))
    assert attempt.reason in REASONS


@pytest.mark.parametrize("text",
                         ["(" * 5000 + "1=1", "1+" * 5000 + "1=1", "2(" * 3000 + "=1",
                          "9" * 9000 + "+1=2",
                                  "1^" * 4000 + "1=1"])
def test_hostile_lines_are_bounded(text):
    assert isinstance(equations(text), list)


# -- grounding

@pytest.mark.parametrize(("text", "values"), [
    ("She pays $1,250.50 for 12-inch pies", {"1250.5", "12"}),
    ("35% of 2/5", {"35", "0.35", "2", "5", "0.4"}),
    ("three times half as many as a dozen", {"3", "0.5", "2", "12"}),
    ("at -4 degrees", {"4", "-4"}),
    ("The Lee twins", {"2"}),
])
def test_written_numbers(text, values):
    assert written_numbers(text) == {Fraction(v) for v in values}


def test_constants_need_their_unit():
    assert Fraction(7) in grounded_numbers("How many in 2 weeks?")
    assert Fraction(7) not in grounded_numbers("How many in 2 boxes?")
    assert Fraction(60) in grounded_numbers("every 5 minutes") and Fraction(
        100
    ) in grounded_numbers("What percent?")


# -- attempts by hand

def test_trajectory_by_hand():
    attempt = solve("Ann has 28 red and 4 times as many blue pens. How many pens?", "140",
                    "There are 28 x 4 = 112 blue pens.\nIn all there are 28 + 112 = 140 pens\n#### "
                    "140")
    assert attempt.accepted and attempt.reason == "accepted"
    assert attempt.trajectory.to_text() == (
        'Find the blue pens.\n<tool_call>\n{"name": "multiply", "arguments": {"a": 28, "b": '
        "4}}\n</tool_call><|im_end|>"  # noqa: E501
        "\n<|im_start|>user\n<tool_response>\n112\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
        'Find the pens.\n<tool_call>\n{"name": "add", "arguments": {"a": 28, "b": 112}}\n</tool_call><|im_end|>'  # noqa: E501
        "\n<|im_start|>user\n<tool_response>\n140\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
        "The answer is \\boxed{140}.<|im_end|>"
    )
    again = Trajectory.from_text(attempt.trajectory.to_text(), "p/0",
                                 producer="teacher:worked_solution")
    assert again == attempt.trajectory


@pytest.mark.parametrize(("question", "answer", "solution", "expected"), [
    ("1/3 of 12?", "4", "1/3 * 12 = 4", [("divide", {"a": 12, "b": 3}, "4")]),
    ("116:93, of 1881?", "1044", "116+93 = 209\n116/209*1881 = 1044",
     [("add", {"a": 116, "b": 93}, "209"), ("multiply", {"a": 116, "b": 1881}, "218196"),
      ("divide", {"a": 218196, "b": 209}, "1044")]),
    ("5, 6 and 7?", "18", "5 + 6 + 7 = 18", [("sum_numbers", {"numbers": [5, 6, 7]}, "18")]),
    ("From 20 take 5 and 6", "9", "20 - 5 - 6 = 9",
     [("subtract", {"a": 20, "b": 5}, "15"), ("subtract", {"a": 15, "b": 6}, "9")]),
    ("What percent is 34 of 170?", "20", "34 / 170 * 100% = 20%",
     [("multiply", {"a": 34, "b": 100}, "3400"), ("divide", {"a": 3400, "b": 170}, "20")]),
    ("19 of 20, in percent?", "95", "19 / 20 = 95.0%",
     [("divide", {"a": 19, "b": 20}, "0.95"), ("multiply", {"a": 0.95, "b": 100}, "95")]),
    ("25% of 1056", "264", "1056 * 25% = 264", [("multiply", {"a": 1056, "b": 0.25}, "264")]),
    ("100% of it, 20% less", "80", "100% - 20% = 80%", [("subtract", {"a": 100, "b": 20}, "80")]),
    ("They split 252 feet, 90 more", "81", "we get 2x+90=252\nwe get 2x=162\nleaving x=81",
     [("subtract", {"a": 252, "b": 90}, "162"), ("divide", {"a": 162, "b": 2}, "81")]),
    ("A price of $2.73, 20 of them", "60",
     "He rounds it up from $2.73 to $3.\nHe gets 20 x $3 = $60",
     [("round_number", {"x": 2.73}, "3"), ("multiply", {"a": 20, "b": 3}, "60")]),
    ("2 kilometers at 9+2 times 21", "102", "9+2(21)=51.0 minutes\n2(51.0)=102.0 minutes",
     [("multiply", {"a": 2, "b": 21}, "42"), ("add", {"a": 9, "b": 42}, "51"),
      ("multiply", {"a": 2, "b": 51}, "102")]),
])
def test_calls_by_hand(question, answer, solution, expected):
    attempt = solve(question, answer, solution)
    assert attempt.reason == "accepted"
    assert calls(attempt) == expected


@pytest.mark.parametrize(("question", "answer", "solution", "reason"), [
    # 4 is neither in the question nor a result
    ("Ann has 3 pens.", "12", "3 * 4 = 12", "ungrounded_argument"),
    ("Ann has 3 pens and 4 cups.", "13", "3 * 4 = 12", "wrong_answer"),
    ("Ann has 3 pens and 4 cups.", "13", "3 * 4 = 13", "equation_mismatch"),
    ("34% of 60", "20", "0.34 * 60 = 20", "needs_floor"),
    ("20% of 170 in 3 days", "102", "He gets 34=34 mails.\n34*3=102", "hidden_step"),
    ("Ann has 3 pens.", "3", "She has three pens.", "no_equation"),
    ("7 into 0 parts", "0", "7 / 0 = 0", "tool_error"),
])
def test_rejections(question, answer, solution, reason):
    attempt = solve(question, answer, solution)
    assert (attempt.accepted, attempt.reason) == (False, reason)


def test_rejected_attempts_keep_what_was_done():
    attempt = solve("Ann has 3 pens and 5 cups.", "32", "3 + 5 = 8\n8 * 4 = 32")
    assert attempt.reason == "ungrounded_argument" and calls(attempt) == [("add", {"a": 3, "b": 5},
                                                                           "8")]
    assert solve("Ann has 3 pens.", "12", "3 * 4 = 12").trajectory is None


def test_equal_steps_are_neither_merged_nor_pruned():
    """300*0.5 twice with 150*2 between: three different steps of the story (template 93)."""
    attempt = solve("300 ogres, 0.5 as many, 2 as many, 0.5 as many", "150",
                    "300*0.5=150\n2*150=300\n300*0.5=150")
    assert (
        attempt.trajectory.tool_names == ("multiply", "multiply", "multiply") and attempt.accepted
    )


def test_reasoning_options():
    item = problem("Ann has 28 and 4 pens", "32", "First count her pens: 28 + 4 = 32 pens")
    words = {r: load_teacher("worked_solution",
                             reasoning=r).solve(item).trajectory.turns[0].reasoning
             for r in ("short", "full", "none")}
    assert words == {"short": "Find the pens.", "full": "First count her pens:", "none": ""}
    with pytest.raises(UserError, match="reasoning='long'"):
        load_teacher("worked_solution", reasoning="long")
    with pytest.raises(UserError, match="has no option 'temperature'"):
        load_teacher("worked_solution", temperature=1)
    with pytest.raises(UserError, match="Unknown teacher 'oracle'"):
        load_teacher("oracle")


def test_full_reasoning_does_not_give_the_result_away():
    attempt = WorkedSolutionTeacher("full").solve(problem("57 and 51", "108",
                                                          "He ran 108 miles because 57 + 51 = 108"))
    assert "108" not in attempt.trajectory.turns[0].reasoning


# -- programs (arithmetic stories)

def program_problem(question, answer, program, **meta):
    return Problem("s/0", question, (answer,), "test", "train", meta={"program": program, **meta})


PROGRAM = [
    {"tool": "subtract", "arguments": {"a": 3, "b": -4}},
    {"tool": "power", "arguments": {"a": {"result": 0}, "b": 2}},
]


def test_program_is_followed():
    attempt = TEACHER.solve(program_problem("From 3 to -4 degrees, to the power of 2?", "49",
                                            PROGRAM,
                                            reasoning=["Get the gap.", "Raise it."]))
    assert calls(attempt) == [("subtract", {"a": 3, "b": -4}, "7"),
                              ("power", {"a": 7, "b": 2}, "49")]
    assert [t.reasoning for t in attempt.trajectory.turns[:2]] == [
        "Get the gap.",
        "Raise it.",
    ] and attempt.accepted


def test_program_is_verified_and_grounded():
    question = "From 3 to -4 degrees, to the power of 2?"
    assert TEACHER.solve(program_problem(question, "48", PROGRAM)).reason == "wrong_answer"
    assert TEACHER.solve(program_problem("From 3 degrees", "49",
                                         PROGRAM)).reason == "ungrounded_argument"


# -- the 85 templates

def yields(items):
    return {t: [TEACHER.solve(p) for p in template_items(t, items)] for t in active_templates()}


def report(found):
    for template, attempts in sorted(found.items(),
                                     key=lambda x: sum(a.accepted for a in x[1]) / len(x[1]))[:12]:
        print(template, dict(Counter(a.reason for a in attempts)))


@pytest.fixture(scope="module")
def probe_attempts():
    return yields(8)  # 680 items


def test_yield(probe_attempts):
    attempts = [a for found in probe_attempts.values() for a in found]
    report(probe_attempts)
    assert sum(a.accepted for a in attempts) / len(attempts) >= 0.88


@pytest.mark.slow
def test_yield_of_5000_random_items():
    """5,000 items of templates drawn at random."""
    rng, found = Random(5), defaultdict(list)
    for _ in range(5000):
        template = rng.choice(active_templates())
        example = generators()[template](rng)
        item = problem(example["question"], example["answer"], example["metadata"]["answer_cot"])
        found[template].append(TEACHER.solve(item))
    report(found)
    assert sum(a.accepted for attempts in found.values() for a in attempts) >= 0.9 * 5000


def test_one_tool_sequence_a_template(probe_attempts):
    """A parser that prunes or merges calls by value gives many sequences; fractions (69) and yards
    (85) give two."""
    sequences = {t: {a.trajectory.tool_names for a in found if a.accepted} for t,
                 found in probe_attempts.items()}
    assert {t: len(s) for t, s in sequences.items() if len(s) > 1} == {69: 2, 85: 2}


def test_known_bad_templates(probe_attempts):
    """49 and 99 hold truncated arithmetic, 66 no final equation, 70 a constant that is in no
    question."""
    for template in (49, 66, 70, 53, 27, 82):
        assert not any(a.accepted for a in probe_attempts[template])
    # `W = 4` may equal a result by chance
    assert not any(TEACHER.solve(p).accepted for p in template_items(66, 300))
    reasons = Counter(a.reason for p in template_items(99, 200) for a in [TEACHER.solve(p)])
    assert (
        0 < reasons["equation_mismatch"] < 30
        and reasons["accepted"] == 200 - reasons["equation_mismatch"]
    )


def test_every_accepted_argument_is_grounded(probe_attempts):
    for template, attempts in probe_attempts.items():
        for item, attempt in zip(template_items(template, 8), attempts, strict=True):
            known = set(grounded_numbers(item.question))
            for call in attempt.trajectory.calls if attempt.accepted else ():
                values = [v for value in call.arguments.values()
                          for v in (value if isinstance(value, list) else [value])]
                assert {Fraction(str(v)) for v in values} <= known
                known.add(Fraction(call.observation.content))


def test_last_result_is_the_boxed_answer(probe_attempts):
    for attempts in probe_attempts.values():
        for attempt in filter(lambda a: a.accepted, attempts):
            last = attempt.trajectory.calls[-1].observation.content
            assert attempt.trajectory.turns[-1].text == f"The answer is \\boxed{{{last}}}."
            assert all(len(t.reasoning.split()) <= 6 for t in attempt.trajectory.turns[:-1])
