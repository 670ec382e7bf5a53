"""A study of 24 jobs on two workers, three of which fail: one raises, one's kernel is killed, one
hangs.

And no secret of the environment in anything that a study leaves, whole or failed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fault_server import running
from tiny_project import make_project, study_of

from mentor_kit.batch.job import job_state
from mentor_kit.batch.study import Study, load_study

ROOT = Path(__file__).parents[2]
LIMIT = 25  # seconds; a good job takes one or two, on a loaded machine ten
SECRETS = {name: f"sk-{name.lower().replace('_', '-')}-must-not-be-stored"
           for name in ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "MENTOR_API_KEY")}
CAUSES = {"fit method=raise seed=0": "ValueError: this method cannot be fitted",
          "fit method=die seed=0": "the kernel died (killed, or out of memory)",
          "fit method=hang seed=0": f"time limit of {LIMIT} s"}


def batch(file: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mentor_kit", "batch", f"params/{file.name}", "--workers", "2",
               *options]
    return subprocess.run(command, cwd=file.parents[1], env={**os.environ, **SECRETS},
                          capture_output=True, text=True,
                          timeout=280, check=False)


def states(study: Study) -> dict[str, tuple[str, str]]:
    return {str(job): job_state(job.run_dir) for job in study.jobs}


def attempts(study: Study) -> dict[str, int]:
    """Job -> how often its process came to its end, failed or not (one that is killed logs no
    time)."""
    logs = {str(job): job.run_dir / "timing.jsonl" for job in study.jobs}
    lines = {name: log.read_text().splitlines() if log.exists() else [] for name,
             log in logs.items()}
    return {name: sum(json.loads(line)["name"] == "job" for line in found) for name,
            found in lines.items()}


def holders_of_secrets(results: Path) -> list[str]:
    """Files that hold a secret, as bytes or, in Parquet, as a decoded value."""
    found = []
    for path in (p for p in results.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            content += repr((table.to_pylist(), table.schema.metadata)).encode()
        found += [f"{path.relative_to(results)} holds {name}" for name, value in SECRETS.items()
                  if value.encode() in content]
    return found


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> tuple[Study, subprocess.CompletedProcess]:
    text = study_of(24, "hang", "raise", "die")
    study = load_study(make_project(tmp_path_factory.mktemp("broken"), text))
    return study, batch(study.file, "--time-limit", str(LIMIT))


def test_the_other_21_end_and_the_three_are_named_with_their_causes(broken):
    study, done = broken
    found = states(study)
    assert len(found) == 24
    assert {name: cause for name, (state, cause) in found.items() if state == "failed"} == CAUSES
    assert sum(state == "done" for state, _ in found.values()) == 21
    assert done.returncode == 1 and done.stderr == ""
    assert "21 of 24 jobs are done" in done.stdout
    for name, cause in CAUSES.items():
        assert f"failed: {name}: {cause}\n" in done.stdout
    assert "--retry-failed" in done.stdout


def test_no_secret_is_stored_by_a_study_that_fails(broken):
    study, done = broken
    assert holders_of_secrets(study.results) == []
    assert not [value for value in SECRETS.values() if value in done.stdout]


def test_retry_failed_runs_just_these_three(broken):
    study, _ = broken
    before, ran = attempts(study), set(CAUSES)
    (study.root / "mended").touch()
    done = batch(study.file, "--retry-failed")
    assert done.returncode == 0, done.stdout
    assert {state for state, _ in states(study).values()} == {"done"}
    assert attempts(study) == {name: times + (name in ran) for name, times in before.items()}
    assert {line.split("  ")[-1] for line in done.stdout.splitlines()
            if line.startswith("  done")} == ran
    assert "21 done before" in done.stdout


def project_with_an_endpoint(folder: Path, url: str) -> Path:
    """The kit's notebook 01 on problems of a server of ours, once as it should be and once with a
    broken source."""
    (folder / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "01_teacher_trajectories.ipynb", folder / "notebooks")
    shutil.copy(ROOT / "tests" / "helpers" / "fault_server.py", folder)
    (folder / "broken.py").write_text(
        "def load(seed, sizes):\n    raise RuntimeError('no problems today')\n"
    )
    file = folder / "params" / "keys.yaml"
    file.parent.mkdir()
    file.write_text(f"""
name: keys
stages:
  collect: {{notebook: 01_teacher_trajectories}}
  broken: {{notebook: 01_teacher_trajectories, set: {{problems: "broken:load"}}}}
fixed:
  problems: "fault_server:load"
  split_sizes: ["train:3", "validation:1"]
  teacher: chat_endpoint
  teacher_options: ["base_url:{url}", "model:sums", "retries:0"]
""")
    return file


def test_no_secret_is_stored_by_notebook_01_with_a_key(tmp_path):
    with running() as url:
        file = project_with_an_endpoint(tmp_path, url)
        done = batch(file)
    study = load_study(file)
    failure = ("failed", "RuntimeError: no problems today")
    assert states(study) == {"collect": ("done", ""), "broken": failure}, done.stdout
    assert {"attempts.jsonl", "trajectories.parquet"} <= {p.name
                                                          for p in study.jobs[0].run_dir.iterdir()}
    assert holders_of_secrets(tmp_path / "results") == []


def test_the_search_for_secrets_finds_them_in_text_and_in_parquet(tmp_path):
    import pandas as pd

    key = SECRETS["HF_TOKEN"]
    pd.DataFrame({"a": [["x", key]]}).to_parquet(tmp_path / "a.parquet", compression="gzip")
    (tmp_path / "b.txt").write_text(f"...{key}...")
    (tmp_path / "c.txt").write_text("nothing")
    assert sorted(holders_of_secrets(tmp_path)) == ["a.parquet holds HF_TOKEN",
                                                    "b.txt holds HF_TOKEN"]
