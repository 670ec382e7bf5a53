"""Batches of tiny real notebooks: order, failures by name, kills at any moment, and nothing done
twice."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from other_process import wait_for
from tiny_project import STUDY, make_project
from typer.testing import CliRunner

from mentor_kit.batch.executors.process import JobProcess, JobSpec
from mentor_kit.batch.job import clean_notebook, job_state
from mentor_kit.batch.resources import Resources
from mentor_kit.batch.run import chain_lengths, choose, run_batch
from mentor_kit.batch.study import load_study
from mentor_kit.batch.timeline import Timeline
from mentor_kit.cli.app import commands
from mentor_kit.errors import UserError
from mentor_kit.runs.locks import JOB_BYTE, KERNEL_BYTE, acquire_lock

BROKEN = STUDY.replace("[ok, fine]", "[ok, raise, die, hang]").replace("[0, 1]", "[0]")
SMALL = STUDY.replace("[ok, fine]", "[ok]").replace("[0, 1]", "[0]")
SECRET = "sk-a-key-that-must-not-be-stored"


def states(study) -> dict[str, tuple[str, str]]:
    return {str(job): job_state(job.run_dir) for job in study.jobs}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A study in which one method raises, one kills its kernel and one hangs, run once; with what
    it printed."""
    study = load_study(make_project(tmp_path_factory.mktemp("broken"), BROKEN))
    os.environ["FAKE_API_KEY"] = SECRET
    command = [sys.executable, "-m", "mentor_kit", "batch", str(study.file), "--time-limit", "15"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=study.root, timeout=240,
                          check=False)
    del os.environ["FAKE_API_KEY"]
    return study, done


def test_failures_are_named_with_their_cause_and_the_others_end(broken):
    study, done = broken
    found = states(study)
    assert found["make"] == found["fit method=ok seed=0"] == ("done", "")
    assert found["fit method=raise seed=0"] == ("failed",
                                                "ValueError: this method cannot be fitted")
    assert found["fit method=die seed=0"] == ("failed",
                                              "the kernel died (killed, or out of memory)")
    assert found["fit method=hang seed=0"] == ("failed", "time limit of 15 s")
    assert found["figures"] == ("waiting", "")
    assert done.returncode == 1
    assert "2 of 6 jobs are done" in done.stdout
    assert "not run, as what they need failed: figures" in done.stdout
    assert "--retry-failed" in done.stdout
    assert done.stderr == ""


def test_the_executed_notebook_of_a_failed_job_is_kept_with_its_error(broken):
    job = next(c for c in broken[0].jobs if str(c) == "fit method=raise seed=0")
    notebook = json.loads((job.run_dir / "notebook.ipynb").read_text())
    assert any("papermill-error-cell" in "".join(c["source"]) for c in notebook["cells"])
    assert any(o["output_type"] == "error" for c in notebook["cells"] for o in c.get("outputs", []))
    assert not (job.run_dir / "notebook.partial.ipynb").exists()


def test_no_secret_of_the_environment_is_stored(broken):
    results = broken[0].results
    assert not [p for p in results.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]


def test_retry_failed_runs_just_the_failed_ones_and_a_third_run_has_nothing_to_do(broken, capsys):
    study, _ = broken
    ok = next(c for c in study.jobs if str(c) == "fit method=ok seed=0").run_dir / "notebook.ipynb"
    before = ok.stat().st_mtime_ns
    assert run_batch(study) == 1  # failed jobs are reported, not run again
    assert "failed: fit method=hang seed=0: time limit of 15 s" in capsys.readouterr().out
    (study.root / "mended").touch()
    assert run_batch(study, retry_failed=True) == 0
    assert {state for state, _ in states(study).values()} == {"done"}
    assert ok.stat().st_mtime_ns == before
    capsys.readouterr()
    assert run_batch(study) == 0
    out = capsys.readouterr().out
    assert "nothing to do: all 6 jobs are done" in out
    assert "fit hang {'total': 10}" in out  # summary.md of the figures stage
    (study.root / "mended").unlink()


def is_free(lock: Path) -> bool:
    file = acquire_lock(lock) if lock.is_file() else None
    if file is not None:
        file.close()
    return file is not None


@pytest.fixture
def hanging(tmp_path):
    """A batch in its own process whose fit job hangs: (study, process, run folder of the hanging
    job)."""
    study = load_study(make_project(tmp_path, SMALL.replace("[ok]", "[hang]")))
    process = subprocess.Popen([sys.executable, "-m", "mentor_kit", "batch", str(study.file)],
                               cwd=tmp_path,
                               stdout=subprocess.DEVNULL)
    run_dir = next(c for c in study.jobs if c.stage == "fit").run_dir
    wait_for(lambda: (run_dir / "params.yaml").is_file())
    yield study, process, run_dir
    process.kill()
    process.wait()


