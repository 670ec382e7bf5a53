"""The registry's cold start: its tokenizer, the order of its stages, one short training."""

from __future__ import annotations

from dataclasses import replace

import pytest
from training_project import TINY, make_inputs

from mentor_kit.collection.collect import attempt
from mentor_kit.collection.collection import Collection
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.errors import UserError
from mentor_kit.problems import load_problems
from mentor_kit.runs.open import init_run
from mentor_kit.runs.parameters import configure
from mentor_kit.students.student import Student
from mentor_kit.students.tiny import build_model, build_tokenizer
from mentor_kit.teachers import load_teacher
from mentor_kit.training import stage
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.sft import curriculum_order

SMALL = {"method": "cold_start", "cold_start_level": "mid", "cold_start_steps": 7,
         "cold_start_batch": 4, "cold_start_cooldown": 3, "student_hidden": 32,
         "student_layers": 1, "validation_items": 2, "validate_every": 0, "save_every": 0,
         "max_turns": 8, "max_new_tokens": 64}


def collected(source: str) -> Collection:
    teacher = load_teacher("worked_solution", reasoning="none")
    sizes = {"pretrain": 30, "train": 5, "validation": 2}
    return Collection(tuple(attempt(p, teacher) for p in load_problems(source, 0, sizes)))


@pytest.fixture(scope="module")
def collection() -> Collection:
    return collected("registry")


def test_names_numbers_and_fixed_parts_are_one_token_each(collection):
    box = load_toolbox("registry")
    texts = [t for r in collection.records for t in (r.problem.question, r.trajectory.to_text())]
    tokenizer = build_tokenizer(texts, toolbox=box)
    for word in box.words:
        assert len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1, word
    student = Student(build_model(tokenizer, hidden_size=16, layers=1), tokenizer, box)
    for record in collection.records:
        prompt = student.prompt_ids(record.problem.question)
        row = student.encode(record.problem.question, record.trajectory)
        calls = record.problem.meta["n_calls"]
        assert sum(row["assistant_masks"]) == 6 * calls + 4
        assert len(row["input_ids"]) == len(prompt) + 9 * calls + 4
        assert tokenizer.decode(row["input_ids"][len(prompt):]) == record.trajectory.to_text()
    name = tokenizer("Adamant 1234", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(name) == "Adamant 1234" and len(name) > 3, "words are found whole only"


def test_stages_follow_one_another_each_in_an_order_of_its_own():
    order = curriculum_order([(10, 5), (10, 2)], 4, seed=0)
    first, second = order[:20], order[20:]
    assert sorted(first) == sorted([*range(10)] * 2) and len(second) == 8
    assert len(set(second)) == 8 and set(second) <= set(range(10, 20))
    assert [i - 10 for i in second] != first[:8]
    assert curriculum_order([(10, 5), (10, 0), (10, 2)], 4, seed=0)[:20] == first, "a stage without"


def test_a_level_trains_on_the_pretraining_split_and_methods_on_the_references(collection):
    lessons = stage.load_training_data(collection, TrainConfig(**SMALL))
    assert {r.problem.split for r in lessons.train} == {"pretrain"}
    assert [n for n, _ in lessons.parts] == [30] * 3
    assert sum(steps for _, steps in lessons.parts) == 7
    others = stage.load_training_data(collection, TrainConfig(method="sft"))
    assert {r.problem.split for r in others.train} == {"train"} and not others.parts
    without = Collection(tuple(r for r in collection.records if r.problem.split != "pretrain"))
    with pytest.raises(UserError, match="split 'pretrain'"):
        stage.load_training_data(without, TrainConfig(**SMALL))


def test_a_cold_start_without_a_level_trains_on_pretrain_where_it_was_collected():
    stories, cold = collected("arithmetic_stories"), TrainConfig(method="cold_start")
    plain = stage.load_training_data(stories, cold)
    assert {r.problem.split for r in plain.train} == {"pretrain"} and not plain.parts
    rejected = Collection(tuple(
        replace(r, trajectory=replace(r.trajectory, meta=r.trajectory.meta | {"accepted": False}))
        if r.problem.split == "pretrain" else r for r in stories.records))
    with pytest.raises(UserError, match="no accepted item in split 'pretrain'"):
        stage.load_training_data(rejected, cold)


@pytest.mark.numeric
def test_a_cold_start_at_a_level_takes_its_steps_and_cools_down(collection, tmp_path):
    config = TrainConfig(**SMALL)
    lessons = stage.load_training_data(collection, config)
    student = stage.make_student(config, lessons, None)
    run = init_run(str(tmp_path / "run"), stage="cold_start", params=config.model_dump())
    budget = stage.train(config, student, lessons, run)
    rates = [m["learning_rate"] for m in run.metrics() if "learning_rate" in m]
    assert budget["optimizer_steps"] == 7 == len(rates)
    assert rates[3] > rates[5] > rates[6] > 0
    assert max(rates) <= config.cold_start_muon_learning_rate
    assert (run.dir / "student" / "model.safetensors").is_file()


@pytest.mark.numeric
def test_a_method_without_a_cold_start_makes_one_of_all_lessons(tmp_path, monkeypatch, capsys):
    """As in a fresh clone, where notebook 03 is run first; the second method finds it."""
    teacher = make_inputs(tmp_path)["teacher_run"]
    (tmp_path / "project" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    config = configure(TrainConfig, **TINY, references=1, cold_start_steps=2, cold_start_cooldown=1)
    start = stage.inputs(config, teacher)["start_run"]
    assert "There is no cold start yet" in capsys.readouterr().out
    assert start.params["method"] == "cold_start" and start.params["references"] == 0
    assert start.dir.parent.parent == tmp_path / "project" / "results" / "interactive"
    assert stage.inputs(config, teacher)["start_run"].dir == start.dir
    assert capsys.readouterr().out == ""
