"""Drawings: nothing a model writes gets out of its box, and what went wrong is said in words."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentor_kit.core.chat_markup import render_call, render_environment
from mentor_kit.core.html import (
    Html,
    compact_call,
    record_html,
    record_text,
    show,
    side_by_side,
    trajectory_html,
    trajectory_text,
)
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import ToolCall, Turn

NAMES = load_toolbox("arithmetic").names
ALLOWED = {"div", "span", "b", "details", "summary"}
PROBLEM = Problem("p/1", "Mia has 3 & Ben has 4 <apples>. How many?", ("7", "7.0"), "stories",
                  "train")
GOOD = Trajectory("p/1",
                  (Turn("Add them.\n" + render_call("add", {"a": 3, "b": 4}), "eos",
                        render_environment(["7"])),
                          Turn("The answer is \\boxed{7}.")), "teacher:worked_solution")


class Reader(HTMLParser):
    """Collects tags, text and attributes, and checks that tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(source: str) -> Reader:
    reader = Reader()
    reader.feed(source)
    reader.close()
    assert not reader.open
    assert reader.tags <= ALLOWED
    assert reader.attributes <= {"style", "class", "title"}
    return reader


def trajectory(*turns: Turn, **meta) -> Trajectory:
    return Trajectory("p/1", turns, "student:mentor", meta=meta)


def test_steps_and_labels_in_order():
    text = read(trajectory_html(GOOD, "teacher")).text
    wanted = ["teacher", "2 turns · 1 call", "R", "Add them.", "T1", "add(a=3, b=4)", "O1", "7",
              "A",
              "The answer is \\boxed{7}."]
    place = 0
    for piece in wanted:
        place = text.index(piece, place) + len(piece)


def test_text_for_terminals():
    assert trajectory_text(GOOD) == ("[R]  Add them.\n[T1] add(a=3, b=4)\n[O1] 7\n"
                                     "[A]  The answer is \\boxed{7}.")


FAULTY = trajectory(
    Turn("\n".join([render_call("add", {"a": 1, "b": 2}), render_call("total", {"x": 1}),
                    "<tool_call>{oops}</tool_call>", render_call("divide", {"a": 1, "b": 0})]),
         "eos",
         render_environment(["3", "{'error': 'Tool total not found.'}",
                             "{'error': 'division by zero.'}"])),
    Turn("Then " + render_call("add", {"a": 1}), "max_turns"))


def test_faults_are_said_in_words():
    assert trajectory_text(FAULTY, names=NAMES).splitlines() == [
        "[T1] add(a=1, b=2)",
        "[T2] total(x=1)  !! unknown tool",
        "[T3] {oops}  !! malformed  !! never executed",
        "[T4] divide(a=1, b=0)",
        "[O1] 3",
        "[O2] {'error': 'Tool total not found.'}  !! error",
        "[O4] {'error': 'division by zero.'}  !! error",
        "[R]  Then",
        "[T5] add(a=1)  !! never executed",
        "!! stopped: turn limit",
    ]
    html = read(trajectory_html(FAULTY, names=NAMES)).text
    for words in ("✗ unknown tool", "✗ malformed", "✗ never executed", "✗ error",
                  "✗ stopped: turn limit"):
        assert words in html
    assert "unknown tool" not in trajectory_text(FAULTY)  # nobody said which tools there are


def test_cut_off_call_is_marked():
    cut = trajectory(Turn('Now <tool_call>{"name": "ad', "length"))
    assert (
        trajectory_text(cut)
        == '[A]  Now <tool_call>{"name": "ad  !! call never closed\n!! cut off: length limit'
    )
    assert "✗ cut off: length limit" in read(trajectory_html(cut)).text


@pytest.mark.parametrize("attack",
                         ["<script>alert(1)</script>", "</div></div></details>", "<b>open",
                          "' onclick='x",
                                    "<img src=x onerror=alert(1)>", "&lt;b&gt;", "]]><!--",
                          '"><a href="x">'])
def test_model_output_is_shown_not_obeyed(attack):
    drawn = trajectory(Turn(attack + render_call(attack, {attack: attack}), "eos",
                            render_environment([attack])),
                       Turn(attack))
    record = Record(Problem(attack, attack, (attack,), "s", "train"), drawn, drawn)
    for source in (trajectory_html(drawn, attack), record_html(record),
                   str(side_by_side([(attack, record)]))):
        reader = read(source)
        assert reader.text.count(attack) >= 4
        assert "script" not in reader.tags


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["<div>", "</details>", "<tool_call>", "</tool_call>",
                                 '{"name": "add"}', "&", "'", '"',
                                 "\x00", "\x1b[31m", "\u202e", "\ud800", "<|im_end|>",
                                 "<|im_start|>assistant\n", "\n",
                                 "<|im_start|>user\n", "<tool_response>", "</tool_response>",
                                 "x" * 500, "$x$"])
                | st.text(max_size=8), max_size=14).map("".join))