def test_a_killed_runner_takes_its_kernels_along_and_a_restart_continues(hanging):
    study, process, run_dir = hanging
    with pytest.raises(UserError, match="Another batch is at work"):
        run_batch(study)
    assert not is_free(run_dir / ".lock")
    process.kill()
    process.wait()
    wait_for(lambda: is_free(run_dir / ".lock"), 10)
    assert job_state(run_dir) == ("waiting", "")  # interrupted, not failed
    (study.root / "mended").touch()
    made = study.jobs[0].run_dir / "notebook.ipynb"
    before = made.stat().st_mtime_ns
    assert run_batch(study) == 0
    assert made.stat().st_mtime_ns == before


def test_ctrl_c_stops_cleanly_and_says_how_to_continue(hanging):
    _, process, run_dir = hanging
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    wait_for(lambda: is_free(run_dir / ".lock"), 10)


def test_equal_studies_leave_equal_bytes(tmp_path):
    contents = []
    for name in ("a", "ü {b} [c] $d"):
        study = load_study(make_project(tmp_path / name, SMALL))
        assert run_batch(study, workers=1, only=["fit"]) == 0
        files = (p for p in study.folder.rglob("*") if p.is_file())
        contents.append({p.relative_to(study.folder): p.read_bytes() for p in files
                         if p.name not in ("manifest.json", "timing.jsonl", ".lock", "cell.log")})
    assert contents[0] == contents[1]
    assert {p.name for p in contents[0]} >= {"DONE", "notebook.ipynb", "metrics.jsonl",
                                             "params.yaml", "cell.json"}


def test_a_done_job_whose_artefact_is_lost_runs_again(tmp_path, capsys):
    study = load_study(make_project(tmp_path, SMALL))
    assert run_batch(study, only=["make"]) == 0
    (study.jobs[0].run_dir / "data.txt").unlink()
    assert job_state(study.jobs[0].run_dir) == ("waiting", "")
    assert run_batch(study, only=["make"]) == 0
    assert (study.jobs[0].run_dir / "data.txt").is_file()


def test_a_notebook_that_never_finishes_its_run_has_failed(tmp_path):
    study = load_study(make_project(tmp_path, SMALL))
    notebook = study.jobs[0].notebook
    notebook.write_text(notebook.read_text().replace("run.finish(size=size);", "0"))
    assert run_batch(study, only=["make"]) == 1
    assert job_state(study.jobs[0].run_dir) == ("failed",
                                                  "the notebook ended without run.finish()")


def test_a_dry_run_lists_and_writes_nothing(tmp_path, capsys):
    study = load_study(make_project(tmp_path))
    assert run_batch(study, dry_run=True) == 0
    out = capsys.readouterr().out
    assert "dry run: 6 of 6 jobs would run" in out
    assert "fit method=fine seed=1" in out
    assert not study.results.exists()


def test_a_dry_run_counts_what_would_run_and_says_what_waits_for_a_failed_job(tmp_path, capsys):
    study = load_study(make_project(tmp_path))
    failed = next(c for c in study.jobs if str(c) == "fit method=ok seed=0")
    failed.run_dir.mkdir(parents=True)
    (failed.run_dir / "FAILED").write_text('{"cause": "it broke"}')
    run_batch(study, dry_run=True)
    out = capsys.readouterr().out
    assert "dry run: 4 of 6 jobs would run\n" in out
    assert "would not run, as what they need failed: figures; with --retry-failed they would" in out
    run_batch(study, dry_run=True, retry_failed=True)
    assert capsys.readouterr().out.endswith("dry run: 6 of 6 jobs would run\n")


@pytest.mark.parametrize("results", ["/proc/nowhere", "/dev/null"])
def test_results_that_cannot_be_written_are_one_line(tmp_path, results):
    study = load_study(make_project(tmp_path), results=results)
    with pytest.raises(UserError, match=f"The folder '{results}/tiny' cannot be written .*: give "
                                        "another one"):
        run_batch(study)


def test_chosen_stages_bring_what_they_need(tmp_path):
    study = load_study(make_project(tmp_path))
    assert [c.stage for c in choose(study, ["fit"])] == ["make"] + ["fit"] * 4
    assert len(choose(study, [])) == 6
    with pytest.raises(UserError, match="--only fti: the study tiny has no such stage; it has "
                                        "make, fit, figures"):
        choose(study, ["fti"])
    with pytest.raises(UserError, match="--workers 0: give at least 1"):
        run_batch(study, workers=0)
    for limit in (0, -3, float("nan")):
        with pytest.raises(UserError, match=f"--time-limit {limit:g}: give a number of seconds "
                                            "above 0"):
            run_batch(study, time_limit=limit)


