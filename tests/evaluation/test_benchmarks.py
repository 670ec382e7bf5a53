"""Declared benchmarks, and `mentor-kit evaluate` on a checkpoint folder: killed and started again,
the same bytes on one kind of CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from small_student import by_heart, steady_seed

from mentor_kit.analysis.frame import load_results
from mentor_kit.cli.evaluate import evaluate_target, target_identity
from mentor_kit.core.plugins import PROBLEM_SOURCES
from mentor_kit.core.records import load_records
from mentor_kit.errors import UserError
from mentor_kit.evaluation.benchmarks.registry import Benchmark, benchmark_names, load_benchmark
from mentor_kit.evaluation.benchmarks.scorers import SCORERS
from mentor_kit.evaluation.config import EvaluateConfig
from mentor_kit.runs.locks import lock_folder
from mentor_kit.runs.parameters import configure
from mentor_kit.students import rollout

pytestmark = pytest.mark.numeric
ROOT = Path(__file__).parents[2]
LOCAL = {"version": 1, "problems": "question_set", "toolbox": "arithmetic", "scorer": "judge",
         "licence": "none"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return by_heart().save(tmp_path_factory.mktemp("student") / "tiny")


@pytest.mark.parametrize("name", benchmark_names())
def test_every_declaration_is_whole(name):
    benchmark, splits = load_benchmark(name)
    assert benchmark.name == name and benchmark.version >= 1 and benchmark.licence and splits == []
    assert (
        benchmark.problems in PROBLEM_SOURCES and benchmark.scorer in SCORERS and benchmark.splits
    )


def test_the_named_benchmarks_are_there():
    assert set(benchmark_names()) >= {"aime24", "aime25", "amc23", "minerva_math", "omni_math_512",
                                      "math_bench", "gsm8k",
                                      "gsm_symbolic", "arithmetic_stories", "registry", "bfcl",
                                      "bamboogle", "hotpotqa", "2wikimultihopqa"}


def test_offline_benchmarks_load_with_all_their_splits():
    for name in ("gsm_symbolic", "arithmetic_stories", "registry"):
        benchmark, _ = load_benchmark(name)
        problems = benchmark.load(items=2)
        assert {p.split for p in problems} == {f"{name}/{s}" for s in benchmark.splits} and len(
            problems
        ) == 2 * len(benchmark.splits)
        facts = benchmark.provenance(problems)
        assert facts["version"] == 1 and len(facts["items_sha256"]) == 64
    provenance = load_benchmark("gsm_symbolic")[0].provenance([])
    assert provenance["revisions"] == ["reasoning-gym==0.1.25"]


def test_the_registry_asks_what_the_demo_does_and_its_worked_solution_is_right(tmp_path):
    study = yaml.safe_load((ROOT / "params" / "demo.yaml").read_text())["fixed"]
    sizes = dict(size.split(":") for size in study["split_sizes"])
    benchmark, _ = load_benchmark("registry")
    assert {name: str(n) for name, n in benchmark.splits.items()} == \
        {name: n for name, n in sizes.items() if name not in ("pretrain", "train", "validation")}
    assert benchmark.max_turns == study["max_turns"]
    config = configure(EvaluateConfig, benchmarks=["registry"], benchmark_items=3)
    _, records = evaluate_target("teacher:worked_solution", config, out=tmp_path / "run")
    assert len(records) == 3 * len(benchmark.splits)
    assert all(r.trajectory.meta["correct"] for r in records)


def test_a_question_set_from_parquet_and_json(tmp_path):
    rows = [{"question": f"What is {i} + 1?", "answer": f"so\n#### {i + 1}", "category": "even"
             if i % 2 == 0 else "odd"}
            for i in range(6)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "set.parquet")
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for file in ("set.parquet", "set.jsonl"):
        options = {"path": str(tmp_path / file), "after": "####", "split_column": "category"}
        benchmark = Benchmark("mine", splits={"even": 0, "odd": 2}, options=options, **LOCAL)
        problems = benchmark.load()
        assert [(p.split, p.answers) for p in problems] == [("mine/even", ("1",)),
                                                            ("mine/even", ("3",)),
                                                            ("mine/even", ("5",)),
                                                            ("mine/odd", ("2",)),
                                                            ("mine/odd", ("4",))]
        assert benchmark.provenance(problems)["revisions"] == [problems[0].meta["revision"]]
    with pytest.raises(UserError, match="no split 'prime'"):
        benchmark.load(splits=["prime"])
    with pytest.raises(UserError, match="no split_column"):
        Benchmark("mine", splits={"a": 0, "b": 0}, options={"path": str(tmp_path / "set.jsonl")},
                  **LOCAL).load()


def test_what_cannot_be_had_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="Unknown benchmark 'aime'; *|Unknown benchmark 'aime': use "
                                        "one of"):
        load_benchmark("aime")
    with pytest.raises(UserError, match="cannot be read"):
        load_benchmark("aime24")[0].load()  # offline
    (tmp_path / "bad.yaml").write_text("name: bad\nflavour: odd\n")
    with pytest.raises(UserError, match="does not declare a benchmark"):
        load_benchmark(str(tmp_path / "bad.yaml"))
    with pytest.raises(UserError, match="Name at least one benchmark"):
        evaluate_target("folder", configure(EvaluateConfig))


@pytest.mark.parametrize(("change", "match"), [
    ({"splits": ["b1"]}, "splits=.*dict"), ({"splits": {}}, "splits=.*at least 1"),
    ({"splits": {"a": "all"}}, "splits.a='all'.*integer"), ({"splits": {"a": -1}}, "splits.a=-1"),
    ({"version": "one"}, "version='one'"), ({"flavour": "odd"}, "flavour='odd'"),
    ({"options": ["path"]}, "options="), ({"name": ""}, "name=''")])
def test_a_field_that_does_not_fit_is_named(tmp_path, change, match):
    declared = LOCAL | {"name": "b", "splits": {"a": 0}} | change
    (tmp_path / "b.yaml").write_text(json.dumps(declared))
    with pytest.raises(UserError, match=f"does not declare a benchmark .*{match}"):
        load_benchmark(str(tmp_path / "b.yaml"))
    (tmp_path / "list.yaml").write_text("- name: b")
    with pytest.raises(UserError, match="not a mapping of fields"):
        load_benchmark(str(tmp_path / "list.yaml"))


def declare(folder: Path, file: str, **fields: object) -> str:
    (folder / "rows.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    declared = LOCAL | {"name": "b", "splits": {"b": 0},
                        "options": {"path": str(folder / "rows.jsonl")}} | fields
    (folder / file).write_text(json.dumps(declared))
    return str(folder / file)


def test_an_option_that_the_source_does_not_take_is_named(tmp_path):
    spec = declare(tmp_path, "b.yaml", options={"path": str(tmp_path / "rows.jsonl"), "columns": 1})
    with pytest.raises(UserError, match="question_set' has no option 'columns'"):
        configure(EvaluateConfig, benchmarks=[spec])
    with pytest.raises(UserError, match="no option 'columns'"):
        load_benchmark(spec)[0].load()


def test_a_level_of_numbers_names_splits(tmp_path):
    spec = declare(tmp_path, "b.yaml", splits={1: 0})
    (tmp_path / "b.yaml").write_text((tmp_path / "b.yaml").read_text().replace('"1": 0', "1: 0"))
    assert load_benchmark(spec)[0].splits == {"1": 0}


def test_what_is_asked_twice_is_refused_before_anything_is_asked(tmp_path):
    twice = "gsm_symbolic:in_domain"
    for specs in ([twice, twice], ["gsm_symbolic", twice], ["bfcl", "bfcl:simple_python"]):
        with pytest.raises(UserError, match="asked twice, by"):
            configure(EvaluateConfig, benchmarks=specs)
    one, other = declare(tmp_path, "one.yaml"), declare(tmp_path, "other.yaml", version=2)
    with pytest.raises(UserError, match="'b' is asked twice.*name of its own"):
        configure(EvaluateConfig, benchmarks=[one, other])
    assert configure(EvaluateConfig, benchmarks=[one, "gsm_symbolic"]).benchmarks[0] == one


ASKED = {"benchmark_items": 6, "batch_size": 2, "max_new_tokens": 64, "temperature": 0.7,
         "samples": 2}


def command(checkpoint: Path, out: Path, seed: int = 0) -> list[str]:
    settings = [f"{name}={value}" for name, value in (ASKED | {"seed": seed}).items()]
    return [sys.executable, "-m", "mentor_kit", "evaluate", str(checkpoint),
            "arithmetic_stories:in_domain,longer_chains", "--name", "tiny", "--out", str(out),
            *(argument for setting in settings for argument in ("--set", setting))]


def test_killed_and_started_again_gives_the_same_bytes(checkpoint, tmp_path):
    def sample(seed):
        config = configure(EvaluateConfig, **ASKED, seed=seed,
                           benchmarks=["arithmetic_stories:in_domain,longer_chains"])
        evaluate_target(str(checkpoint), config, out=tmp_path / str(seed))

    command_to = partial(command, checkpoint, seed=steady_seed(rollout, sample))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = subprocess.run(command_to(whole), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        "arithmetic_stories/longer_chains" in done.stdout
        and "accuracy %" in done.stdout
        and "pass@2 %" in done.stdout
    )
    process = subprocess.Popen(command_to(broken), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    wait_for_answers(process, broken, 3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (broken / "DONE").exists() and not (broken / "trajectories.parquet").exists()
    again = subprocess.run(command_to(broken), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    for name in ("trajectories.parquet", "benchmarks.json"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert (
        not (broken / "answers").exists()
        and again.stdout.splitlines()[:-1] == done.stdout.splitlines()[:-1]
    )


def wait_for_answers(process: subprocess.Popen, folder: Path, n: int) -> None:
    deadline = time.monotonic() + 120
    while sum(f.read_bytes().count(b"\n") - 1 for f in folder.rglob("answers/*/*.jsonl")) < n:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)


def test_a_finished_run_is_only_read_and_the_frames_read_it(checkpoint, tmp_path):
    config = configure(EvaluateConfig, benchmarks=["arithmetic_stories:in_domain"],
                       benchmark_items=4, max_new_tokens=64)
    run, records = evaluate_target(str(checkpoint), config, method="tiny",
                                   out=tmp_path / "s" / "evaluate" / "k")
    written = (run.dir / "DONE").stat().st_mtime_ns
    again, same = evaluate_target(str(checkpoint), config, method="tiny", out=run.dir)
    assert same == records == load_records(run.dir / "trajectories.parquet") and len(records) == 4
    assert (again.dir / "DONE").stat().st_mtime_ns == written
    facts, manifest = (json.loads((run.dir / f).read_text())
                       for f in ("benchmarks.json", "manifest.json"))
    assert (
        facts[0]["name"] == "arithmetic_stories"
        and facts[0]["items"] == 4
        and "commit" in manifest["git"]
    )
    assert records[0].trajectory.meta["benchmark_version"] == 1 and records[0].reference is not None
    items = load_results(run.dir).items
    assert list(items["split"].unique()) == ["arithmetic_stories/in_domain"] and set(
        items["method"]
    ) == {"tiny"}
    assert target_identity(str(checkpoint)).startswith("tiny:sha256:")


def test_a_second_evaluation_and_another_one_are_refused_in_a_runs_folder(checkpoint, tmp_path):
    one, other = (configure(EvaluateConfig, benchmarks=["arithmetic_stories:in_domain"],
                            benchmark_items=n,
                            max_new_tokens=8) for n in (2, 3))
    evaluate_target(str(checkpoint), one, out=tmp_path / "run")
    with pytest.raises(
        UserError,
        match=r"holds a run with other parameters \(benchmark_items: 3 asked, 2 stored\): give",
    ):
        evaluate_target(str(checkpoint), other, out=tmp_path / "run")
    with lock_folder(tmp_path / "busy", "busy"):
        second = subprocess.run(command(checkpoint, tmp_path / "busy"), capture_output=True,
                                text=True, check=False)
    assert second.returncode == 2 and second.stderr.strip() == (
        f"error: Another evaluation is at work in {str(tmp_path / 'busy')!r}: wait for it, or give "
        "--out another folder.")
    assert [p.name for p in (tmp_path / "busy").iterdir()] == [".lock"]


def test_a_runs_folder_in_a_models_place_is_told_where_the_model_is(checkpoint, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "student").symlink_to(checkpoint)
    config = configure(EvaluateConfig, benchmarks=["arithmetic_stories:in_domain"],
                       benchmark_items=2)
    with pytest.raises(UserError, match=f"did you mean '{tmp_path}/run/student'"):
        evaluate_target(str(tmp_path / "run"), config, out=tmp_path / "out")


def test_the_teacher_is_a_row(tmp_path):
    config = configure(EvaluateConfig, benchmarks=["gsm_symbolic:in_domain,teacher_rejected"],
                       benchmark_items=5)
    _, records = evaluate_target("teacher:worked_solution", config, out=tmp_path / "run")
    right = [r.trajectory.meta["correct"] for r in records]
    assert (
        right[:5] == [True] * 5
        and len(right) == 10
        and {r.trajectory.meta["method"] for r in records} == {"teacher"}
    )
