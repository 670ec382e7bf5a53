"""Evaluation: every asked item counts, failures by kind, the self-check, the stage that resumes."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from small_student import by_heart, new_run, steady_seed, teacher_records

from mentor_kit.analysis.tables import teacher_rows
from mentor_kit.cli.evaluate import evaluate_target
from mentor_kit.collection.attempt_store import AttemptStore
from mentor_kit.collection.collect import collect as run_collection
from mentor_kit.collection.collection import Collection
from mentor_kit.collection.config import CollectConfig
from mentor_kit.core.chat_markup import EOS, render_call, render_environment
from mentor_kit.core.records import Record, load_records
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.evaluation import stage, students
from mentor_kit.evaluation.config import EvaluateConfig
from mentor_kit.evaluation.evaluate import evaluate, sample_groups, validation_metrics
from mentor_kit.evaluation.report import interval_table
from mentor_kit.evaluation.tasks import Task, evaluate_tasks, perturbed_tasks
from mentor_kit.judging.verdicts import failure_kind, judge_trajectory
from mentor_kit.runs.parameters import configure
from mentor_kit.students import rollout
from mentor_kit.students.kv_decoder import KVDecoder
from mentor_kit.students.rollout import Sampling
from mentor_kit.teachers import load_teacher

pytestmark = pytest.mark.numeric
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "04_evaluation.ipynb"
TRAIN, TEST, LONGER = (teacher_records(n, s) for n,
                       s in ((12, "train"), (6, "in_domain"), (4, "longer_chains")))


@pytest.fixture(scope="module")
def student():
    return by_heart()


def as_student(record: Record, text: str, finish: str = "eos") -> Trajectory:
    return Trajectory.from_text(text, record.problem.id, finish=finish)


@pytest.mark.parametrize(("text", "finish", "kind"), [
    ("The answer is \\boxed{3", "length", "length"), ("no box" + EOS, "eos", "no_answer"),
    (EOS, "eos", "no_answer"),
    (render_call("add", {"a": 1, "b": 2}) + EOS, "max_turns", "max_turns"), ("", "error", "error"),
    ("\\boxed{3}" + EOS, "eos", None)])
def test_failures_have_a_kind_and_count_as_wrong(text, finish, kind):
    trajectory = as_student(TEST[0], text, finish)
    assert failure_kind(TEST[0].problem, trajectory) == kind
    if kind:
        assert judge_trajectory(TEST[0].problem, trajectory) == {"correct": False,
                                                              "judged_by": "failure",
                                                              "failure": kind}


def test_every_asked_item_is_in_the_result(student):
    problems = [r.problem for r in TRAIN]
    records = evaluate(student, problems, {}, Sampling(max_new_tokens=4), meta={"method": "cut"})
    assert [r.problem for r in records] == problems
    assert {(r.trajectory.finish, r.trajectory.meta["failure"]) for r in records} == {("length",
                                                                                       "length")}
    assert not any(r.trajectory.meta["correct"] for r in records)
    assert records[0].trajectory.meta["sampling"]["max_new_tokens"] == 4


def test_groups_are_samples_of_one_problem(student):
    groups = sample_groups(student, TRAIN[:2], 3, Sampling(temperature=1.0))
    assert [r.problem.id for r in groups] == [TRAIN[0].problem.id] * 3 + [TRAIN[1].problem.id] * 3
    assert [r.trajectory.sample for r in groups] == [0, 1, 2] * 2 and groups[0].reference == TRAIN[
        0
    ].trajectory


def test_validation_uses_the_judge(student):
    metrics = validation_metrics(student, TRAIN)
    assert metrics["accuracy"] == metrics["similarity"] == 1 and metrics["executed_calls"] > 0


def test_stage_evaluates_all_splits_and_stores_them(student, tmp_path):
    run, collection = new_run(tmp_path, "evaluate"), Collection(tuple(TRAIN + TEST + LONGER))
    records = stage.evaluate_splits(configure(EvaluateConfig), student, collection, "test", run)
    assert (
        load_records(run.path("trajectories.parquet")) == records
        and not (run.dir / "answers").exists()
    )
    summary = stage.split_summary(records)
    assert list(summary.index) == ["in_domain", "longer_chains"] and list(summary["n"]) == [6, 4]


def test_what_is_there_to_learn_from_is_not_evaluated():
    pretrain = [replace(r, problem=replace(r.problem, split="pretrain")) for r in TRAIN[:1]]
    splits = stage.evaluation_splits(Collection((*pretrain, *TRAIN, *TEST)), [])
    assert splits == ["in_domain"]


def test_splits_are_asked_again_with_harder_tools(student, tmp_path):
    asked = ["failing=1", "reordered+distracting=2", "renamed"]
    config = configure(EvaluateConfig, splits=["train"], perturbations=asked, max_new_tokens=128)
    run, collection = new_run(tmp_path, "evaluate"), Collection(tuple(TRAIN))
    records = stage.evaluate_splits(config, student, collection, "test", run)
    splits = stage.by_split(records)
    assert list(splits) == ["train", *(f"train/{how}" for how in asked)]
    assert all(r.trajectory.meta["correct"] for r in splits["train"])
    for record, plain in zip(splits["train/failing=1"], splits["train"], strict=True):
        assert record.problem.toolbox == "perturbed:failing=1:arithmetic"
        first, expected = record.trajectory.calls[0], plain.trajectory.calls[0]
        assert (first.name, first.arguments) == (expected.name, expected.arguments)
        assert not any(c.ok for c in record.trajectory.calls) and record.reference is None
    assert all(r.reference for r in splits["train/reordered+distracting=2"])
    assert not any(r.reference for r in splits["train/renamed"])
    assert stage.repeat_check(records)["unexplained"] == 0
    own = [replace(t, problems=[replace(p, toolbox="own") for p in t.problems])
           for t in [Task("own", [TRAIN[0].problem], student, Sampling())]]
    with pytest.raises(UserError, match="split 'own' has no tools of the kit's"):
        perturbed_tasks(own, asked)
    with pytest.raises(UserError, match="perturbations.*did you mean 'renamed'"):
        configure(EvaluateConfig, perturbations=["renamd"])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_stopped_after_any_item_only_what_was_under_way_is_asked_again(student, tmp_path,
                                                                       monkeypatch, temperature):
    """And the same bytes come out on one kind of CPU, greedily and sampled."""
    known = [replace(r, problem=replace(r.problem, split="in_domain")) for r in TRAIN[:10]]
    collection, under_way = Collection(tuple(known)), 4

    def config_of(seed):
        return configure(EvaluateConfig, batch_size=under_way, temperature=temperature, seed=seed,
                         samples=2 if temperature else 1)

    def sample(seed):
        run = new_run(tmp_path / str(seed), "evaluate")
        stage.evaluate_splits(config_of(seed), student, collection, "test", run)

    config = config_of(steady_seed(rollout, sample) if temperature else 0)
    whole, broken = new_run(tmp_path / "a", "evaluate"), new_run(tmp_path / "b", "evaluate")
    records = stage.evaluate_splits(config, student, collection, "test", whole)
    admitted, stored, stops, before = [], [], [1, 3, 5, 0], 0
    admit, add, told = KVDecoder.add_row, AttemptStore.add, broken.path("progress.txt")

    def add_and_stop(store, record, *args):
        add(store, record, *args)
        stored.append((record.problem.id, record.trajectory.sample))
        if len(stored) == before + stops[0]:
            assert f" of {len(records)} items, " in told.read_text()
            raise KeyboardInterrupt

    monkeypatch.setattr(KVDecoder, "add_row", lambda self,
                        ids: (admitted.append(ids), admit(self, ids)))
    monkeypatch.setattr(AttemptStore, "add", add_and_stop)
    for stop in list(stops):
        with pytest.raises(KeyboardInterrupt) if stop else nullcontext():
            assert stage.evaluate_splits(config, student, collection, "test", broken) == records
        stops, before = stops[1:], len(stored)
    assert len(stored) == len(set(stored)) == len(records)
    assert len(records) < len(admitted) <= len(records) + 3 * (under_way - 1)
    assert (
        whole.path("trajectories.parquet").read_bytes()
        == broken.path("trajectories.parquet").read_bytes()
    )
    assert not told.exists()


def test_splits_and_problems_that_are_there_twice_are_refused_or_asked_once(student, tmp_path):
    collection = Collection(tuple(TRAIN + TEST))
    assert stage.evaluation_splits(collection, ["in_domain", "in_domain"]) == ["in_domain"]
    problems, run = [r.problem for r in TEST], new_run(tmp_path, "evaluate")
    task = Task("in_domain", problems, student, Sampling())
    with pytest.raises(UserError, match="Split 'in_domain' is there twice"):
        evaluate_tasks([task, task], run)
    with pytest.raises(UserError, match=f"'in_domain' problem '{problems[0].id}' is there twice"):
        evaluate_tasks([replace(task, problems=[*problems, problems[0]])], run)
    with pytest.raises(UserError, match="nothing to evaluate"):
        stage.evaluate_splits(configure(EvaluateConfig), student, Collection(tuple(TRAIN)), "test",
                              run)
    assert not (run.dir / "answers").exists()


def test_unknown_split_is_refused():
    with pytest.raises(UserError, match="not in the collection; it holds train"):
        stage.evaluation_splits(Collection(tuple(TRAIN)), ["nowhere"])


def test_rows_of_the_control():
    trained = (("cold_start", False), ("cold_start", True), ("sft", False))
    assert [students.method_label(m, masked) for m, masked in trained] == ["cold_start",
                                                                        "cold_start_constrained",
                                                                        "sft"]


def test_an_untrained_student_is_a_row_of_its_own(student, tmp_path):
    config = configure(EvaluateConfig, student_run="none",
                       student_source=str(student.save(tmp_path / "student")),
                       student_template="kit", splits=["in_domain"], max_new_tokens=8)
    asked, method = students.load_evaluated_student(config, None, Collection(tuple(TRAIN)))
    assert (
        method == asked.name == "base"
        and asked.model.num_parameters() == student.model.num_parameters()
    )
    for nothing in ("", "tiny"):
        with pytest.raises(UserError, match="is none: give a folder or a hub id"):
            configure(EvaluateConfig, student_run="none", student_source=nothing)


def test_repeat_check_tells_miscopies_from_bugs():
    """Same calls as the teacher, wrong box: a mis-copy when the last result was the teacher's, else
    unexplained."""
    teacher = TEST[0]
    right = teacher.trajectory.to_text()
    answer = teacher.problem.answers[0]
    miscopied = right.replace(f"boxed{{{answer}}}", "boxed{-77}")
    tampered = render_call("add", {"a": 1,
                                   "b": 1}) + EOS + render_environment(["5"]) + "\\boxed{5}" + EOS
    reference = Trajectory.from_text(tampered.replace("5", "2"), teacher.problem.id)
    records = [judged(teacher, teacher.trajectory, right),
               judged(teacher, teacher.trajectory, miscopied),
               judged(replace(teacher, problem=replace(teacher.problem, answers=("2",))), reference,
                      tampered)]
    counts = stage.repeat_check(records)
    assert counts["exact_repeats"] == 3 and counts["of_these_wrong"] == 2
    assert counts["miscopied"] == 1 and counts["never_boxed"] == 0 and counts["unexplained"] == 1


def judged(record: Record, reference: Trajectory, text: str) -> Record:
    trajectory = Trajectory.from_text(text, record.problem.id)
    verdict = judge_trajectory(record.problem, trajectory)
    return Record(record.problem, trajectory.with_meta(**verdict), reference)


def test_overlong_turn_keeps_its_text():
    turn = Turn("half a call <tool_call>", "length")
    assert Trajectory("p", (turn,)).to_text() == "half a call <tool_call>"


def test_what_fails_while_answers_are_kept_is_no_items_failure(student, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(AttemptStore, "add", full)
    with pytest.raises(OSError, match="No space left"):
        stage.evaluate_splits(configure(EvaluateConfig, splits=["in_domain"]), student,
                              Collection(tuple(TEST)), "test",
                              new_run(tmp_path, "evaluate"))


def test_the_teachers_accuracy_is_the_judges_over_every_item_wherever_it_is_told(student, tmp_path):
    """Asked itself, or from its collection beside a student: the same number, above the share that
    was accepted."""
    collect = configure(CollectConfig, split_sizes=["in_domain:4", "teacher_rejected:12"])
    collection = run_collection(collect, new_run(tmp_path / "c", "collect"))
    problems = [r.problem for r in collection.records]
    asked = evaluate(load_teacher("worked_solution"), problems, {}, meta={"method": "teacher"})
    config = configure(EvaluateConfig, max_new_tokens=2)
    beside = stage.evaluate_splits(config, student, collection, "test",
                                   new_run(tmp_path / "e", "evaluate"))
    own, told = interval_table(asked), interval_table(beside)
    assert told["teacher %"].to_dict() == own["accuracy %"].to_dict()
    assert told["accepted %"].to_dict() == own["accepted %"].to_dict() == {"in_domain": 100,
                                                                           "teacher_rejected": 0}
    assert own.loc["in_domain", "accuracy %"] == 100 and 0 < own.loc["teacher_rejected",
                                                                     "accuracy %"] < 100
    items = pd.DataFrame({"split": [r.problem.split for r in beside],
                          "problem_id": [r.problem.id for r in beside],
                          "teacher_correct": [r.trajectory.meta["teacher_correct"] for r in beside],
                          "teacher_tools": [r.reference and r.reference.tool_names
                                            for r in beside]})
    rows = teacher_rows(items).query("metric == 'correct'").set_index("split")["estimate"]
    assert (100 * rows).round(1).to_dict() == own["accuracy %"].to_dict()


@pytest.mark.parametrize(("target", "options", "benchmark", "match"), [
    ("no/such/folder", [], "gsm_symbolic:in_domain", "no/such/folder"),
    ("teacher:nobody", [], "gsm_symbolic:in_domain", "nobody"),
    ("teacher:worked_solution", ["flavour:odd"], "gsm_symbolic:in_domain", "flavour"),
    ("teacher:worked_solution", [], "hotpotqa", "passages|cannot be read"),
    ("teacher:worked_solution", [], "gsm_symbolic:nowhere", "no split 'nowhere'"),
    ("teacher:worked_solution", [], "gsm_cymbolic", "Unknown benchmark")])
def test_what_is_refused_leaves_nothing_behind(tmp_path, target, options, benchmark, match):
    out = tmp_path / "out"
    with pytest.raises(UserError, match=match):
        evaluate_target(target,
                        configure(EvaluateConfig, benchmarks=[benchmark], benchmark_items=2),
                        teacher_options=options, out=out)
    assert not out.exists() and not list(tmp_path.iterdir())


def test_an_unknown_split_in_the_notebook_leaves_nothing_behind():
    """The cell that makes the run's folder checks the splits first."""
    cells = ["".join(c["source"])
             for c in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]]
    (cell,) = [c for c in cells if "init_run(" in c]
    assert cell.index("stage.evaluation_splits(collection, config.splits)") < cell.index(
        "init_run("
    )