def test_any_text_gives_balanced_html_and_clean_text(text):
    drawn = Trajectory.from_text(text)
    read(trajectory_html(drawn)).text.encode()
    plain = trajectory_text(drawn)
    plain.encode()
    assert not set(plain) & set("\x00\x1b\u202e")


def test_record_shows_question_reference_answer_and_verdict():
    right = record_html(Record(PROBLEM, GOOD.with_meta(correct=True)))
    text = read(right).text
    assert PROBLEM.question in text and "reference answer 7 or 7.0" in text and "✓ right" in text
    wrong = Record(PROBLEM, FAULTY.with_meta(correct=False), GOOD)
    text = read(record_html(wrong)).text
    assert "✗ wrong" in text and "✗ unknown tool" in text and "reference trajectory" in text
    assert "right" not in read(record_html(Record(PROBLEM, GOOD))).text
    assert record_text(wrong).splitlines()[:2] == [PROBLEM.question, "reference answer: 7 or 7.0  "
                                                                     "(wrong)"]
    no_answer = Record(PROBLEM, GOOD.with_meta(correct=False, failure="no_answer"))
    assert "✗ wrong (no_answer)" in read(record_html(no_answer)).text


def test_record_with_a_toolbox_that_is_not_here_is_still_drawn():
    away = Record(Problem("p", "q", ("1",), "s", "train", "nowhere.to:be_found"), GOOD)
    assert "add(a=3, b=4)" in read(record_html(away)).text


def test_long_texts_are_folded_and_very_long_ones_cut():
    short = trajectory_html(trajectory(Turn("word " * 70)))
    assert "<details>" not in short
    long = read(trajectory_html(trajectory(Turn("word " * 200))))
    # the step is stripped of its last blank
    assert "details" in long.tags and "(999 characters)" in long.text
    assert "details" in read(trajectory_html(trajectory(Turn("\n".join("abcdefghi"))))).tags
    huge = trajectory_html(trajectory(Turn("y" * 200_000)))
    assert len(huge) < 30_000 and "180,000 more characters not shown" in huge


def test_side_by_side_shares_the_question_of_one_problem():
    record = Record(PROBLEM, GOOD)
    drawn = side_by_side([("teacher", record), ("student", record)])
    assert isinstance(drawn, Html) and drawn._repr_html_() == str(drawn)
    assert read(str(drawn)).text.count(PROBLEM.question) == 1
    other = Record(Problem("p/2", "Another?", ("7",), "s", "train"), GOOD)
    text = read(str(side_by_side([("a", record), ("b", other), ("c", GOOD)]))).text
    assert text.count(PROBLEM.question) == text.count("Another?") == 1
    assert side_by_side([])._repr_html_()


def test_no_external_resources_and_no_typesetting():
    source = str(side_by_side([("a", Record(PROBLEM, FAULTY))]))
    assert "http" not in source and "url(" not in source and "<style" not in source
    assert "mathjax_ignore" in source
    assert "background:#fff;color:#222" in source  # own colours, whatever the theme


@pytest.mark.parametrize(("call", "shown"), [
    (ToolCall("", "add", {"a": 1, "b": "x"}), 'add(a=1, b="x")'),
    (ToolCall("", "sum_numbers", {"numbers": [1, 2.5]}), "sum_numbers(numbers=[1, 2.5])"),
    (ToolCall("", "add", None), "add(null)"), (ToolCall("", "add", [1, 2]), "add([1, 2])"),
    (ToolCall("", "add", {}), "add()"), (ToolCall("\n{oops}\n", None, None), "{oops}"),
])
def test_compact_call(call, shown):
    assert compact_call(call) == shown


def test_jupyter_hooks_and_show_in_a_terminal(capsys):
    record = Record(PROBLEM, GOOD)
    assert record._repr_html_() == record_html(record) and GOOD._repr_html_() == trajectory_html(
        GOOD
    )
    show(GOOD, record, Html("<b>x</b>"))
    assert (
        capsys.readouterr().out
        == trajectory_text(GOOD) + "\n" + record_text(record) + "\n<b>x</b>\n"
    )


def test_show_in_a_notebook_displays_the_object(monkeypatch):
    ipython = pytest.importorskip("IPython")
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance()
    monkeypatch.setattr(ipython, "get_ipython", lambda: shell)
    with capture_output() as captured:
        show(GOOD)
    InteractiveShell.clear_instance()
    assert captured.outputs[0].data["text/html"] == trajectory_html(GOOD)


def test_a_rejected_sample_shows_its_reason():
    rejected = Trajectory("p", (Turn("The answer is \\boxed{3}."),),
                          meta={"accepted": False, "reason": "wrong_answer"})
    assert "not a reference: wrong answer" in rejected._repr_html_()
    assert "not a reference" not in rejected.with_meta(accepted=True)._repr_html_()
