"""Tables and sentences of judged records, on made-up ones."""

from __future__ import annotations

import numpy as np
from synthetic_results import student_record, teacher_record

from mentor_kit.core.records import Record
from mentor_kit.evaluation.report import accuracy_finding, failure_finding, interval_table
from mentor_kit.evaluation.stage import repeat_finding


def answers(method: str = "mentor", items: int = 12) -> list[Record]:
    rng = np.random.default_rng(0)
    return [student_record(teacher_record(split, i), method, rng)
            for split in ("in_domain", "longer_solutions") for i in range(items)]


def marked(record: Record, correct: bool, failure: str | None = None) -> Record:
    made = record.trajectory.with_meta(correct=correct, failure=failure)
    return Record(record.problem, made, record.reference)


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
