"""GPUs, CPUs and memory of jobs: read from a study, found on this machine, leased to one job at a
time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tiny_project import make_project, write_notebook

from mentor_kit.batch.executors.process import job_environment
from mentor_kit.batch.resources import Resources, gpu_devices, parse_listing, read_resources
from mentor_kit.batch.run import run_batch
from mentor_kit.batch.study import load_study
from mentor_kit.errors import UserError

LISTING = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa-1)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb-2)
  MIG 3g.20gb     Device  0: (UUID: MIG-cccc-3)
  MIG 3g.20gb     Device  1: (UUID: MIG-dddd-4)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-eeee-5)
"""
SEE = """
run_dir: str = ""
seed: int = 0
# %%
from mentor_kit.runs.open import init_run
run = init_run(run_dir, stage="see", params=dict(seed=seed))
# %%
import os, time
def tell(what):
    with open("told.txt", "a") as file:
        file.write(f"{what} [{os.environ['CUDA_VISIBLE_DEVICES']}] {os.environ['OMP_NUM_THREADS']}\\n")
tell("start")
time.sleep(0.5)
tell("end")
run.finish();
"""  # noqa: E501
STUDY = """
    name: tiny
    stages:
      see: {notebook: see, resources: {gpus: 1, cpus: 3}}
    seeds: [0, 1, 2, 3]
"""


def see_study(root, text: str = STUDY):
    file = make_project(root, text)
    write_notebook(root / "notebooks" / "see.ipynb", SEE)
    return load_study(file)


def test_the_default_is_no_gpu_and_one_cpu():
    assert read_resources({}, str) == Resources(gpus=0, cpus=1, memory_gb=0)
    assert read_resources({"gpus": 2, "cpus": 4, "memory_gb": 16}, str) == Resources(2, 4, 16)
    assert str(Resources(2, 4, 16)) == "gpus: 2, cpus: 4, memory_gb: 16"


@pytest.mark.parametrize("entry, message", [
    ("{gpu: 1}", "params/tiny.yaml:3: resources know no 'gpu'; did you mean 'gpus'?"),
    ("{gpus: 0.5}",
     "params/tiny.yaml:3: gpus = 0.5 must be a whole number, at least 0; write gpus: 1."),
    ("{gpus: true}", "gpus = True must be a whole number"),
    ("{cpus: 0}",
     "params/tiny.yaml:3: cpus = 0 must be a whole number, at least 1; write cpus: 1."),
    ("{memory_gb: lots}", "memory_gb = 'lots' must be a number, at least 0"),
    ("2", "params/tiny.yaml:3: `resources:` = 2 of stage 'see' must be a mapping"),
])
def test_wrong_resources_are_named_with_their_line(tmp_path, entry, message):
    with pytest.raises(UserError) as error:
        see_study(tmp_path, STUDY.replace("{gpus: 1, cpus: 3}", entry))
    assert message in str(error.value)


def test_resources_are_no_part_of_a_key(tmp_path):
    texts = (STUDY, STUDY.replace("gpus: 1", "gpus: 2"))
    assert len({tuple(job.key for job in see_study(tmp_path, text).jobs) for text in texts}) == 1


@pytest.mark.parametrize("value, devices",
                         [("0,1", ["0", "1"]), ("GPU-a, MIG-b", ["GPU-a", "MIG-b"]), ("", []),
                                            ("-1", []), ("1,-1,0", ["1"]), ("NoDevFiles", [])])
def test_the_devices_are_those_cuda_would_show(monkeypatch, value, devices):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert gpu_devices() == devices


def test_without_the_variable_nvidia_smi_is_asked(tmp_path, monkeypatch):
    assert parse_listing(LISTING) == ["GPU-aaaa-1", "MIG-cccc-3", "MIG-dddd-4", "GPU-eeee-5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_devices() == []
    (tmp_path / "listing").write_text(LISTING)
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!{sys.executable}\nprint(open({str(tmp_path / 'listing')!r}).read(), "
                    "end='')\n")
    tool.chmod(0o755)
    assert gpu_devices() == ["GPU-aaaa-1", "MIG-cccc-3", "MIG-dddd-4", "GPU-eeee-5"]


def test_a_job_sees_its_own_gpus_and_as_many_threads_as_cpus_unless_told_otherwise(monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert job_environment(Resources(cpus=3), "7")["OMP_NUM_THREADS"] == "3"
    assert job_environment(Resources(), "")["MKL_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert job_environment(Resources(cpus=3), "")["OMP_NUM_THREADS"] == "2"
    assert job_environment(Resources(cpus=3), "")["CUDA_VISIBLE_DEVICES"] == ""


def test_each_gpu_belongs_to_one_job_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,9")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study = see_study(tmp_path)
    assert run_batch(study, workers=4) == 0
    busy: set[str] = set()
    lines = [line.split() for line in (tmp_path / "told.txt").read_text().splitlines()]
    for what, device, _ in lines:
        assert (device in busy) == (what == "end")
        busy ^= {device}
    assert {device for _, device, _ in lines} == {"[7]", "[9]"}
    assert len(lines) == 8


def test_a_stage_that_asks_for_more_gpus_than_there_are_is_refused_before_anything(tmp_path,
                                                                                   monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    study = see_study(tmp_path, STUDY.replace("gpus: 1", "gpus: 2"))
    with pytest.raises(UserError, match="Stage 'see' asks for 2 GPUs a job and this machine has "
                                        "1"):
        run_batch(study)
    assert not study.results.exists()


def test_gpus_are_hidden_from_a_study_that_asks_for_none_and_it_is_told(tmp_path, monkeypatch,
                                                                        capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    study = see_study(tmp_path, STUDY.replace("gpus: 1, ", "").replace("[0, 1, 2, 3]", "[0]"))
    assert run_batch(study) == 0
    assert (
        "2 GPUs are hidden from every job: no stage says `resources: {gpus: 1}`"
        in capsys.readouterr().out
    )
    assert "start []" in (tmp_path / "told.txt").read_text()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_gpus_follow_the_number_of_processes():
    def gpus(*overrides):
        study = load_study(Path(__file__).parents[2] / "params" / "paper-qwen2.5-7b.yaml",
                           overrides=overrides)
        return study.stages["train"].resources.gpus

    assert (gpus(), gpus("num_processes=1")) == (8, 1)
