"""Collection: everything asked is stored with its outcome; configurations refuse what cannot be."""

from __future__ import annotations

import sys

import pytest
from small_student import new_run

from mentor_kit.collect import as_references, collect, load_collection
from mentor_kit.configs import CollectConfig, TrainConfig, configure, given, parse_options
from mentor_kit.errors import UserError

SIZES = ["train:30", "validation:5", "in_domain:5", "teacher_rejected:3"]


def test_collect_stores_every_attempt(tmp_path):
    config, run = configure(CollectConfig, split_sizes=SIZES), new_run(tmp_path / "a", "collect")
    collection = collect(config, run)
    assert collection.counts()["asked/train"] == 30 and collection.counts()["accepted/teacher_rejected"] == 0
    assert load_collection(run) == collection
    assert {r.trajectory.meta["reason"] for r in collection.split("teacher_rejected")} - {"accepted"}
    assert set(as_references(collection.records)) == {r.problem.id for r in collection.accepted()}
    again = new_run(tmp_path / "b", "collect")
    collect(config, again)
    assert run.path("trajectories.parquet").read_bytes() == again.path("trajectories.parquet").read_bytes()


def test_own_source_and_toolbox(tmp_path, monkeypatch):
    (tmp_path / "my_module.py").write_text(
        "from mentor_kit.problem import Problem\nfrom mentor_kit.toolbox import Toolbox\n"
        "def double(x: float) -> float:\n    'Twice x.'\n    return 2 * x\nBOX = Toolbox('mine', [double])\n"
        "def load(seed, sizes):\n    return [Problem(f'{s}/{i}', f'In {s}, what is twice {i}?', [str(2 * i)], 'mine', s, "
        "meta={'program': [{'tool': 'double', 'arguments': {'x': i}}]}) for s, n in sizes.items() for i in range(n)]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = configure(CollectConfig, problems="my_module:load", toolbox="my_module:BOX", split_sizes=["train:4"])
    collection = collect(config, new_run(tmp_path / "run", "collect"))
    assert len(collection.accepted("train")) == 4 and collection.accepted()[1].trajectory.tool_names == ("double",)
    sys.modules.pop("my_module")


@pytest.mark.parametrize(("parameters", "match"), [
    ({"problems": "nowhere"}, "Unknown problem source 'nowhere'"),
    ({"teacher": "nobody"}, "nobody"), ({"split_sizes": ["train"]}, "not of the form name:value"),
    ({"problem_options": ["nonsense:1"]}, "nonsense"), ({"toolbox": "no_such:BOX"}, "cannot be imported")])
def test_bad_parameters_are_one_clear_line(parameters, match, tmp_path):
    config = configure(CollectConfig, **{"split_sizes": ["train:3"], **parameters})
    with pytest.raises(UserError, match=match) as error:
        collect(config, new_run(tmp_path, "collect"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "trajectories.parquet").exists()


def test_configurations_are_validated():
    assert configure(TrainConfig, learning_rate="1e-6").learning_rate == 1e-6
    with pytest.raises(UserError, match=r"TrainConfig: steps='many'"):
        configure(TrainConfig, steps="many")
    with pytest.raises(UserError, match="stepz=3: Extra inputs"):
        configure(TrainConfig, stepz=3)
    assert given(TrainConfig, {"steps": 3, "other": 4}) == {"steps": 3}
    assert parse_options(["a:1", "b:x", "c:true"], "o") == {"a": 1, "b": "x", "c": True}
