"""Run folders: keys, metrics that survive a kill, DONE, and what loading refuses."""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentor_kit.core.files import atomic_path, find_path
from mentor_kit.core.plugins import load_object
from mentor_kit.errors import UserError
from mentor_kit.runs.files import append_jsonl, canonical_json, read_jsonl, write_atomic
from mentor_kit.runs.open import init_run, load_run
from mentor_kit.runs.run import Run, notebook_version, run_key


def finished(folder, stage="collect", **params):
    run = init_run(folder, stage=stage, params=params)
    run.path("data/items.txt").write_text("one two")
    return run.finish(items=2)


def test_key_is_stable_and_depends_on_everything_it_names():
    key = run_key("train", 1, {"lr": 0.1, "method": "mentor"}, {"teacher_run": "abc"})
    assert key == run_key("train", 1, {"method": "mentor", "lr": 0.1}, {"teacher_run": "abc"})
    content = b'{"inputs":{"teacher_run":"abc"},"params":{"lr":0.1,"method":"mentor"},"stage":"train","version":1}'  # noqa: E501
    assert key == hashlib.sha256(content).hexdigest()[:12]
    others = [("eval", 1, {"lr": 0.1}, {}), ("train", 2, {"lr": 0.1}, {}),
              ("train", 1, {"lr": 0.2}, {}),
              ("train", 1, {"lr": 0.1}, {"teacher_run": "abd"}), ("train", 1, {"lr": 0.1}, {})]
    assert len({run_key(*other) for other in others} | {key}) == 6


def test_canonical_json_takes_numpy_and_refuses_no_float():
    value = {"b": np.float64(0.1), "a": [np.int64(2), float("nan"), float("inf")]}
    assert canonical_json(value) == '{"a":[2,null,null],"b":0.1}'


def test_a_finished_run_loads_with_its_facts(tmp_path):
    finished(tmp_path / "run", size=3)
    run = load_run(tmp_path / "run")
    assert (run.stage, run.params, run.facts) == ("collect", {"size": 3}, {"items": 2})
    done = json.loads((tmp_path / "run/DONE").read_text())
    assert list(done["artefacts"]) == ["data/items.txt", "params.yaml"]
    assert done["artefacts"]["data/items.txt"]["bytes"] == 7


def test_inputs_are_named_and_hashed_in_the_manifest(tmp_path):
    teacher = finished(tmp_path / "teacher")
    run = init_run(tmp_path / "run", stage="train",
                    params={"seed": 4, "teacher_run": "x", "run_dir": "y"},
                    inputs={"teacher_run": teacher})
    manifest = json.loads((run.dir / "manifest.json").read_text())
    assert run.params == {"seed": 4}
    assert run.inputs == {"teacher_run": f"collect/{teacher.key}"}
    assert manifest["seed"] == 4
    assert set(manifest["inputs"]["teacher_run"][0]["sha256"]) == {"data/items.txt", "params.yaml"}
    assert run.key == run_key("train", notebook_version("03_rl_training"), {"seed": 4},
                              {"teacher_run": teacher.key})


def test_no_environment_variable_reaches_the_run_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
    run = finished(tmp_path / "run")
    assert not [p for p in run.dir.rglob("*") if p.is_file()
                and b"sk-not-a-real-key" in p.read_bytes()]


@pytest.mark.parametrize("damage, message", [
    (lambda d: (d / "DONE").unlink(), "not finished"),
    (lambda d: (d / "DONE").write_text("{"), "damaged"),
    (lambda d: (d / "data/items.txt").unlink(), "lost its artefact 'data/items.txt'"),
    (lambda d: (d / "data/items.txt").write_text("one"), "size or hash differs"),
])
def test_a_damaged_run_is_refused_with_the_fix(tmp_path, damage, message):
    run = finished(tmp_path / "collect" / "key")
    damage(run.dir)
    with pytest.raises(UserError, match=message) as error:
        load_run(run.dir)
    assert "notebook 01_teacher_trajectories first" in str(error.value)


def test_changed_bytes_of_equal_size_are_found_when_asked(tmp_path):
    run = finished(tmp_path / "run")
    run.path("data/items.txt").write_text("two one")
    load_run(run.dir)
    with pytest.raises(UserError, match="size or hash differs"):
        load_run(run.dir, verify=True)