def test_a_job_that_another_ended_meanwhile_is_left_alone(tmp_path):
    study = load_study(make_project(tmp_path, SMALL))
    assert run_batch(study, only=["make"]) == 0
    run_dir = study.jobs[0].run_dir
    before = {path.name: path.stat().st_mtime_ns for path in run_dir.iterdir()}
    command = [sys.executable, "-m", "mentor_kit.batch.job", str(run_dir), str(study.root),
               str(os.getpid())]
    assert subprocess.run(command, check=False, cwd=study.root).returncode == 0
    assert {path.name: path.stat().st_mtime_ns for path in run_dir.iterdir()} == before


def test_a_job_and_its_kernel_hold_the_run_folder_together_and_nobody_else_does(tmp_path):
    code = ("from mentor_kit.runs.locks import *; import sys; lock = acquire_lock(sys.argv[1], "
            "byte=JOB_BYTE); print(1, flush=True); input()")
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / ".lock")],
                              stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "1\n"
    assert acquire_lock(tmp_path / ".lock") is None
    assert acquire_lock(tmp_path / ".lock", byte=JOB_BYTE) is None
    acquire_lock(tmp_path / ".lock", byte=KERNEL_BYTE).close()
    holder.communicate("\n")
    acquire_lock(tmp_path / ".lock").close()


def test_a_job_ends_when_the_same_job_is_started_elsewhere(tmp_path):
    study = load_study(make_project(tmp_path, SMALL.replace("[ok]", "[hang]")))
    assert run_batch(study, only=["make"]) == 0
    job = next(c for c in study.jobs if c.stage == "fit")
    asked = {"stage": job.stage, "key": job.key, "notebook": "notebooks/fit.ipynb",
             "parameters": job.given}
    job = JobSpec(job.run_dir.resolve(), study.root, asked, Resources(), None)
    orphan = JobProcess(job, "")
    wait_for(lambda: (job.run_dir / "params.yaml").is_file())
    successor = JobProcess(job, "")
    ends = []
    wait_for(lambda: ends.append(orphan.poll()) or ends[-1])
    (study.root / "mended").touch()  # not before: the orphan may not have looked yet
    assert (ends[-1].state, ends[-1].cause) == ("lost", "it was started elsewhere meanwhile")
    wait_for(lambda: ends.append(successor.poll()) or ends[-1])
    assert ends[-1].state == "done"
    assert job_state(job.run_dir) == ("done", "")


def test_storage_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with pytest.raises(UserError, match=r"this storage has no POSIX locks \(No locks available\)"):
        acquire_lock(tmp_path / ".lock")


def test_only_may_be_given_again_and_again(tmp_path):
    file = make_project(tmp_path)
    done = CliRunner().invoke(commands,
                              ["batch", str(file), "--dry-run", "--only", "make", "--only",
                               "fit, make"])
    assert "dry run: 5 of 5 jobs would run" in done.output
    done = CliRunner().invoke(commands, ["batch", str(file), "--dry-run", "--only", "make"])
    assert "dry run: 1 of 1 jobs would run" in done.output


def test_the_longest_chain_comes_first(tmp_path):
    study = load_study(make_project(tmp_path))
    assert list(chain_lengths(study.jobs).values()) == [2, 1, 1, 1, 1, 0]


def test_clean_notebook_keeps_sources_and_outputs_only():
    job = {"cell_type": "code", "id": "random",
            "metadata": {"papermill": {"start_time": "now"}, "tags": ["x"]},
            "outputs": [{"output_type": "stream", "text": ["hi"]}], "source": ["1"],
            "execution_count": 1}
    text = json.dumps({"cells": [job], "metadata": {"papermill": {"input_path": "/home"}},
                       "nbformat": 4})
    assert json.loads(clean_notebook(text)) == {
        "cells": [{**job, "id": "cell-0", "metadata": {"tags": ["x"]}}], "metadata": {},
        "nbformat": 4}


def test_the_times_of_a_batch_tell_idle_workers_and_the_longest_chain(tmp_path):
    study = load_study(make_project(tmp_path))
    jobs = study.jobs
    timeline = Timeline(dict(zip(jobs, [(0, 10), (10, 30), (10, 20), (20, 30), (30, 35), (35, 40)],
                                 strict=True)))
    assert timeline.busy() == {1: 20, 2: 20, 0: 0} or timeline.busy() == {1: 20, 2: 20}
    assert timeline.longest_chain() == [jobs[0], jobs[1], jobs[5]]
    stages, busy, chain = timeline.lines()
    assert stages == "time by stage: make 0:10, fit 0:45, figures 0:05"
    assert busy == "0:40 in all; jobs at once: 2 for 50%, 1 for 50%"
    assert chain.startswith("longest chain 0:35: make -> fit method=")
    assert Timeline().lines() == []
