"""Jobs that are forked: the same files as from fresh processes, and the same ends."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import psutil
import pytest
from tiny_project import STUDY, make_project, study_of

from mentor_kit.batch import forkserver
from mentor_kit.batch.executors.local import LocalExecutor
from mentor_kit.batch.executors.process import THREAD_VARIABLES, job_environment
from mentor_kit.batch.forkserver import can_fork, load
from mentor_kit.batch.job import job_state
from mentor_kit.batch.resources import Resources
from mentor_kit.batch.run import run_batch
from mentor_kit.batch.study import load_study

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux only")
SEE = """
run_dir: str = ""
seed: int = 0
# %%
import os, random, sys
import numpy as np
from mentor_kit.runs.open import init_run
run = init_run(run_dir, stage="see", params={"seed": seed})
# %%
run.path("draws.txt").write_text(f"{random.random()} {np.random.random()}")
run.path("parents.txt").write_text(f"{os.getppid()} {'torch' in sys.modules}")
print(os.getcwd() == os.path.realpath("."), sys.path[0] == "", sys.argv[0].endswith("kernel"))
run.finish();
"""


def contents(study) -> dict[Path, bytes]:
    files = (p for p in study.folder.rglob("*") if p.is_file())
    return {p.relative_to(study.folder): p.read_bytes() for p in files
            if p.name not in ("manifest.json", "timing.jsonl", ".lock", "cell.log")}


def test_forked_jobs_leave_the_bytes_that_fresh_ones_leave(tmp_path, monkeypatch):
    study = load_study(make_project(tmp_path, STUDY.replace("[ok, fine]", "[ok, raise]")))
    found = []
    for mode in "10":
        monkeypatch.setenv("MENTOR_KIT_FORKSERVER", mode)
        assert run_batch(study) == 1
        found.append(contents(study))
        study.folder.rename(tmp_path / f"results-{mode}")
    assert found[0] == found[1]
    assert {p.name for p in found[0]} >= {"DONE", "FAILED", "notebook.ipynb"}


def test_jobs_are_forks_of_one_server_and_draw_apart(tmp_path, monkeypatch):
    from tiny_project import write_notebook, write_study

    monkeypatch.setattr(forkserver, "MODULES", {"see": ("numpy",)})
    write_notebook(tmp_path / "notebooks" / "see.ipynb", SEE)
    file = write_study(tmp_path, "name: see\nstages: {see: {notebook: see}}\nseeds: [0, 1, 2]")
    study = load_study(file)
    servers = []
    start = forkserver.ForkServer.start
    monkeypatch.setattr(forkserver.ForkServer, "start",
                        lambda self, *a: servers.append(self) or start(self, *a))
    assert run_batch(study) == 0
    draws = [d for job in study.jobs for d in (job.run_dir / "draws.txt").read_text().split()]
    assert len(set(draws)) == 6
    assert len(servers) == 3 and len(set(servers)) == 1


def test_a_killed_server_loses_its_jobs_and_they_start_again(tmp_path, capsys):
    study = load_study(make_project(tmp_path, study_of(4, "hang", table=True)))
    killed = []

    class Killing(LocalExecutor):
        """Kills the fork server once the hanging job writes."""

        def poll(self):
            hanging = [job for job in self.running if job.params.get("method") == "hang"]
            if not killed and hanging and (hanging[0].run_dir / "params.yaml").is_file():
                (tmp_path / "mended").touch()
                killed.append(psutil.Process(self.server.process.pid).children(recursive=True))
                self.server.process.kill()
            return super().poll()

    from mentor_kit.batch import run

    run.open_executor, opened = lambda *_: Killing(2), run.open_executor
    try:
        assert run_batch(study) == 0
    finally:
        run.open_executor = opened
    assert killed[0] and not psutil.wait_procs(killed[0], timeout=10)[1]
    out = capsys.readouterr().out
    assert "fit method=hang seed=0: the process that forked it has ended; it starts again" in out
    assert {job_state(job.run_dir)[0] for job in study.jobs} == {"done"}


def test_a_process_with_a_second_thread_is_not_forked():
    assert load([]) is (len(os.listdir("/proc/self/task")) == 1)
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    assert not load([])
    release.set()
    thread.join()


def test_a_job_that_the_server_refuses_starts_afresh(tmp_path, monkeypatch):
    (tmp_path / "threads.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(forkserver, "MODULES", {"make": ("threads",)})
    study = load_study(make_project(tmp_path))
    assert run_batch(study, only=["make"]) == 0


@pytest.mark.parametrize(("resources", "devices", "variables", "forked"), [
    (Resources(), "", {}, True),
    (Resources(gpus=1), "0", {}, False),
    (Resources(cpus=2), "", {}, False),
    (Resources(), "", {"OMP_NUM_THREADS": "4"}, False),
    (Resources(), "", {"MENTOR_KIT_FORKSERVER": "0"}, False)])
def test_what_is_forked(monkeypatch, resources, devices, variables, forked):
    for name in (*THREAD_VARIABLES, "MENTOR_KIT_FORKSERVER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert can_fork(job_environment(resources, devices), THREAD_VARIABLES) is forked
