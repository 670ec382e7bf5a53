"""The one stored form: nothing is lost, the same content gives the same bytes, damage is a user
error."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentor_kit.core.chat_markup import render_call, render_environment
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import (
    COLUMNS,
    Record,
    load_records,
    record_to_row,
    row_to_record,
    save_records,
    to_json,
)
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError

CALLS = Turn("Add.\n" + render_call("add", {"a": 1, "numbers": [1, None]}), "eos",
             render_environment(["3"]))
REFERENCE = Trajectory("p/1", (CALLS, Turn("\\boxed{3}")))


def records() -> list[Record]:
    one = Problem("p/1", "How many?\n<|im_end|>é", ("3", "3.0"), "stories", "train", "arithmetic",
                  {"program": [{"tool": "add", "arguments": {"a": 1, "b": {"result": 0}}}],
                   "none": None, "é": 1.5})
    two = Problem("p/2", "Why?", ("",), "s", "in_domain", "my.tools:BOX")
    return [Record(one, Trajectory("p/1", (CALLS, Turn("\\boxed{3}")), "student:mentor", 7,
                                   {"correct": True, "failure": None, "terms": {"answer": 0.7}}),
                   REFERENCE),
            Record(one, Trajectory("p/1", (CALLS, Turn(render_call("add", {}), "max_turns")))),
            Record(two, Trajectory("p/2", (Turn("cut", "length"),))),
            Record(two, Trajectory("p/2", (Turn("", "error"),), sample=2**40))]


def test_round_trip(tmp_path):
    path = save_records(tmp_path / "deep" / "trajectories.parquet", records())
    assert load_records(path) == records()
    assert [p.name for p in path.parent.iterdir()] == ["trajectories.parquet"]


def test_files_of_earlier_versions_get_todays_names():
    row = record_to_row(records()[1])
    meta = {"failure": "overlong", "reason": "turn_limit", "note": "overlong"}
    old = row_to_record(row | {"finish": "tool_cap", "meta": to_json(meta)})
    assert old.trajectory.finish == "max_turns"
    assert old.trajectory.meta == {"failure": "length", "reason": "max_turns", "note": "overlong"}
    mine = row_to_record(row | {"meta": '{"reason":["mine"]}'})
    assert mine.trajectory.meta == {"reason": ["mine"]}


def test_an_empty_file_keeps_its_columns(tmp_path):
    path = save_records(tmp_path / "none.parquet", [])
    assert load_records(path) == [] and pq.read_schema(path).names == list(COLUMNS)


def test_same_content_same_bytes(tmp_path):
    first = save_records(tmp_path / "a.parquet", records()).read_bytes()
    second = save_records(tmp_path / "b.parquet", iter(records())).read_bytes()
    assert first == second
    changed = records()
    changed[0] = Record(changed[0].problem, changed[0].trajectory.with_meta(correct=False),
                        REFERENCE)
    assert save_records(tmp_path / "c.parquet", changed).read_bytes() != first


def test_key_order_of_meta_does_not_matter():
    assert to_json({"b": 1,
                    "a": [1, {"d": None, "c": "é"}]}) == '{"a":[1,{"c":"é","d":null}],"b":1}'


def test_columns_are_plain_types_that_datasets_reads(tmp_path):
    path = save_records(tmp_path / "a.parquet", records())
    row = pq.read_table(path).to_pylist()[0]
    assert list(row) == list(COLUMNS)
    assert row["answers"] == ["3", "3.0"] and row["sample"] == 7 and row["finish"] == "eos"
    assert row["response"] == REFERENCE.to_text() == row["reference"]
    assert json.loads(row["meta"])["terms"] == {"answer": 0.7}
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert [row_to_record(r) for r in data] == records()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["<|im_end|>", "\n<|im_start|>user\n", "<|im_start|>assistant\n",
                                 "<tool_call>", "\x00",
                                 "</tool_call>"]) | st.text(max_size=6), max_size=8).map("".join))
def test_any_response_survives_a_row(text):
    trajectory = Trajectory.from_text(text, "p/1", producer="x")
    record = Record(Problem("p/1", text or "q", (text or "a",), "s", "train"), trajectory,
                    trajectory)
    back = row_to_record(record_to_row(record))
    assert back.trajectory == trajectory and back.problem == record.problem
    assert back.reference.to_text() == text


def test_an_unpaired_surrogate_does_not_lose_the_file(tmp_path):
    bad = Record(Problem("p", "q\ud800", ("\ud800",), "s", "train"),
                 Trajectory.from_text("x\udfff", meta={"a": "\ud800"}))
    back, = load_records(save_records(tmp_path / "a.parquet", [bad]))
    assert (back.problem.question, back.problem.answers, back.trajectory.to_text()) == ("q?", ("?",
                                                                                        ), "x?")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = save_records(tmp_path / "a.parquet", records())
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_records(path, [Record(records()[0].problem, REFERENCE.with_meta(bad={1, 2}))])
    assert path.read_bytes() == before


# -- damage

def message(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_records(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def test_missing_wrong_and_foreign_files(tmp_path):
    assert "run the stage that writes it first" in message(tmp_path / "none.parquet")
    assert "No trajectory file" in message(tmp_path)
    (tmp_path / "text.parquet").write_text("not parquet")
    assert "not a readable Parquet file" in message(tmp_path / "text.parquet")
    (tmp_path / "empty.parquet").write_bytes(b"")
    assert "not a readable Parquet file" in message(tmp_path / "empty.parquet")
    pq.write_table(pa.table({"problem_id": ["p"]}), tmp_path / "other.parquet")
    assert "column 'question' is missing" in message(tmp_path / "other.parquet")


@pytest.mark.parametrize(("column", "value"),
                         [("meta", "{oops"), ("problem_meta", ""), ("answers", None),
                                               ("question", ""), ("response", None)])
def test_rows_that_are_no_records(tmp_path, column, value):
    path = save_records(tmp_path / "a.parquet", records())
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[1][column] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    assert "not a readable Parquet file of trajectories" in message(path)


def test_truncated_files(tmp_path):
    whole = save_records(tmp_path / "a.parquet", records()).read_bytes()
    cut = tmp_path / "cut.parquet"
    for length in range(0, len(whole), 211):
        cut.write_bytes(whole[:length])
        message(cut)


def test_flipped_bytes_never_raise_anything_else(tmp_path):
    whole = save_records(tmp_path / "a.parquet", records()).read_bytes()
    flipped, refused = tmp_path / "flipped.parquet", 0
    places = range(0, len(whole), 11)
    for place in places:
        flipped.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1:])
        try:
            load_records(flipped)
        except UserError:
            refused += 1
    assert refused > 0.65 * len(places)  # the rest are bytes that carry nothing, such as statistics
