"""What a tracker gets of a training: validation, and rollouts as tables of bounded size."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import pytest
from small_student import teacher_records
from training_project import ENVIRONMENT, make_inputs, parameters, train_elsewhere

from mentor_kit.core.records import load_records
from mentor_kit.training import tracker
from mentor_kit.training.tracker import Tracker, rollout_rows


def scored(record, **meta):
    facts = {"reward": 0.5, "terms": {"answer": 0.5}, "correct": True, "tokens": 7, **meta}
    return replace(record, trajectory=record.trajectory.with_meta(**facts))


def test_rollouts_are_rows_of_reward_and_terms_with_long_texts_cut(monkeypatch):
    first, second = teacher_records(2)
    rows = rollout_rows(3, [scored(first), scored(second, terms={"form": 0.1}, correct=False)])
    assert rows[0] == {"step": 3, "problem": first.problem.id, "prompt": first.problem.question,
                       "completion": first.trajectory.to_text(), "reward": 0.5,
                       "term/answer": 0.5, "term/form": 0.0, "correct": True, "tokens": 7}
    assert rows[1]["term/answer"] == 0.0 and not rows[1]["correct"]
    monkeypatch.setattr(tracker, "CHARACTERS", 5)
    row = rollout_rows(3, [scored(first)])[0]
    assert row["completion"] == first.trajectory.to_text()[:5] and len(row["prompt"]) == 5


@pytest.mark.parametrize("name", ["none", "tensorboard"])
def test_a_training_without_tables_sends_nothing(name):
    quiet = Tracker(name, "a run")
    quiet.send(0, {"val/accuracy": 1.0})
    quiet.send_rollouts(1, [])
    assert quiet.package is None and not quiet.waiting


@pytest.mark.numeric
def test_trackio_holds_the_metrics_the_validations_and_the_rollouts(tmp_path, monkeypatch):
    pytest.importorskip("trackio", reason="needs trackio")
    monkeypatch.setitem(ENVIRONMENT, "TRACKIO_DIR", str(tmp_path / "trackio"))
    run = train_elsewhere(tmp_path / "run", parameters(make_inputs(tmp_path), steps=2,
                                                       report_to="trackio"))
    with sqlite3.connect(next((tmp_path / "trackio").glob("*.db"))) as database:
        rows = database.execute("select run_name, metrics from metrics order by id").fetchall()
    assert (tmp_path / "trackio" / f"{tracker.PROJECT}.db").is_file()
    assert {name for name, _ in rows} == {f"mentor-seed0-{run.key}"}
    lines = [json.loads(metrics) for _, metrics in rows]
    tables = [(line["train/global_step"], line["rollouts"]["_value"]) for line in lines
              if "rollouts" in line]
    stored = load_records(run.dir / "trajectories.parquet")
    for step, table in tables:
        rollouts = [r for r in stored if r.trajectory.meta["step"] == step]
        assert table == rollout_rows(step, rollouts[:tracker.ROWS])
    assert [step for step, _ in tables] == [1, 2]
    logged = [(line["step"], line["val/accuracy"]) for line in run.metrics()
              if "val/accuracy" in line]
    assert [(line["train/global_step"], line["val/accuracy"]) for line in lines
            if "val/accuracy" in line] == logged
    assert sum("train/reward" in line for line in lines) == 2


@pytest.mark.numeric
def test_wandb_keeps_the_rollouts_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path),
                        "WANDB_SILENT": "true"}.items():
        monkeypatch.setitem(ENVIRONMENT, name, value)
    run = train_elsewhere(tmp_path / "run", parameters(make_inputs(tmp_path), steps=2,
                                                       report_to="wandb"))
    files = sorted((tmp_path / "wandb").glob("offline-run-*/files/media/table/rollouts_*.json"))
    tables = [json.loads(file.read_text()) for file in files]
    stored = load_records(run.dir / "trajectories.parquet")
    steps = sorted(table["data"][0][0] for table in tables)
    assert steps == [1, 2] and {len(table["data"]) for table in tables} == {len(stored) // 2}
    assert all(table["columns"][:5] == ["step", "problem", "prompt", "completion", "reward"]
               for table in tables)
