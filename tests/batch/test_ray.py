"""Jobs as tasks of a Ray cluster: the same outcome as here, a node lost or cut off, a killed
driver, GPUs, errors.

The cluster is Ray's own test utility: nodes are processes of this machine, so the storage is
shared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from other_process import wait_for
from tiny_project import make_project, write_notebook

from mentor_kit.batch.executors.process import JobSpec
from mentor_kit.batch.executors.ray_cluster import check_address, connect, sees_the_batch
from mentor_kit.batch.job import job_state
from mentor_kit.batch.resources import Resources
from mentor_kit.batch.run import run_batch
from mentor_kit.batch.study import load_study
from mentor_kit.errors import UserError

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# else its workers starve beside anything else that this machine does
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112

WALK = """
run_dir: str = ""
seed: int = 0
method: str = "ok"
steps: int = 5
# %%
from mentor_kit.runs.open import init_run
run = init_run(run_dir, stage="walk", params=dict(seed=seed, method=method, steps=steps))
# %%
import os, time
def tell(what):
    with open("counter.txt", "a") as file:
        file.write(f"{what} {method}-{seed} {os.getpid()} [{os.environ.get('CUDA_VISIBLE_DEVICES')}]\\n")
tell("start")
if method == "raise" and not os.path.exists("mended"):
    raise ValueError("this method cannot walk")
if method == "hang" and not os.path.exists("mended"):
    time.sleep(600)
while not os.path.exists("go"):
    time.sleep(0.05)
# %%
for step in range(steps):
    run.log({"step": step})
run.path("total.txt").write_text(str(seed + steps))
tell("end")
run.finish(total=seed + steps);
"""  # noqa: E501
STUDY = """
    name: tiny
    stages:
      walk: {notebook: walk, grid: [method]}
      figures: {notebook: table, needs: {runs: all}}
    grid: {method: [ok, fine]}
    seeds: [0, 1]
"""
BROKEN = STUDY.replace("[ok, fine]", "[ok, raise, hang]").replace("[0, 1]", "[0]")
GPUS = STUDY.replace("walk, grid: [method]", "walk, grid: [method], resources: {gpus: 1}").replace(
    "[ok, fine]", "[ok]"
)


def make_walks(root: Path, text: str = STUDY):
    """A study whose walks wait for a file `go`, and tell a counter file when they start and end."""
    file = make_project(root, text)
    write_notebook(root / "notebooks" / "walk.ipynb", WALK)
    return load_study(file)


def told(study, what: str) -> list[list[str]]:
    """(job, process id, GPUs) of each line of the counter file that begins with `what`."""
    path = study.root / "counter.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [line.split()[1:] for line in lines if line.startswith(what)]


def counts(study, what: str) -> dict[str, int]:
    return Counter(line[0] for line in told(study, what))


def outcomes(study) -> dict[str, dict]:
    """Job -> the content of DONE: hashes of its artefacts and its facts."""
    return {str(job): json.loads((job.run_dir / "DONE").read_text()) for job in study.jobs}


def states(study) -> dict[str, tuple[str, str]]:
    return {str(job): job_state(job.run_dir) for job in study.jobs}


def is_alive(pid: str) -> bool:
    """Whether it still runs; killed and not yet waited for by its parent, it does not."""
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start_batch(cluster):
    """start(study, *options) -> the process of a batch on the cluster."""
    started = []

    def start(study, *more: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "mentor_kit", "batch", str(study.file), "--executor",
                   "ray", "--address",
                   cluster.address, *more]
        process = subprocess.Popen(command, cwd=study.root, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    study = make_walks(tmp_path_factory.mktemp("undisturbed"))
    (study.root / "go").touch()
    assert run_batch(study) == 0
    return outcomes(study)


@pytest.fixture(scope="module")
def cluster():
    """A head with one CPU. It gives a silent node up after a few seconds (Ray's default: about half
    a minute)."""
    pytest.importorskip("ray", reason="Ray is not installed (the extra `cluster`)")
    from ray.cluster_utils import Cluster

    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000,
             "health_check_timeout_ms": 3000,
             "health_check_failure_threshold": 2}
    head = {"num_cpus": 1, "object_store_memory": 80_000_000, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def node(cluster):
    """A second node, with a CPU, and a GPU in Ray's books."""
    node = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=80_000_000)
    yield node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


