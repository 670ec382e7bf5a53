"""Tables as people have them: odd files are read right or refused by name, never silently wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mentor_kit.core.cells import as_texts, question_cell, tool_names
from mentor_kit.core.tables import read_rows
from mentor_kit.errors import UserError
from mentor_kit.problems import load_problems

PAIR = {"problem": "What is 10 plus 5?", "answer": "15"}


def file(folder: Path, name: str, content: str | bytes) -> str:
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    return str(folder / name)


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\x0b", "\x1e"])
def test_only_a_line_feed_ends_a_json_line(tmp_path, mark):
    rows = [{"problem": f"What{mark}is it?", "answer": "1"}, PAIR]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert read_rows(file(tmp_path, "a.jsonl", text)) == rows


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_byte_order_marks_are_not_part_of_the_first_name(tmp_path, encoding, suffix):
    text = {"jsonl": json.dumps(PAIR), "json": json.dumps([PAIR]),
            "csv": "problem,answer\nWhat is 10 plus 5?,15\n"}[suffix]
    assert read_rows(file(tmp_path, f"a.{suffix}", text.encode(encoding))) == [PAIR]


def test_a_csv_file_keeps_its_texts_as_written(tmp_path):
    text = 'problem, answer\n"Two\nlines, one ""cell""","1,234"\n\nNA,007\nNone,\n'
    assert read_rows(file(tmp_path, "a.csv", text)) == [
        {"problem": 'Two\nlines, one "cell"', "answer": "1,234"},
        {"problem": "NA", "answer": "007"}, {"problem": "None", "answer": ""}]


@pytest.mark.parametrize(("name", "content", "match"), [
    ("a.csv", "problem,answer\nIf 10, what is 10 plus 5?,15\n", "line 2 has 3 fields, the header"),
    ("a.csv", "answer,problem\n15,What is 5?\n16,If 1, what?\n", "line 3 has 3 fields"),
    ("a.csv", "problem,answer\nonly one\n", "line 2 has 1 fields, the header has 2"),
    ("a.csv", 'problem,answer\n"open,1\n', "unexpected end of data; see to the double quotes"),
    ("a.csv", "answer,answer\n1,2\n", "names a column twice"),
    ("a.jsonl", '{"a": 1}\n{"a": 1\n', "line 2 is not JSON"),
    ("a.jsonl", '{"a": 1}\n["a"]\n', "line 2 is a JSON list"),
    ("a.json", '{"data": [{"a": 1}]}', "one JSON value, not a list of rows"),
    ("a.json", '["text"]', "row 0 is a JSON str"),
    ("a.csv", "problem,answer\nwhat,Gl\xfcck\n".encode("latin-1"), "line 2 is not UTF-8 text"),
    ("a.jsonl.gz", b"\x1f\x8b", "not compressed"), ("a.xlsx", b"PK", "is not a table")])
def test_files_that_do_not_fit_are_refused_with_their_line(tmp_path, name, content, match):
    with pytest.raises(UserError, match=match) as error:
        read_rows(file(tmp_path, name, content))
    assert "\n" not in str(error.value)


def test_missing_values_are_left_out_for_training_and_refused_for_evaluation(tmp_path):
    lines = ['{"problem": "a?", "answer": "1"}', '{"problem": "b?"}', '{"problem": null, '
             '"answer": "1"}', '{"problem": "c?", "answer": NaN}', '{"problem": "d?", "answer": 4}']
    path = file(tmp_path, "a.jsonl", "\n".join(lines))
    found = load_problems("hub_math", 0, {"train": -1}, path=path)
    assert {(p.question, p.answers) for p in found} == {("a?", ("1",)), ("d?", ("4",))}
    with pytest.raises(UserError, match=r"test/00001' has an empty 'answers'"):
        load_problems("question_set", 0, {"test": 0}, path=path, question="problem")


CHAT = [{"role": "system", "content": "Think."}, {"role": "user", "content": "What is 5?"}]


@pytest.mark.parametrize("cell", [CHAT, CHAT[1:], CHAT[1], json.dumps(CHAT), str(CHAT), [
    {"role": "user", "content": [{"type": "text", "text": "What "}, {"text": "is 5?"}]}]])
