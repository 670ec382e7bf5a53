"""Evaluation: every asked item counts, failures by kind, the self-check, the stage that resumes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_student import new_run, teacher_records, trained

from mentor_kit.collect import Collection
from mentor_kit.configs import EvaluateConfig, configure
from mentor_kit.errors import UserError
from mentor_kit.evaluation import shards, stage
from mentor_kit.evaluation.evaluate import evaluate, failure_kind, sample_groups, validation_metrics, verdict_facts
from mentor_kit.store import Record, load_records
from mentor_kit.students.rollout import Sampling
from mentor_kit.trajectory import EOS, Trajectory, Turn, render_call, render_environment

TRAIN, TEST, LONGER = (teacher_records(n, s) for n, s in ((12, "train"), (6, "in_domain"), (4, "longer_chains")))


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return trained(TRAIN, tmp_path_factory.mktemp("sft"), steps=60)


def as_student(record: Record, text: str, finish: str = "eos") -> Trajectory:
    return Trajectory.from_text(text, record.problem.id, finish=finish)


@pytest.mark.parametrize(("text", "finish", "kind"), [
    ("The answer is \\boxed{3", "length", "overlong"), ("no box" + EOS, "eos", "no_answer"), (EOS, "eos", "no_answer"),
    (render_call("add", {"a": 1, "b": 2}) + EOS, "tool_cap", "tool_cap"), ("", "error", "error"),
    ("\\boxed{3}" + EOS, "eos", None)])
def test_failures_have_a_kind_and_count_as_wrong(text, finish, kind):
    trajectory = as_student(TEST[0], text, finish)
    assert failure_kind(trajectory) == kind
    if kind:
        assert verdict_facts(TEST[0].problem, trajectory) == {"correct": False, "judged_by": "failure", "failure": kind}


def test_every_asked_item_is_in_the_result(student):
    problems = [r.problem for r in TEST + LONGER]
    records = evaluate(student, problems, {}, Sampling(max_new_tokens=4), facts={"method": "cut"})
    assert [r.problem for r in records] == problems
    assert {r.trajectory.meta["failure"] for r in records} == {"overlong"}
    assert not any(r.trajectory.meta["correct"] for r in records)
    assert records[0].trajectory.meta["sampling"]["max_new_tokens"] == 4


def test_groups_are_samples_of_one_problem(student):
    groups = sample_groups(student, TRAIN[:2], 3, Sampling(temperature=1.0))
    assert [r.problem.id for r in groups] == [TRAIN[0].problem.id] * 3 + [TRAIN[1].problem.id] * 3
    assert [r.trajectory.sample for r in groups] == [0, 1, 2] * 2 and groups[0].reference == TRAIN[0].trajectory


def test_validation_uses_the_judge(student):
    metrics = validation_metrics(student, TRAIN)
    assert metrics["accuracy"] > 0.5 and metrics["executed_calls"] > 0 and 0 <= metrics["similarity"] <= 1


def test_stage_evaluates_all_splits_and_resumes(student, tmp_path, monkeypatch):
    collection = Collection(tuple(TRAIN + TEST + LONGER))
    config, run = configure(EvaluateConfig), new_run(tmp_path / "a", "evaluate")
    records = stage.evaluate_splits(config, student, collection, "test", run)
    assert load_records(run.path("trajectories.parquet")) == records and not (run.dir / "shards").exists()
    summary = stage.split_summary(records)
    assert list(summary.index) == ["in_domain", "longer_chains"] and list(summary["n"]) == [6, 4]
    again, asked = new_run(tmp_path / "b", "evaluate"), []
    real = shards.evaluate

    def fail_on_second(student, problems, *args, **kwargs):
        asked.append(problems[0].split)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(student, problems, *args, **kwargs)

    monkeypatch.setattr(shards, "evaluate", fail_on_second)
    with pytest.raises(KeyboardInterrupt):
        stage.evaluate_splits(config, student, collection, "test", again)
    assert stage.evaluate_splits(config, student, collection, "test", again) == records
    assert asked == ["in_domain", "longer_chains", "longer_chains"]
    assert run.path("trajectories.parquet").read_bytes() == again.path("trajectories.parquet").read_bytes()


def test_unknown_split_is_refused():
    with pytest.raises(UserError, match="not in the collection; it holds train"):
        stage.evaluation_splits(Collection(tuple(TRAIN)), ["nowhere"])


def test_rows_of_the_control():
    assert [stage.method_label(m, masked) for m, masked in (("cold_start", False), ("cold_start", True), ("sft", False))] \
        == ["base", "base_masked", "sft"]


def test_repeat_check_tells_miscopies_from_bugs():
    """Same calls as the teacher, wrong box: a mis-copy when the last result was the teacher's, else unexplained."""
    teacher = TEST[0]
    right = teacher.trajectory.to_text()
    answer = teacher.problem.answers[0]
    miscopied = right.replace(f"boxed{{{answer}}}", "boxed{-77}")
    tampered = render_call("add", {"a": 1, "b": 1}) + EOS + render_environment(["5"]) + "\\boxed{5}" + EOS
    reference = Trajectory.from_text(tampered.replace("5", "2"), teacher.problem.id)
    records = [judged(teacher, teacher.trajectory, right), judged(teacher, teacher.trajectory, miscopied),
               judged(replace(teacher, problem=replace(teacher.problem, answers=("2",))), reference, tampered)]
    counts = stage.repeat_check(records)
    assert counts["exact_repeats"] == 3 and counts["of_these_wrong"] == 2
    assert counts["miscopied"] == 1 and counts["never_boxed"] == 0 and counts["unexplained"] == 1


def judged(record: Record, reference: Trajectory, text: str) -> Record:
    trajectory = Trajectory.from_text(text, record.problem.id)
    return Record(record.problem, trajectory.with_meta(**verdict_facts(record.problem, trajectory)), reference)


def test_overlong_turn_keeps_its_text():
    turn = Turn("half a call <tool_call>", "length")
    assert Trajectory("p", (turn,)).to_text() == "half a call <tool_call>"
