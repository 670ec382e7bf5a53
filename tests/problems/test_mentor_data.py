"""The released data's form in all its variants; its code is never run; our export reads back."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_student import new_run

from mentor_kit.collection.collect import collect
from mentor_kit.collection.collection import Collection
from mentor_kit.collection.config import CollectConfig
from mentor_kit.collection.export import export_mentor_data
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.problems import load_problems
from mentor_kit.problems.mentor_data import defined_names, schema_names
from mentor_kit.rewards import load_reward
from mentor_kit.runs.parameters import configure

ENV = "import os\nopen('PWNED', 'w')\ndef add(a, b):\n    return a + b\ndef _help():\n    pass\n"
SCHEMAS = [{"type": "function", "function": {"name": "add"}}, {"name": "sqrt"}]


def row(i: int, used=("add", "add"), *, texts: bool = False, **info) -> dict:
    info = {"env": ENV, "func_schemas": json.dumps(SCHEMAS), "index": 100 + i, **info}
    return {"question": f"What is {i} plus 1 plus 1?",
            "reward_model": {"ground_truth": str(i + 2), "style": "rule"},
            "tool_calls_used": json.dumps(used) if texts else list(used), "data_source": "ace",
            "extra_info": json.dumps(info) if texts else info}


def write(path, rows) -> str:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def load(path: str, n: int = -1, **options):
    return load_problems("mentor_data", 0, {"train": n}, path=path, **options)


@pytest.mark.parametrize("texts", [False, True])
def test_columns_as_dicts_and_as_json_texts(tmp_path, monkeypatch, texts):
    monkeypatch.chdir(tmp_path)
    problems = load(write(tmp_path / "data.parquet", [row(i, texts=texts) for i in range(4)]))
    first = min(problems, key=lambda p: p.id)
    assert (
        first.id == "data/train/000000"
        and first.answers == ("2",)
        and first.toolbox == "arithmetic"
    )
    assert first.meta == {"teacher_tools": ["add", "add"], "index": 100, "data_source": "ace"}
    assert len(problems) == 4 and not (tmp_path / "PWNED").exists()


def test_code_is_read_for_names_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert defined_names(ENV) == {"add"} and not (tmp_path / "PWNED").exists()
    assert schema_names(SCHEMAS) == {"add", "sqrt"} and schema_names("no json") == set()
    for source in ("def (", "x = " + "(" * 10_000, "a" * 300_000):
        with pytest.raises(UserError, match="is not Python source that can be parsed"):
            defined_names(source)


@pytest.mark.parametrize("bad",
                         [row(9, ("add", "solve_integral")),
                          row(9, func_schemas=None, env="def solve_integral(): 0"),
                                 row(9, func_schemas=json.dumps([{"name": "solve_integral"}]))])
def test_other_tools_are_refused_by_name_with_the_way_out(tmp_path, bad):
    path = write(tmp_path / "data.parquet", [row(0), bad])
    with pytest.raises(
        UserError,
        match=r"row 1 brings the tool 'solve_integral'.*toolbox:package.module:name.*skip_unknown",
    ):
        load(path)
    assert [p.answers for p in load(path, skip_unknown=True)] == [("2",)]


def test_missing_column_and_no_usable_row(tmp_path):
    with pytest.raises(UserError, match=r"no column 'reward_model.ground_truth'"):
        load(write(tmp_path / "a.parquet", [{"question": "?", "answer": "1"}]))
    with pytest.raises(UserError, match="has no usable row"):
        load(write(tmp_path / "b.parquet", [{**row(0), "question": ""}]))


def test_released_tool_names_become_references_that_rewards_read(tmp_path):
    path = write(tmp_path / "data.parquet", [row(0), row(1, ("sqrt",)), row(2, ())])
    config = configure(CollectConfig, problems="mentor_data", teacher="released_tools",
                       split_sizes=["train:-1"],
                       problem_options=[f"path:{path}"])
    found = collect(config, new_run(tmp_path / "run", "collect"))
    assert found.reasons().to_dict() == {"accepted": {"train": 2}, "no_tool": {"train": 1}}
    tools = {r.problem.answers[0]: set(r.trajectory.tool_names) for r in found.accepted()}
    assert tools == {"2": {"add"}, "3": {"sqrt"}}
    reference = next(r for r in found.accepted() if r.problem.answers[0] == "3")
    student = Trajectory.from_text('<tool_call>\n{"name": "sqrt", "arguments": {"x": '
                                   '9}}\n</tool_call> \\boxed{3}<|im_end|>')
    assert load_reward("mentor")(
        reference.problem, reference.trajectory, student
    ).total == pytest.approx(1.1)


def test_the_export_reads_back_and_its_card_counts(tmp_path):
    config = configure(CollectConfig, split_sizes=["train:20", "teacher_rejected:2"])
    found = collect(config, new_run(tmp_path / "run", "collect"))
    folder = export_mentor_data(found, tmp_path / "set", config)
    again = export_mentor_data(found, tmp_path / "again", config)
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "train.parquet"]
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()
    back = {p.question: p for p in load(str(folder / "train.parquet"))}
    assert {r.problem.question: list(r.trajectory.tool_names) for r in found.accepted()} == \
        {q: p.meta["teacher_tools"] for q, p in back.items()}
    card = (folder / "README.md").read_text()
    for words in ("| train | 20 | 20 | `", "| teacher_rejected | 2 | 0 | - |",
                  "Teacher: `worked_solution`", "Apache-2.0"):
        assert words in card


def test_the_export_keeps_all_accepted_answers(tmp_path):
    config = configure(CollectConfig, split_sizes=["train:1"])
    found = collect(config, new_run(tmp_path / "run", "collect"))
    record = found.records[0]
    both = replace(record, problem=replace(record.problem, answers=("2", "-2")))
    export_mentor_data(Collection((both,)), tmp_path / "set", config)
    written = pq.read_table(tmp_path / "set" / "train.parquet").to_pylist()[0]
    assert written["reward_model"] == {"ground_truth": "2"} and written["extra_info"][
        "answers"
    ] == ["2", "-2"]
