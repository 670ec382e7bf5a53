"""Tables and sentences of judged records, on made-up ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from synthetic_results import student_record, teacher_record

from mentor_kit.core.chat_markup import EOS
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.evaluation.benchmarks.scorers import answer_scores, qa_verdicts
from mentor_kit.evaluation.evaluate import scored
from mentor_kit.evaluation.report import accuracy_finding, failure_finding, interval_table
from mentor_kit.evaluation.stage import repeat_finding


def answers(method: str = "mentor", items: int = 12) -> list[Record]:
    rng = np.random.default_rng(0)
    return [student_record(teacher_record(split, i), method, rng)
            for split in ("in_domain", "longer_solutions") for i in range(items)]


def marked(record: Record, correct: bool, failure: str | None = None) -> Record:
    made = record.trajectory.with_meta(correct=correct, failure=failure)
    return Record(record.problem, made, record.reference)


def qa_records(boxed: list[str], gold: str = "Paris") -> list[Record]:
    problem = Problem("q", "Where?", (gold,), "test", "qa")
    made = [Record(problem, Trajectory.from_text(f"\\boxed{{{text}}}" + EOS, "q", sample=i))
            for i, text in enumerate(boxed)]
    return scored(made, qa_verdicts)


def test_accuracy_and_its_interval_are_one_statistic_whatever_a_scorer_calls_its_own():
    one = [replace(r, problem=replace(r.problem, id=f"q{i}"),
                   trajectory=replace(r.trajectory, problem_id=f"q{i}", sample=0))
           for i, r in enumerate(qa_records(["Paris"] * 2 + ["the city of Paris in France"] * 8))]
    row = interval_table(one).loc["qa"]
    assert row["accuracy %"] == row["em %"] == 20 and row["contains %"] == 100
    assert row["low"] <= 20 <= row["high"] < 100
    named = [replace(r, trajectory=r.trajectory.with_meta(scores={"accuracy": 1.0, "low": 0.5}))
             for r in one]
    row = interval_table(named).loc["qa"]
    assert row["accuracy %"] == 20 and row["score accuracy %"] == 100 and row["low %"] == 50


def test_the_majority_of_answers_that_are_equal_is_right_in_any_order():
    right = ["Paris", "paris", "Paris.", "The Paris"]
    for boxed in (right + ["London"] * 2, ["London"] * 2 + right):
        row = interval_table(qa_records(boxed)).loc["qa"]
        assert row["maj@6 %"] == 100 and row["accuracy %"] == 66.7
    assert interval_table(qa_records(["Paris", "London", "london."])).loc["qa", "maj@3 %"] == 0


def test_sixteen_of_sixteen_are_not_certain():
    all_right = [marked(r, True) for r in answers(items=16)]
    row = interval_table(all_right).loc["in_domain"]
    assert (row["accuracy %"], row["low"], row["high"]) == (100, 80.6, 100)


def test_the_sentences_under_an_evaluation_say_its_numbers():
    records = answers()
    table = interval_table(records)
    row = table.loc["in_domain"]
    assert accuracy_finding(records).startswith(
        f"Right by the judge, one student: in domain {row['accuracy %']:.1f}% [{row['low']:.1f}, "
        f"{row['high']:.1f}] (teacher 100.0%) of 12 items, longer solutions ")
    wrong = [marked(records[0], False), marked(records[1], False, "length"),
             marked(records[2], False, "length"), marked(records[3], True)]
    assert failure_finding(wrong) == "3 of 4 answers are wrong: length 2, wrong answer 1."
    assert failure_finding(wrong[3:]) == "None of 1 answers is wrong."


def test_the_check_on_ourselves_says_when_all_is_well_and_when_not():
    teacher = [teacher_record("in_domain", i) for i in range(3)]
    repeats = [marked(r, True) for r in teacher]
    assert repeat_finding(repeats) == (
        "3 of 3 answers repeat the teacher's calls exactly; 0 of these are wrong: our rollouts "
        "pass the check.")
    said = repeat_finding([*repeats[:2], marked(teacher[2], False)])
    assert said.endswith("1 of these are wrong, and nothing explains 1 of them: look for a bug in "
                         "the rollouts.")


def test_golds_of_which_normalisation_leaves_nothing_are_compared_as_written():
    assert answer_scores("The The", "the the") == dict.fromkeys(
        ("em", "f1", "contains", "precision", "recall"), 1.0)
    assert answer_scores("...", "?")["em"] == 0 and answer_scores("The", "The The")["f1"] > 0
