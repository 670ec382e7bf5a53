"""Problems of any table with question and answer columns: files of every kind, columns, splits,
refusals."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from mentor_kit.core.cells import as_texts
from mentor_kit.core.tables import read_rows
from mentor_kit.errors import UserError
from mentor_kit.problems import load_problems

ROWS = [{"problem": f"What is {i} plus 1?", "answer": str(i + 1)} for i in range(20)]


def write(folder, kind: str, rows=ROWS) -> str:
    path = folder / f"sums.{kind}"
    frame = pd.DataFrame(rows)
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    else:
        path.write_text(json.dumps(rows))
    return str(path)


def load(path: str, seed: int = 0, train: int = 5, **options):
    return load_problems("hub_math", seed, {"train": train, "validation": 3}, path=path, **options)


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "json"])
def test_every_kind_of_file_gives_the_same_problems(tmp_path, kind):
    problems = load(write(tmp_path, kind))
    assert problems == load(write(tmp_path, "parquet"))
    assert [p.split for p in problems] == ["train"] * 5 + ["validation"] * 3
    assert all(p.id == f"sums/train/{int(p.answers[0]) - 1:06d}" and p.source == "sums"
               for p in problems)


def test_a_folder_of_datasets(tmp_path):
    from datasets import Dataset, DatasetDict

    DatasetDict({"test": Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "set"))
    assert len(load(str(tmp_path / "set"), hub_split="test")) == 8


def test_seed_shuffles_and_sizes_do_not_move_problems(tmp_path):
    path = write(tmp_path, "jsonl")
    few, many = load(path, train=5), load(path, train=10)
    assert [p.id for p in many[:5]] == [p.id for p in few[:5]]
    assert [p.id for p in load(path, seed=1)] != [p.id for p in few]
    assert len(load(path, train=-1)) == 20


def test_columns_may_be_nested_and_answers_lists(tmp_path):
    rows = [{"prompt": "Root of 4?", "label": {"gold": ["2", "-2"]}},
            {"prompt": "root of 4", "label": {"gold": ["x"]}},
            {"prompt": "", "label": {"gold": ["1"]}},
            {"prompt": "No answer?", "label": {"gold": []}}]
    found = load_problems("hub_math", 0, {"train": -1}, path=write(tmp_path, "jsonl", rows),
                          question="prompt",
                          answer="label.gold")
    assert [(p.question, p.answers) for p in found] == [("Root of 4?", ("2", "-2"))]


def test_texts():
    assert (
        as_texts('["a", "b"]') == ["a", "b"]
        and as_texts("[0, 1)") == ["[0, 1)"]
        and as_texts("[0, 1]") == ["[0, 1]"]
    )
    assert as_texts(7) == ["7"] and as_texts(None) == [] and as_texts(["a", None, " "]) == ["a"]


@pytest.mark.parametrize(("name", "options", "match"), [
    ("none.parquet", {}, "There is no file"),
    ("sums.jsonl", {"answer": "gold"}, "no column 'gold', only 'problem', 'answer'"),
    ("sums.jsonl", {"train": 50}, "20 usable problems, 53 were asked for"),
    ("empty.jsonl", {}, "holds no row"),
    ("broken.parquet", {}, "cannot be read"), ("blank.jsonl", {}, "no row has both"),
    ("nobody/no-such-set", {}, "cannot be read")])
def test_refusals_are_one_line(tmp_path, monkeypatch, name, options, match):
    write(tmp_path, "jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.parquet").write_text("PAR1 not")
    (tmp_path / "blank.jsonl").write_text('{"problem": "a", "answer": null}\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=match) as error:
        load(name, **options)
    assert "\n" not in str(error.value)
    assert read_rows("sums.jsonl") == ROWS