def test_a_missing_run_is_refused(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    with pytest.raises(UserError, match=r"no run at 'results/x'.*mentor-kit batch"):
        load_run("results/x", stage="collect")
    with pytest.raises(UserError, match="No finished run of stage 'collect'"):
        load_run("", stage="collect")


def test_in_the_lab_runs_go_to_interactive_and_the_latest_is_found(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    finished(tmp_path / "results/demo/collect/abc")
    run = finished("", size=1)
    assert run.dir == tmp_path / "results/interactive/collect" / run.key
    assert load_run("", stage="collect").key == run.key
    assert load_run("results/demo/collect/abc").facts == {"items": 2}


def test_a_finished_run_starts_over_and_an_unfinished_one_continues(tmp_path):
    run = init_run(tmp_path / "run", stage="train", params={})
    run.path("checkpoints/step.txt").write_text("1")
    run = init_run(tmp_path / "run", stage="train", params={})
    assert run.path("checkpoints/step.txt").is_file()
    run.finish()
    assert run.artefacts() == ["params.yaml"]
    run = init_run(tmp_path / "run", stage="train", params={})
    assert not run.is_done()
    assert not (run.dir / "checkpoints").exists()


def test_a_folder_of_other_parameters_is_refused_and_they_are_named(tmp_path):
    teacher, folder = finished(tmp_path / "teacher"), tmp_path / "run"

    def start(**params) -> Run:
        return init_run(folder, stage="train", params=params, inputs={"teacher_run": teacher})

    start(steps=40, rate=0.1).path("student.txt").write_text("s")
    with pytest.raises(
        UserError,
        match=r"other parameters \(steps: 3 asked, 40 stored\): give another folder, or delete",
    ):
        start(steps=3, rate=0.1)
    start(steps=40, rate=0.1).finish()
    with pytest.raises(
        UserError,
        match=r"\(rate: None asked, 0.1 stored; teacher_run: None asked, 'collect/.*' stored",
    ):
        init_run(folder, stage="train", params={"steps": 40})
    assert load_run(folder).path("student.txt").is_file()


def test_a_collection_goes_on_with_other_sizes(tmp_path):
    init_run(tmp_path / "run", stage="collect", params={"samples": 1}).path(
        "attempts.jsonl"
    ).write_text("{}\n")
    assert (
        init_run(tmp_path / "run", stage="collect", params={"samples": 2})
        .path("attempts.jsonl")
        .is_file()
    )


def train(folder, upto: int, checkpoint: int) -> Run:
    """A training of 6 steps that logs a line before it, continues after `checkpoint` and is killed
    after `upto`."""
    run = init_run(folder, stage="train", params={})
    run.log({"before": True})
    run.resume_metrics(checkpoint)
    for step in range(checkpoint + 1, upto + 1):
        run.log({"step": step, "loss": 1 / step})
    return run


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=3))
def test_metrics_of_a_killed_and_resumed_training_are_as_if_unbroken(tmp_path_factory, kills):
    undisturbed = train(tmp_path_factory.mktemp("a"), 6, 0)
    folder, checkpoint = tmp_path_factory.mktemp("b"), 0
    for kill in kills:
        run = train(folder, max(kill, checkpoint), checkpoint)
        with open(run.dir / "metrics.jsonl", "a") as file:
            file.write('{"step": 5, "los')  # the line that the kill cut
        checkpoint = max(kill, checkpoint) // 2 * 2
    run = train(folder, 6, checkpoint)
    assert (run.dir / "metrics.jsonl").read_bytes() == (
        undisturbed.dir / "metrics.jsonl"
    ).read_bytes()


def test_a_start_killed_before_it_resumed_loses_no_metrics(tmp_path):
    train(tmp_path / "run", 4, 0)
    init_run(tmp_path / "run", stage="train", params={}).log({"before": True})
    run = train(tmp_path / "run", 6, 4)
    assert [line.get("step") for line in run.metrics()] == [None, 1, 2, 3, 4, 5, 6]


