"""Values that a notebook would refuse are refused before the first kernel starts, with the place
where they are set."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mentor_kit.batch.preflight import check_values
from mentor_kit.batch.run import run_batch
from mentor_kit.batch.study import Study, load_study
from mentor_kit.errors import UserError

ROOT = Path(__file__).parents[2]
MINE = """\
name: mine
extends: smoke.yaml
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    shutil.copytree(ROOT / "params", folder / "params")
    (folder / "my_rewards.py").write_text(
        "def short(problem, reference, student):\n    return 1.0\nNUMBER = 3\n"
    )
    return folder


def study(project: Path, text: str, overrides: tuple[str, ...] = ()) -> Study:
    (project / "params" / "mine.yaml").write_text(MINE + text)
    return load_study(project / "params" / "mine.yaml", overrides=overrides)


REFUSED = [
    ("grid: {method: [mentor, mentr]}",
     r"mine.yaml:3: method='mentr': Unknown reward .*mean 'mentor'\?"),
    ("stages: {train: {set: {reward: my_rewards:sort}}}",
     "mine.yaml:3: reward=.*sort': .* cannot be imported"),
    ("fixed: {reward: my_rewards:NUMBER}",
     r"mine.yaml:3: reward=.* is a int: it must be a Reward or a function"),
    ("fixed: {reward: params/rewards/no.yaml}",
     r"mine.yaml:3: reward=.*params/rewards/no.yaml' cannot be read"),
    ("fixed: {presets: [sparse, tiny]}", r"mine.yaml:3: presets.1='tiny': Unknown reward 'tiny'"),
    ("fixed:\n  teacher: socrates",
     r"mine.yaml:4: teacher='socrates': Unknown teacher 'socrates': use one of"),
    ("fixed: {teacher: local_model}",
     r"mine.yaml:3: teacher_options=\[\]: The teacher 'local_model' needs a model"),
    ("fixed: {teacher_options: [reasoning:long]}",
     r"Teacher option reasoning='long' is unknown: use one of"),
    ("fixed: {teacher_options: [reasonin:full]}",
     "'worked_solution' has no option 'reasonin'; did you mean 'reasoning'"),
    ("fixed: {reward: mentor_fixed}",
     r"mine.yaml:3: reward='mentor_fixed': method='.*' already names a reward; leave"),
    ("fixed: {problems: gsm}",
     r"mine.yaml:3: problems='gsm': Unknown problem source 'gsm': use one of"),
    ("fixed: {problem_options: [max_cals:3]}",
     "'gsm_symbolic' has no option 'max_cals'; did you mean 'max_calls'"),
    ("fixed: {problem_options: [held_out:99]}", "problem_options=.*held_out=99 is impossible with"),
    ("fixed: {problems: hub_math, problem_options: ['path:no.parquet']}",
     "There is no file 'no.parquet'"),
    ("fixed: {toolbox: arith}",
     r"mine.yaml:3: toolbox='arith': Unknown toolbox 'arith': use one of"),
    ("fixed: {toolbox: search}",
     r"mine.yaml:3: toolbox='search': it has none of the tools that the worked solutions of "
     r"'gsm_symbolic' call \(add, .*: leave it empty"),
    ("fixed: {split_sizes: ['train:40', 'trial:8']}",
     "mine.yaml:3: split_sizes=.* has no split 'trial'"),
    ("fixed: {split_sizes: ['train:4.5']}",
     "the size of split 'train' is 4.5, not a whole number; write train:100"),
    ("fixed: {split_sizes: []}",
     "split_sizes=.*: There is no problem to ask: name at least one split"),
    ("fixed: {split_sizes: ['train:40']}",
     "mine.yaml:3: cold_start seed=0 needs the split 'validation', which"),
    ("fixed: {selection: best}",
     "selection='best': Input should be 'first', 'shortest' or 'most_typical'"),
    ("stages: {evaluate: {set: {splits: [in_domains]}}}",
     r"mine.yaml:3: evaluate of .* needs the split 'in_domains'"),
    ("fixed: {benchmarks: [amie24]}",
     r"mine.yaml:3: benchmarks.0='amie24': Unknown benchmark 'amie24': use one of"),
    ("fixed: {benchmarks: ['gsm_symbolic:indomain']}",
     "Benchmark 'gsm_symbolic' has no split 'indomain'"),
    ("fixed: {passages: wiki.jsonl}", "There is no file 'wiki.jsonl'"),
    ("fixed: {group_size: 1}",
     r"mine.yaml:3: group_size=1: Input should be greater than or equal to 2"),
    ("fixed: {micro_batch: 3}", "8 rollouts do not divide into 1 update.* of micro-batches of 3"),
    ("fixed: {samples: 2}\nstages: {collect: {set: {samples: 1}}}",
     "mine.yaml:3: samples=2 with temperature 0"),
    ("seeds: [0, -1]", r"mine.yaml:3: seed -1 is not between 0 and 4294967295"),
    ("stages: {cold_start: {set: {validate_every: 0}}}",
     "mine.yaml:3: validate_every=0: cold_start_accuracy is checked"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_a_value_that_a_notebook_would_refuse_is_refused_with_its_place(project, text, message):
    with pytest.raises(UserError, match=message) as error:
        run_batch(study(project, text))
    assert "\n" not in str(error.value)
    assert not (project / "results").exists()


@pytest.mark.parametrize("text", [
    "grid: {method: [my_rewards:short, params/rewards/gentle_mentor.yaml, sft]}",
    "grid: {method: [mine]}\nfixed: {reward: my_rewards:short}",
    "fixed: {benchmarks: ['arithmetic_stories:in_domain', 'bfcl:simple_python']}",
    "fixed: {problems: hub_math, problem_options: ['path:some/hub_id']}",
    "stages: {evaluate: {set: {splits: [in_domain]}}}"])
def test_what_a_notebook_takes_is_taken_and_nothing_stays_behind(project, text):
    paths = list(sys.path)
    asked = study(project, text)
    check_values(asked, asked.jobs)
    assert sys.path == paths


def test_an_override_is_named_as_the_place(project):
    with pytest.raises(UserError, match="^--set train.reward=mentr: reward='mentr': Unknown reward "
                                        "'mentr'"):
        run_batch(study(project, "", overrides=("train.reward=mentr",)), dry_run=True)
    with pytest.raises(UserError, match="^--set group_size=7: prompts_per_step x group_size = 14 "
                                        "rollouts do not divide"):
        run_batch(study(project, "fixed: {prompts_per_step: 2, micro_batch: 4}",
                        overrides=("group_size=7",)), dry_run=True)
    with pytest.raises(
        UserError,
        match=r"^--set teacher_options=\['reasoning:long'\]: Teacher option reasoning='long'",
    ):
        run_batch(study(project, "", overrides=("teacher_options=['reasoning:long']",)),
                  dry_run=True)


def test_a_key_that_the_environment_lacks_is_refused_only_where_the_job_is_to_run(project,
                                                                                   monkeypatch):
    text = 'fixed: {teacher: chat_endpoint, teacher_options: ["base_url:http://h/v1", "model:m", "key_env:A_KEY"]}'  # noqa: E501
    asked = study(project, text)  # `mentor-kit status` reads it without the key
    with pytest.raises(UserError, match="mine.yaml:3: teacher_options=.*environment variable "
                                        "'A_KEY' is not set"):
        check_values(asked, asked.jobs)
    check_values(asked, [job for job in asked.jobs if job.stage != "collect"])
    monkeypatch.setenv("A_KEY", "sk-x")
    check_values(asked, asked.jobs)


def test_the_checks_need_no_torch():
    code = ("import sys; from mentor_kit.batch.study import load_study; from "
            "mentor_kit.batch.preflight import check_values; study = "
            "load_study('params/reference-gsm.yaml'); check_values(study, study.jobs); "
            "print(len(study.jobs), [name for name in ('torch', 'transformers', 'pandas') if name "
            "in sys.modules])")
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.stdout.strip() == "82 []", done.stderr


def test_a_dry_run_of_82_jobs_takes_less_than_three_seconds(tmp_path):
    """Of a CPU's time, whatever else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    command = [sys.executable, "-m", "mentor_kit", "batch", "params/reference-gsm.yaml",
               "--dry-run", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60,
                          check=False)
    assert "82 of 82 jobs would run" in done.stdout, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 3