def test_a_question_may_be_a_chat_with_one_user_message(tmp_path, cell):
    assert question_cell({"prompt": cell}, "prompt", "row 0") == "What is 5?"


@pytest.mark.parametrize("cell", [
    [*CHAT, {"role": "assistant", "content": "5"}, {"role": "user", "content": "Why?"}],
    [{"from": "human", "value": "What is 5?"}], {"text": "What is 5?"}, ["a", "b"], b"What?",
    [{"role": "user", "content": [{"type": "image", "url": "x"}]}]])
def test_other_structures_are_not_asked_as_python_text(cell):
    with pytest.raises(UserError, match="row 7, column 'prompt' holds"):
        question_cell({"prompt": cell}, "prompt", "row 7")


def test_the_chat_form_of_parquet(tmp_path):
    rows = [{"prompt": CHAT, "reward_model": {"ground_truth": "5", "style": "rule"}}]
    pq.write_table(pa.Table.from_pylist(rows), path := tmp_path / "a.parquet")
    options = {"path": str(path), "question": "prompt"}
    found = load_problems("hub_math", 0, {"train": 1}, answer="reward_model.ground_truth",
                          **options)
    assert (found[0].question, found[0].answers) == ("What is 5?", ("5",))
    with pytest.raises(UserError, match=r"name one of its fields \(ground_truth, style\)"):
        load_problems("hub_math", 0, {"train": 1}, answer="reward_model", **options)


@pytest.mark.parametrize(("cell", "texts"), [
    ("['a', 'b']", ["a", "b"]), ('["a", null]', ["a"]), ([], []), ("[]", []), (float("nan"), []),
    ("[[1, 0], [0, 1]]", ["[[1, 0], [0, 1]]"]), ("{1, 2}", ["{1, 2}"]), ("(0, 1)", ["(0, 1)"]),
    ([1, 2.5], ["1", "2.5"]), (" 7 ", ["7"])])
def test_answers_of_every_form(cell, texts):
    assert as_texts(cell) == texts


@pytest.mark.parametrize("cell", ["['a' 'b']", [["a"], ["b"]], [{"value": 1}], {"value": 1},
                                  '{"value": 1}', b"1"])
def test_answers_that_are_not_texts_are_refused(cell):
    with pytest.raises(UserError, match="the cell holds"):
        as_texts(cell)


def test_what_follows_the_mark_is_the_answer(tmp_path):
    worked = [{"problem": "a?", "answer": "1 + 1 = 2\n#### 2"}, {"problem": "b?", "answer": "3"},
              {"problem": "c?", "answer": "no end\n####"}]
    path = file(tmp_path, "a.jsonl", "\n".join(map(json.dumps, worked)))
    found = load_problems("hub_math", 0, {"train": -1}, path=path)
    assert {(p.question, p.answers) for p in found} == {("a?", ("2",)), ("b?", ("3",))}


@pytest.mark.parametrize("cell", [
    ["add", "sqrt"], '["add", "sqrt"]', "['add', 'sqrt']", "add, sqrt", [{"name": "add"},
                                                                        {"name": "sqrt"}],
    [{"function": {"name": "add"}}, {"function": {"name": "sqrt"}}],
    "[{'name': 'add', 'arguments': {'a': 1}}, {'name': 'sqrt'}]"])
def test_names_of_tools_in_every_form(cell):
    assert tool_names(cell, "row 0") == ["add", "sqrt"]
    assert tool_names(None, "row 0") == tool_names("", "row 0") == []
    for other in ({"add": 1}, [["add"]], "add(1, 2)", 7):
        with pytest.raises(UserError, match="row 0 does not hold names of tools"):
            tool_names(other, "row 0")


def test_a_split_column_may_hold_numbers(tmp_path):
    rows = [{"question": f"q{i}", "answer": "1", "level": i % 2 + 1} for i in range(4)]
    path = file(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    found = load_problems("question_set", 0, {"1": 0, "2": 1}, path=path, split_column="level")
    assert [(p.split, p.question) for p in found] == [("1", "q0"), ("1", "q2"), ("2", "q1")]