@pytest.mark.slow
def test_a_study_ends_when_a_node_is_removed_and_no_job_is_lost_or_doubled(tmp_path, cluster, node,
                                                                            start_batch,
                                                                            undisturbed):
    study = make_walks(tmp_path)
    process = start_batch(study)
    wait_for(lambda: len(told(study, "start")) == 2)  # one on each node
    cluster.remove_node(node, allow_graceful=False)
    # its kernel dies with it
    wait_for(lambda: not all(is_alive(pid) for _, pid, _ in told(study, "start")), 30)
    (study.root / "go").touch()
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    assert out.count("its node or worker went away") == 1
    assert "5 of 5 jobs are done" in out
    assert outcomes(study) == undisturbed
    assert counts(study, "end") == {"ok-0": 1, "ok-1": 1, "fine-0": 1, "fine-1": 1}
    assert len(told(study, "start")) == 5  # one of the four walks began twice
    assert not any(is_alive(pid) for _, pid, _ in told(study, "start"))


def raylet_of(node) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def cut_off(node, *, worker_too: bool) -> list[psutil.Process]:
    """Silence Ray on a node: the cluster hears nothing of it any more, while its job works on."""
    raylet = raylet_of(node)
    workers = [p for p in raylet.children(recursive=True) if p.cmdline()[0].startswith("ray::")]
    silenced = [raylet, *(workers if worker_too else [])]
    for process in silenced:
        process.suspend()
    return silenced


def read_until(process: subprocess.Popen, text: str) -> str:
    lines = [""]
    while text not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    return "".join(lines)


@pytest.mark.slow
def test_a_job_on_a_node_that_is_cut_off_never_writes_beside_its_successor(tmp_path, node,
                                                                            start_batch,
                                                                            undisturbed):
    study = make_walks(tmp_path)
    process = start_batch(study)
    wait_for(lambda: len(told(study, "start")) == 2)
    silenced = cut_off(node, worker_too=True)  # nobody is left there to end the job
    out = read_until(process, "its node or worker went away")
    time.sleep(5)
    assert len(told(study, "start")) == 2
    # the orphan ends its job; the successor, which waited for the lock, finds it done
    (study.root / "go").touch()
    out += process.communicate(timeout=240)[0]
    for each in silenced:
        each.resume()
    assert process.returncode == 0, out
    assert outcomes(study) == undisturbed
    assert counts(study, "start") == counts(study, "end") == {"ok-0": 1, "ok-1": 1, "fine-0": 1,
                                                              "fine-1": 1}


@pytest.mark.slow
def test_an_orphan_is_ended_by_its_own_task_once_its_successor_starts(tmp_path, cluster, node,
                                                                      start_batch,
                                                                      undisturbed):
    study = make_walks(tmp_path)
    spare = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    # on two of the three nodes; the third is for the successor
    process = start_batch(study, "--workers", "2")
    wait_for(lambda: len(told(study, "start")) == 2)
    parents = {p.pid for _, pid, _ in told(study, "start")
               for p in psutil.Process(int(pid)).parents()}
    silenced = cut_off(next(n for n in (node, spare) if raylet_of(n).pid in parents),
                       worker_too=False)
    out = read_until(process, "its node or worker went away")
    # it has the lock, and nobody has been told to go
    wait_for(lambda: len(told(study, "start")) == 3, 60)
    assert [is_alive(pid) for _, pid, _ in told(study, "start")].count(False) == 1
    (study.root / "go").touch()
    out += process.communicate(timeout=240)[0]
    for each in silenced:
        each.resume()
    cluster.remove_node(spare)
    assert process.returncode == 0, out
    assert outcomes(study) == undisturbed
    assert counts(study, "end") == {"ok-0": 1, "ok-1": 1, "fine-0": 1, "fine-1": 1}


@pytest.mark.slow
def test_a_killed_driver_takes_its_jobs_along_and_a_restart_continues(tmp_path, node, start_batch,
                                                                       undisturbed):
    study = make_walks(tmp_path)
    process = start_batch(study)
    wait_for(lambda: len(told(study, "start")) == 2)
    process.kill()
    wait_for(lambda: not any(is_alive(pid) for _, pid, _ in told(study, "start")), 30)
    assert {state for state, _ in states(study).values()} == {"waiting"}
    (study.root / "go").touch()
    process = start_batch(study)
    assert "5 of 5 jobs are done" in process.communicate(timeout=240)[0]
    assert outcomes(study) == undisturbed
    assert counts(study, "end") == {"ok-0": 1, "ok-1": 1, "fine-0": 1, "fine-1": 1}


