"""params/demo.yaml, reference.yaml and reference-long.yaml: every value is one that its notebook
takes, all methods start alike, and each part of the map holds what its comment says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mentor_kit.batch.preflight import check_values
from mentor_kit.batch.study import load_study
from mentor_kit.errors import UserError
from mentor_kit.problems.registry.source import SPLITS
from mentor_kit.runs.parameters import parse_options

PARAMS = Path(__file__).parents[2] / "params"
SAME = ("steps", "references", "prompts_per_step", "group_size", "sft_batch", "learning_rate",
        "sft_learning_rate", "max_turns", "max_new_tokens", "student_hidden", "keep")
# students trained
CELLS = {"mid": 45, "hard": 45, "ends": 54, "dose": 51, "few": 18, "sampled": 54}


def study(name, subset=""):
    asked = load_study(PARAMS / name, subset=subset)
    check_values(asked, asked.jobs)
    return asked


def jobs(asked, *stages):
    return [job for job in asked.jobs if job.stage in stages]


@pytest.fixture(scope="module")
def demo():
    return study("demo.yaml")


def test_the_demo_trains_these_methods_alike(demo):
    trained = jobs(demo, "train", "train_clean")
    assert Counter(job.params["method"] for job in trained) == {
        "mentor": 1, "mentor_fixed": 1, "sparse": 1, "sft": 2}
    for name in SAME:
        assert len({job.params[name] for job in trained}) == 1, name
    assert trained[0].params["prompts_per_step"] * trained[0].params["group_size"] == \
        trained[0].params["sft_batch"]


def test_the_cold_start_is_broad_and_sees_all_of_it(demo):
    cold, = jobs(demo, "cold_start")
    assert (cold.params["cold_start_level"], cold.params["references"]) == ("mid", 0)
    assert cold.params["cold_start_steps"] * cold.params["cold_start_batch"] >= 8000
    assert cold.inputs["teacher_run"].params["teacher"] == "worked_solution"


def test_everybody_is_asked_the_same_questions_and_compared_with_the_clean_teacher(demo):
    questions, = jobs(demo, "questions")
    quirky, = jobs(demo, "collect")
    asked = parse_options(questions.params["split_sizes"], "split_sizes")
    taught = parse_options(quirky.params["split_sizes"], "split_sizes")
    assert set(asked) == set(SPLITS)
    assert all(asked[split] == n for split, n in taught.items()), "the same references"
    assert (quirky.params["teacher"], questions.params["teacher"]) == ("quirky", "worked_solution")
    assert {job.inputs["teacher_run"] for job in jobs(demo, "evaluate")} == {questions}
    assert len(jobs(demo, "evaluate")) == 6


@pytest.mark.parametrize("part", CELLS)
def test_a_part_of_the_map_is_whole_for_each_of_three_seeds(part):
    asked = study("reference.yaml", part)
    trained = [job for job in asked.jobs if job.stage.startswith("train")]
    assert Counter(job.axes["seed"] for job in trained) == dict.fromkeys(range(3), CELLS[part] // 3)
    evaluated = [job.inputs["student_run"] for job in asked.jobs
                 if job.stage.startswith("evaluate")]
    assert set(trained) <= set(evaluated)
    for job in trained:
        assert job.inputs["start_run"].axes["seed"] == job.axes["seed"]


def test_parts_share_their_runs_and_longer_prompts_are_a_study_of_their_own():
    mid, dose = ({job.key for job in jobs(study("reference.yaml", part), "train")}
                 for part in ("mid", "dose"))
    assert len(mid & dose) == 24
    assert {tuple(job.params["problem_options"]) for job in jobs(study("reference-long.yaml"),
                                                                 "questions", "collect")} == \
        {("hops:3-4",)}


def test_a_staged_cold_start_needs_the_pretraining_split():
    asked = load_study(PARAMS / "demo.yaml", overrides=[
        'questions.split_sizes=["train:64", "validation:64"]'])
    with pytest.raises(UserError, match="cold_start seed=0 needs the split 'pretrain'"):
        check_values(asked, jobs(asked, "cold_start"))


def test_no_study_writes_where_git_keeps_results():
    for file in PARAMS.glob("*.yaml"):
        assert load_study(file).name != "reference", file
