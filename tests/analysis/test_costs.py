"""Accuracy against cost: what a row says, and that the picture holds every method."""

from __future__ import annotations

import pandas as pd
import pytest

from mentor_kit.analysis.conditions import run_conditions
from mentor_kit.analysis.costs import accuracy_by_cost, evaluated_students
from mentor_kit.collection.collection import TRAJECTORIES
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record, save_records
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.runs.open import init_run, load_run


def item(split: str, n: int, correct: bool) -> Record:
    problem = Problem(f"{split}/{n}", "?", ("1",), "test", split, "arithmetic")
    trajectory = Trajectory(problem.id, (Turn("The answer is \\boxed{1}."),), "student:x", 0,
                            {"correct": correct})
    return Record(problem, trajectory)


def finished(folder, stage, params, inputs=None, **files):
    run = init_run(folder, stage=stage, params=params, inputs=inputs or {})
    for name, text in files.items():
        run.path(f"{name}.json").write_text(text)
    run.finish()
    folder = folder.rename(folder.parent / run.key)  # where a study has it
    return load_run(folder)


@pytest.fixture
def study(tmp_path):
    root = tmp_path / "study"
    teacher = finished(root / "collect" / "a", "collect",
                       {"teacher": "quirky", "teacher_options": ["repeat:0.5", "reasoning:none"]})
    start = finished(root / "cold_start" / "a", "cold_start",
                     {"method": "cold_start", "seed": 0, "cold_start_level": "hard"})
    for method in ("mentor", "opd"):
        params = {"method": method, "seed": 0, "cold_start_level": "mid"}
        budget = '{"sampled_tokens": 2000, "teacher_forwards": 7, "teacher_tokens": 0}'
        student = finished(root / "train" / method, "train", params,
                           {"teacher_run": teacher, "start_run": start},
                           budget=budget)
        run = init_run(root / "evaluate" / method, stage="evaluate", params={},
                       inputs={"student_run": student})
        save_records(run.path(TRAJECTORIES), [item("in_domain", 0, True),
                                              item("in_domain", 1, False),
                                              item("longer", 0, False),
                                              item("phrasing", 0, True)])
        run.finish()
    return root


def test_a_row_a_student(study):
    rows = evaluated_students(study)
    mentor = rows.set_index("method").loc["mentor"]
    assert (mentor["level"], mentor["teacher"], mentor["in_domain"]) == ("hard", "quirky", 0.5)
    assert mentor["out_of_domain"] == 0.5 and mentor["sampled_tokens"] == 2000
    assert rows.set_index("method").loc["opd", "teacher"] == "none read"


def test_the_picture_says_what_is_drawn(study):
    drawn = accuracy_by_cost(evaluated_students(study))
    assert len(drawn.figure.axes) == 4 and "sampled" in drawn.caption
    names = [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    assert names == ["MENTOR", "On-policy distillation"]


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="No"):
        evaluated_students(tmp_path)
    rows = pd.DataFrame([{"level": "mid", "teacher": "clean", "method": "cold_start", "seed": 0,
                          "in_domain": 1.0, "out_of_domain": 1.0, "sampled_tokens": 0,
                          "teacher_tokens": 0, "teacher_forwards": 0}])
    with pytest.raises(UserError, match="trained"):
        accuracy_by_cost(rows)


def test_a_students_level_is_its_cold_starts_not_that_of_whose_vocabulary_it_takes(tmp_path):
    root, cold = tmp_path / "study", {"method": "cold_start", "seed": 0}
    teacher = finished(root / "white_box_teacher" / "a", "cold_start",
                       {**cold, "cold_start_level": "clean"})
    start = finished(root / "cold_start" / "a", "cold_start", {**cold, "cold_start_level": "mid"},
                     {"start_run": teacher})
    student = finished(root / "train" / "a", "train", {"method": "opd", "cold_start_level": "mid"},
                       {"start_run": start})
    assert run_conditions(student, load_run)["cold_start_level"] == "mid"
    assert run_conditions(teacher, load_run)["cold_start_level"] == "clean"
