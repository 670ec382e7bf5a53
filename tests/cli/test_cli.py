"""The command line: one clear line and exit code 2 for bad input, and a light import."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from tiny_project import make_project
from typer.testing import CliRunner

from mentor_kit.cli.app import app, commands


def run(*arguments: str, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "mentor_kit", *arguments], capture_output=True,
                          text=True, cwd=cwd,
                          timeout=120, check=False)


def test_every_command_is_there_and_explains_itself():
    names = {command.name or command.callback.__name__ for command in commands.registered_commands}
    assert names == {"init", "collect", "score", "train", "evaluate", "batch", "status",
                     "figures", "serve", "push", "export", "doctor"}
    for name in names:
        assert CliRunner().invoke(commands, [name, "--help"]).exit_code == 0


@pytest.mark.parametrize("arguments, message", [
    (("batch", "params/none.yaml"),
     "There is no study file 'params/none.yaml'; params/ has tiny.yaml."),
    (("batch", "params/tiny.yaml", "--set", "rat=1"),
     "no notebook of this study declares 'rat'; did you mean 'rate'?"),
    (("batch", "params/tiny.yaml", "--only", "fti"),
     "--only fti: the study tiny has no such stage"),
    (("train", "params/tiny.yaml"), "no stage of this study runs notebook 03_rl_training"),
    (("status", "params/tiny.yaml", "--set", "rate"), "write --set name=value"),
    (("figures", "results/none"), "There is no folder 'results/none'; run `mentor-kit batch"),
])
def test_bad_input_is_one_line_with_the_fix_and_nothing_is_written(tmp_path, monkeypatch, capsys,
                                                                   arguments, message):
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mentor-kit", *arguments])
    with pytest.raises(SystemExit) as stop:
        app()
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_status_of_a_study_that_never_ran(tmp_path):
    done = CliRunner().invoke(commands, ["status", str(make_project(tmp_path))])
    assert done.exit_code == 0
    assert "6 waiting; 0 B on disk" in done.output
    assert not (tmp_path / "results").exists()


def test_score_adds_score_and_terms(tmp_path, monkeypatch):
    line = {"response": "So \\boxed{4}.<|im_end|>", "ground_truth": "4", "teacher_tools": [],
            "id": 7}
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(commands, ["score", "--preset", "sparse", "in.jsonl", "out.jsonl"])
    assert done.exit_code == 0, done.output
    scored = json.loads((tmp_path / "out.jsonl").read_text())
    assert scored["score"] == sum(scored["terms"].values()) == 1.0
    assert scored["id"] == 7


def test_ctrl_c_says_how_to_go_on(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\ndef reward(problem, reference, student):\n    print('begun', flush=True)\n   "
        " time.sleep(60)\n")
    (tmp_path / "in.jsonl").write_text(json.dumps({"response": "", "ground_truth": "4",
                                                   "teacher_tools": []}) + "\n")
    command = [sys.executable, "-m", "mentor_kit", "score", "--preset", "slow:reward", "in.jsonl",
               "out.jsonl"]
    with subprocess.Popen(command, cwd=tmp_path, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "stopped; run the same command again to continue\n"
    assert process.returncode == 130


def test_doctor_reports_the_backend_and_the_offline_state():
    done = run("doctor")
    assert done.returncode == 0
    for word in ("backend (auto)", "transformers", "HF_HUB_OFFLINE", "torch", "papermill", "cores"):
        assert word in done.stdout
