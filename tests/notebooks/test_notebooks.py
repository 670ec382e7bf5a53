"""All five notebooks, executed by the batch with smoke parameters; their artefacts' schemas."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mentor_kit.core.records import load_records
from mentor_kit.runs.open import load_run

pytestmark = pytest.mark.numeric
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The project's notebooks and studies in a folder of their own, the smoke study run once."""
    return fresh_project(tmp_path_factory.mktemp("project"))


def fresh_project(folder: Path) -> Path:
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, folder / name,
                        ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    batch(folder)
    return folder


def batch(folder: Path) -> str:
    command = [sys.executable, "-m", "mentor_kit", "batch", "params/smoke.yaml", "--workers", "2"]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True,
                          timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def runs(project: Path, stage: str) -> list[Path]:
    return sorted(p.parent for p in (project / "results" / "smoke" / stage).glob("*/DONE"))


def test_every_stage_ran(project):
    stages = ("collect", "cold_start", "design", "train", "evaluate", "evaluate_constrained",
              "figures")
    counts = {s: len(runs(project, s)) for s in stages}
    assert counts == {"collect": 1, "cold_start": 1, "design": 1, "train": 3, "evaluate": 4,
                      "evaluate_constrained": 1,
                      "figures": 1}


def test_second_run_does_nothing(project):
    assert "nothing to do" in batch(project)


def test_executed_notebooks_are_clean(project):
    """No exception, no warning noise, and every code cell was executed."""
    for path in (project / "results").rglob("notebook.ipynb"):
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        assert all(c["execution_count"] for c in cells), path
        outputs = [o for c in cells for o in c["outputs"]]
        assert not [o for o in outputs if o["output_type"] == "error"
                    or o.get("name") == "stderr"], path


@pytest.mark.parametrize("stage", ["collect", "design", "train", "evaluate"])
def test_trajectories_of_every_stage_have_one_form(project, stage):
    for folder in runs(project, stage):
        path = folder / "trajectories.parquet"
        if not path.exists():
            assert load_run(folder).params["method"] == "sft"
            continue
        for record in load_records(path):
            assert record.trajectory.to_text() is not None and record.problem.answers
            if stage != "collect":
                assert isinstance(record.trajectory.meta["correct"], bool)


def test_training_runs_leave_student_metrics_and_budget(project):
    for folder in runs(project, "train"):
        steps = [m["step"] for m in load_run(folder).metrics()]
        assert max(steps) == 2 and (folder / "student" / "config.json").is_file()
        budget = json.loads((folder / "budget.json").read_text())
        assert set(budget) >= {"optimizer_steps", "sampled_tokens", "teacher_tokens"}


def test_report_is_whole(project):
    report = runs(project, "figures")[0] / "report"
    for name in ("training_curves", "accuracy_by_split", "similarity_vs_accuracy", "tool_usage"):
        assert (report / f"{name}.pdf").stat().st_size > 5000 and (
            report / f"{name}.png"
        ).stat().st_size > 5000
    assert (report / "figures.html").is_file() and "newcommand" in (
        report / "numbers.tex"
    ).read_text()
    table = next(report.glob("main*.csv"))
    assert len(pd.read_csv(table)) >= 5


def test_artefacts_hold_no_dates_or_paths(project):
    for folder in runs(project, "train") + runs(project, "evaluate"):
        text = (folder / "metrics.jsonl").read_text() if (folder / "metrics.jsonl").exists() else ""
        assert "step_time" not in text and str(project) not in text


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes(project, tmp_path):
    """On one kind of CPU. DONE lists every artefact's hash: trajectories, metrics, students,
    tables, figures."""
    again = fresh_project(tmp_path)
    listed = [{p.relative_to(root): json.loads(p.read_text())["artefacts"]
               for p in (root / "results").rglob("DONE")}
              for root in (project, again)]
    same = [{run: {name: f["sha256"] for name, f in files.items() if f["deterministic"]} for run,
             files in runs.items()}
            for runs in listed]
    assert len(same[0]) == 12 and same[0] == same[1]