def test_each_time_is_a_line_and_a_line_cut_by_a_kill_is_removed(tmp_path):
    run = init_run(tmp_path / "run", stage="train", params={})
    for _ in range(2):
        with run.time("train"):
            pass
    with open(run.dir / "timing.jsonl", "a") as file:
        file.write('{"name":"tra')
    run.log_time("step", 2.0, step=1)
    rows = read_jsonl(run.dir / "timing.jsonl")
    assert [row["name"] for row in rows] == ["train", "train", "step"]
    assert rows[-1] == {"name": "step", "seconds": 2.0, "step": 1}


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n\0\0\n{"a": 2}\n')
    with pytest.raises(UserError, match=r"a\.jsonl: line 2 is not a JSON object; delete"):
        read_jsonl(tmp_path / "a.jsonl")


def test_an_atomic_path_appears_whole_or_not_at_all(tmp_path):
    with atomic_path(tmp_path / "new" / "folder") as temporary:
        temporary.mkdir()
        (temporary / "a.txt").write_text("a")
        assert not (tmp_path / "new/folder").exists()
    assert (tmp_path / "new/folder/a.txt").read_text() == "a"
    write_atomic(tmp_path / "b.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "b.txt") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "b.txt").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.txt", "new"]


def test_same_parameters_same_bytes_but_for_manifest_and_timing(tmp_path):
    one, two = (finished(tmp_path / name, size=3).dir for name in "ab")
    for name in ("DONE", "params.yaml", "data/items.txt"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_a_run_shows_itself_as_a_card(tmp_path):
    (tmp_path / "notebooks").mkdir()
    folder = tmp_path / "results" / "demo" / "train" / "abc"
    run = init_run(folder, stage="train", params={"method": "mentor", "steps": 7, "rank": 32,
                                                  "save_every": 10, "student": "<b>x</b>"})
    card = run._repr_html_()
    assert "not finished" in card and "steps 7" in card and "&lt;b&gt;x&lt;/b&gt;" in card
    assert "save_every" not in card  # its default
    assert str(tmp_path) not in card and "results/demo/train/abc" in card
    run.log({"step": 7, "val/accuracy": 0.25})
    run.finish(method="mentor", **{"accuracy/in_domain": 0.125, "accuracy/longer": None})
    card = load_run(folder)._repr_html_()
    for text in ("done", "accuracy/in_domain 12.5%", "accuracy/longer no items",
                 "val/accuracy 25.0% at step 7"):
        assert text in card


def test_a_notebook_finds_files_and_modules_of_its_project(tmp_path, monkeypatch):
    """In JupyterLab the working folder is notebooks/."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "data.txt").write_text("x")
    (tmp_path / "own_module_of_a_project.py").write_text("answer = 42\n")
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert find_path("data.txt").read_text() == "x"
    assert find_path("../data.txt").read_text() == "x"
    assert load_object("own_module_of_a_project:answer", "thing") == 42
    with pytest.raises(UserError, match="no_such_module_at_all"):
        load_object("no_such_module_at_all:answer", "thing")


@pytest.mark.parametrize("damage", ["", "key: ", "\0\0\0", "[1]", "key: x\nstage: y\n"])
def test_params_that_a_crash_damaged_stop_nothing_where_the_folder_names_the_run(tmp_path, damage):
    key = init_run(tmp_path / "x", stage="train", params={"rate": 1}).key
    for name in ("x", key):
        run = init_run(tmp_path / name, stage="train", params={"rate": 1})
        run.log({"step": 1})
        run.path("params.yaml").write_text(damage)
    with pytest.raises(UserError, match=r"params.yaml' is damaged, .* delete this folder"):
        init_run(tmp_path / "x", stage="train", params={"rate": 1})
    again = init_run(tmp_path / key, stage="train", params={"rate": 1})
    again.resume_metrics(1)
    assert again.metrics() == [{"step": 1}]


def test_lines_that_a_crash_damaged_at_the_end_are_dropped(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for tail in (b'{"step": 2', b"\0\0\0\0", b'{"st\0\0'):
        file.write_bytes(b'{"step":1}\n' + tail)
        assert read_jsonl(file) == [{"step": 1}]
        append_jsonl(file, {"step": 2})
        assert file.read_bytes() == b'{"step":1}\n{"step":2}\n'