@pytest.mark.slow
def test_failures_are_named_as_they_are_here_and_retry_failed_runs_just_them(tmp_path, node,
                                                                             start_batch):
    study = make_walks(tmp_path, BROKEN)
    (study.root / "go").touch()
    process = start_batch(study, "--time-limit", "30")
    assert "1 of 4 jobs are done" in process.communicate(timeout=240)[0]
    assert process.returncode == 1
    found = states(study)
    assert found["walk method=raise seed=0"] == ("failed", "ValueError: this method cannot walk")
    assert found["walk method=hang seed=0"] == ("failed", "time limit of 30 s")
    (study.root / "mended").touch()
    process = start_batch(study, "--retry-failed")
    assert "4 of 4 jobs are done" in process.communicate(timeout=240)[0]
    assert counts(study, "start") == {"ok-0": 1, "raise-0": 2, "hang-0": 2}


@pytest.mark.slow
def test_gpu_jobs_get_a_gpu_each_and_what_no_node_has_is_refused(tmp_path, node, start_batch):
    study = make_walks(tmp_path, GPUS)
    (study.root / "go").touch()
    out = start_batch(study).communicate(timeout=240)[0]
    assert "3 of 3 jobs are done" in out
    lines = (study.root / "counter.txt").read_text().splitlines()
    # there is one GPU: one after the other
    assert [line.split()[0] for line in lines] == ["start", "end"] * 2
    assert {gpus for _, _, gpus in told(study, "start")} == {"[0]"}
    greedy = make_walks(tmp_path / "greedy", GPUS.replace("gpus: 1", "gpus: 2"))
    out = start_batch(greedy).communicate(timeout=60)[0]
    assert (
        "error: Stage 'walk' asks for {gpus: 2, cpus: 1} a job, which no node of the Ray cluster "
        "has"  # noqa: E501
        in out
    )
    assert not greedy.results.exists()


@pytest.mark.parametrize("address, message", [
    ("ray://10.0.0.1:10001", "write HOST:PORT of the cluster's head"),
    ("10.0.0.1", "write HOST:PORT of the cluster's head"),
    ("127.0.0.1:1",
     "Ray's address 127.0.0.1:1: nobody answers there (.*refused.*); give the HOST:PORT"),
])
def test_a_wrong_address_is_one_line_with_the_fix(address, message):
    with pytest.raises(UserError,
                       match=message.replace("(.*refused.*)", r"\(.*refused.*\)")) as error:
        check_address(address)
    assert "\n" not in str(error.value)


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError,
                       match=r"needs Ray, .*: pip install 'mentor-kit\[cluster\]'"):
        connect(None)
    with pytest.raises(UserError, match="not installed"):
        run_batch(make_walks(tmp_path), executor="ray")
    assert not (tmp_path / "results").exists()


def test_names_of_executors_and_ignored_addresses_are_refused_before_anything(tmp_path):
    study = make_walks(tmp_path)
    with pytest.raises(UserError, match="--executor slurm: there is none of that name; write "
                                        "--executor local or"):
        run_batch(study, executor="slurm", dry_run=True)
    with pytest.raises(UserError, match="--address 1.2.3.4:5: only a Ray cluster has an address; "
                                        "add --executor ray"):
        run_batch(study, address="1.2.3.4:5", dry_run=True)


def test_a_node_sees_the_batch_only_while_another_process_holds_the_study(tmp_path):
    job = JobSpec(tmp_path / "tiny" / "walk" / "abc", tmp_path, {}, Resources(), None)
    job.run_dir.mkdir(parents=True)
    lock = tmp_path / "tiny" / ".lock"
    assert not sees_the_batch(job)  # storage that is not shared: there is no such file
    lock.touch()
    # nobody holds it: the batch is gone, or locks stay on one machine
    assert not sees_the_batch(job)
    code = f"from mentor_kit.runs.locks import acquire_lock; lock = acquire_lock({str(lock)!r}); print(1, flush=True); input()"  # noqa: E501
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "1\n"
    assert sees_the_batch(job)
    holder.communicate("\n")
    assert not sees_the_batch(job)
