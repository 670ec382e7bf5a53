"""Verdicts on trajectories, by either judge; both where they differ."""

from __future__ import annotations

from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.evaluation.benchmarks.scorers import JUDGES
from mentor_kit.judging.verdicts import judge_answers, judge_strictly

PROBLEMS = [Problem(f"p/{i}", "?", (gold,), "s", "test") for i, gold in enumerate(["7", "41", "5"])]


def answers(*texts: str) -> list[Trajectory]:
    return [Trajectory(p.id, (Turn(text),)) for p, text in zip(PROBLEMS, texts, strict=True)]


def test_where_the_judges_agree_there_is_one_verdict():
    verdicts = judge_answers(PROBLEMS, answers("\\boxed{7.0}", "\\boxed{40}", "five"))
    assert [(v["correct"], v["failure"]) for v in verdicts] == [
        (True, None), (False, None), (False, "no_answer")]
    assert not any("scores" in v for v in verdicts)


def test_where_they_differ_every_answer_bears_the_other_verdict_too():
    asked = answers("\\boxed{7.0}", "\\boxed{40 or 41}", "five")
    released, strict = judge_answers(PROBLEMS, asked), judge_strictly(PROBLEMS, asked)
    assert [v["correct"] for v in released] == [True, True, False]
    assert [v["scores"] for v in released] == [{"strict judge": s} for s in (1.0, 0.0, 0.0)]
    assert [v["correct"] for v in strict] == [True, False, False]
    assert [v["scores"] for v in strict] == [{"released judge": s} for s in (1.0, 1.0, 0.0)]


def test_the_judges_by_parameter():
    assert {"released": judge_answers, "strict": judge_strictly} == JUDGES
