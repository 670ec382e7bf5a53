"""An adversarial student, through the real rollout loop: every asked item stays in the denominator,
under its kind."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_student import BOX, new_run, untrained

from mentor_kit.collection.attempt_store import AttemptStore
from mentor_kit.collection.collect import attempt
from mentor_kit.core.chat_markup import EOS, render_call, render_environment
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record, load_records
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.evaluation.config import EvaluateConfig
from mentor_kit.evaluation.evaluate import evaluate
from mentor_kit.evaluation.report import failure_counts, failures, interval_table
from mentor_kit.evaluation.tasks import Task, evaluate_tasks
from mentor_kit.metrics.samples import sample_metrics
from mentor_kit.metrics.trajectories import summarise
from mentor_kit.runs.parameters import configure
from mentor_kit.students import rollout
from mentor_kit.students.rollout import Sampling
from mentor_kit.students.sampling import Draw
from mentor_kit.students.student import Student
from mentor_kit.teachers.attempt import Attempt

QUESTION = "What is 1 + 1? Case {}"
RIGHT = "The answer is \\boxed{2}." + EOS
SCRIPT = {"right": RIGHT, "overlong": "I think " * 400, "never ends": "word",
          "thousand calls": 1000 * render_call(
    "add", {"a": 1, "b": 1}) + EOS, "empty": EOS,
          "calls for ever": render_call("add", {"a": 1, "b": 1}) + EOS,
    "malformed": "<tool_call>{not json</tool_call>" + EOS,
          "unknown tool": render_call("plus", {}) + EOS}
KIND = {"right": None, "overlong": "length", "never ends": "length",
        "thousand calls": "length",
        "empty": "no_answer", "calls for ever": "max_turns", "malformed": "no_answer",
        "unknown tool": "max_turns",
        "raises": "error", "raises late": "error"}
CASES = list(KIND) * 5


class ScriptedModel(torch.nn.Module):
    """Writes what SCRIPT says for the case that the question names."""

    def __init__(self, tokenizer) -> None:
        super().__init__()
        self.tokenizer, self.device = tokenizer, torch.device("cpu")
        self.config, self.asked = SimpleNamespace(max_position_embeddings=None), []
        self.embedding = torch.nn.Embedding(len(tokenizer), 1)

    def get_input_embeddings(self):
        return self.embedding

    def generate(self, input_ids, attention_mask, generation_config, logits_processor):
        self.asked.append(logits_processor)
        written = [self.answer(self.tokenizer.decode(row), generation_config.max_new_tokens)
                   for row in input_ids]
        width = max(map(len, written))
        pad = self.tokenizer.pad_token_id
        return torch.tensor([[*row.tolist(), *ids, *[pad] * (width - len(ids))]
                             for row, ids in zip(input_ids, written, strict=True)])

    def answer(self, prompt: str, budget: int) -> list[int]:
        case = next(c for c in sorted(KIND, key=len, reverse=True) if f"Case {c}\n" in prompt)
        if case == "raises" or (case == "raises late" and "tool_response" in prompt):
            raise RuntimeError(f"the device is on fire: {case}")
        if case == "never ends":
            return self.tokenizer("word ").input_ids[:1] * budget
        text = SCRIPT.get(case) or render_call("add", {"a": 1, "b": 1}) + EOS
        return self.tokenizer(text, add_special_tokens=False).input_ids[:budget]


@pytest.fixture(scope="module")
def adversary() -> Student:
    tokenizer = untrained([]).tokenizer
    return Student(ScriptedModel(tokenizer), tokenizer, BOX, "adversary")


def problems() -> list[Problem]:
    return [Problem(f"p{i:02d}", QUESTION.format(case), ("2",), "test", "adversarial") for i,
            case in enumerate(CASES)]


@pytest.fixture(scope="module")
def records(adversary) -> list[Record]:
    return evaluate(adversary, problems(), {}, Sampling(max_new_tokens=400), batch_size=16)


def test_all_fifty_items_are_in_the_denominator_each_under_its_kind(records):
    assert [r.problem for r in records] == problems() and len(records) == 50
    found = {(case, r.trajectory.meta["failure"]) for r, case in zip(records, CASES, strict=True)}
    assert found == set(KIND.items())
    summary = summarise(records)
    assert (summary["n"], summary["correct"]) == (50, 0.1)
    shares = {k: summary[f"failure/{k}"] for k in ("length", "max_turns", "no_answer", "error")}
    assert shares == {"length": 0.3, "max_turns": 0.2, "no_answer": 0.2, "error": 0.2}


def test_an_exception_costs_one_item_and_is_kept(records):
    by_case = dict(zip(CASES, records, strict=True))
    assert (
        by_case["raises"].trajectory.meta["error"] == "RuntimeError: the device is on fire: raises"
    )
    assert by_case["right"].trajectory.meta["correct"]


def test_an_exception_on_every_item_is_ours_and_is_raised(adversary):
    bad = [p for p in problems() if p.question.endswith("Case raises")]
    with pytest.raises(RuntimeError, match="on fire"):
        evaluate(adversary, bad, {}, Sampling())


def test_a_thousand_calls_in_a_turn_are_executed_and_counted(adversary):
    case = [p for p in problems() if p.question.endswith("thousand calls")][:1]
    (record,) = evaluate(adversary, case, {}, Sampling(max_new_tokens=60_000, max_turns=2))
    facts = summarise([record])
    assert (facts["n_calls"], facts["n_executed"], facts["turns"]) == (2000, 1000, 2)
    assert record.trajectory.meta["failure"] == "max_turns"


def test_counters_of_every_kind_stand_beside_accuracy(records):
    """5 of 50 items write a malformed call; 5 call an unknown and 5 a known tool in 5 turns, the
    last not executed."""
    row = interval_table(records).loc["adversarial"]
    summary = summarise([r for r, c in zip(records, CASES, strict=True) if c != "thousand calls"])
    assert (row["malformed"], row["unknown tools"], row["failed calls"]) == (5 / 50, 25 / 50,
                                                                             20 / 50)
    assert (summary["n_executed"] * 45, summary["n_calls"] * 45) == (pytest.approx(5 * 4 + 5 * 4),
                                                                     pytest.approx(55))
    assert row["turns"] == (8 * 5 + 2 * 25) / 50 and row["boxed %"] == 10
    assert row["tokens"] == pytest.approx(np.mean([r.trajectory.meta["tokens"] for r in records
                                                   if "tokens" in
                                                   r.trajectory.meta]), abs=0.005)


def test_a_restart_with_only_bad_items_left_ends_as_the_undisturbed_run(adversary, tmp_path,
                                                                        monkeypatch):
    asked = [p for p in problems() if p.question.endswith(("Case right", "Case raises"))]
    whole, broken = (new_run(tmp_path / name, "evaluate") for name in ("whole", "broken"))
    task, right = Task("adversarial", asked, adversary, Sampling(max_new_tokens=400)), []
    records = evaluate_tasks([task], whole, batch_size=3)
    assert [r.trajectory.meta["failure"] for r in records].count("error") == 5
    add = AttemptStore.add

    def stop_after_the_last_right_one(store, record, *args):
        add(store, record, *args)
        right.extend([record] * (record.trajectory.finish == "eos"))
        if len(right) == 5 and record is right[-1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(AttemptStore, "add", stop_after_the_last_right_one)
    with pytest.raises(KeyboardInterrupt):
        evaluate_tasks([task], broken, batch_size=3)
    assert evaluate_tasks([task], broken, batch_size=3) == records and len(right) == 5
    assert (
        whole.path("trajectories.parquet").read_bytes()
        == broken.path("trajectories.parquet").read_bytes()
    )


def test_a_solver_that_breaks_on_the_way_is_no_items_failure_and_leaves_none(adversary, tmp_path,
                                                                             monkeypatch):
    asked = [replace(p, question=QUESTION.format("right")) for p in problems()]
    run, task = new_run(tmp_path, "evaluate"), Task("adversarial", asked, adversary,
                                                    Sampling(max_new_tokens=400))
    with monkeypatch.context() as patch:
        patch.setattr(adversary.model, "answer", breaks_after(20, adversary.model.answer))
        with pytest.raises(RuntimeError, match="no device"):
            evaluate_tasks([task], run, batch_size=8)
    records = evaluate_tasks([task], run, batch_size=8)
    assert len(records) == 50 and all(r.trajectory.meta["correct"] for r in records)


def breaks_after(calls: int, answer):
    left = iter(range(calls))

    def broken(*args):
        if next(left, None) is None:
            raise RuntimeError("no device")
        return answer(*args)
    return broken


def test_an_item_that_raises_before_it_is_under_way_is_the_one_that_is_blamed(adversary,
                                                                              monkeypatch):
    asked = [p for p in problems() if p.question.endswith("Case right")][:4]
    real = rollout.prompt_ids

    def no_prompt(student, problem):
        if problem.id == asked[2].id:
            raise ValueError("no prompt for this one")
        return real(student, problem)

    monkeypatch.setattr(rollout, "prompt_ids", no_prompt)
    for batch_size in (1, 2, 8):
        records = evaluate(adversary, asked, {}, Sampling(max_new_tokens=400),
                           batch_size=batch_size)
        assert [r.trajectory.meta["failure"] for r in records] == [None, None, "error", None]


def test_tables_show_every_item_and_failures_can_be_browsed(records):
    row = interval_table(records).loc["adversarial"]
    assert (row["items"], row["answers"], row["accuracy %"]) == (50, 50, 10.0)
    assert row["low"] <= 10 <= row["high"] and row["length"] == 15 and row["error"] == 10
    counts = failure_counts(records).loc["adversarial"]
    assert counts.sum() == 45 and counts["wrong_answer"] == 0
    assert len(failures(records, "no_answer")) == 10 and failures(records, "error", "nowhere") == []


def test_sampling_settings_reach_every_turn_and_are_stored(adversary):
    settings = Sampling(temperature=0.6, top_p=0.95, top_k=20, max_new_tokens=300, seed=7)
    adversary.model.asked.clear()
    case = [p for p in problems() if p.question.endswith("calls for ever")][:1]
    (record,) = evaluate(adversary, case, {}, settings)
    assert len(adversary.model.asked) == len(record.trajectory.turns) == 5
    for temperature, top_k, top_p, draw in adversary.model.asked:
        assert (temperature.temperature, top_k.top_k, top_p.top_p) == (
            0.6,
            20,
            0.95,
        ) and isinstance(draw, Draw)
    assert record.trajectory.meta["sampling"] == asdict(settings)


def test_k_samples_are_numbered_and_measured(adversary, tmp_path):
    asked = [p for p in problems() if p.question.endswith(("Case right", "Case empty"))][:4]
    run = new_run(tmp_path / "run", "evaluate")
    task = Task("adversarial", asked, adversary, Sampling(temperature=1.0))
    records = evaluate_tasks([task], run, samples=4, batch_size=3)
    assert [(r.problem.id, r.trajectory.sample) for r in records] == [(p.id, s) for p in asked
                                                                      for s in range(4)]
    assert load_records(run.path("trajectories.parquet")) == records
    assert sample_metrics(records) == {"k": 4, "mean_at_k": 0.5, "pass_at_k": 0.5, "maj_at_k": 0.5}
    row = interval_table(records).loc["adversarial"]
    assert (row["items"], row["answers"], row["pass@4 %"], row["accuracy %"]) == (4, 16, 50, 50)


def test_samples_need_a_temperature():
    with pytest.raises(UserError, match="samples=4 with temperature 0 would repeat one answer"):
        configure(EvaluateConfig, samples=4)
    assert configure(EvaluateConfig, samples=4, temperature=0.6).samples == 4


class ShyTeacher:
    """A teacher that answers every other problem, tells one wrong, and once has nothing to say."""

    name = "shy"

    def solve(self, problem: Problem, sample: int = 0) -> Attempt:
        number = int(problem.id[1:])
        if number % 3 == 0:
            return Attempt(None, False, "no_answer")
        box = 2 if number % 3 == 1 else 3
        calls = Turn(render_call("add", {"a": 1, "b": 1}), "eos", render_environment(["2"]))
        return Attempt(Trajectory(problem.id, (calls, Turn(f"\\boxed{{{box}}}")), "teacher:shy"),
                       number % 3 == 1, "?")


def test_references_belong_to_their_task(adversary, tmp_path):
    """The same id in a collection and in a benchmark may be another question: only its own task's
    teacher counts."""
    problem = problems()[0]
    attempts = [attempt(problem, ShyTeacher(),
                        sample) for sample in range(2)] + [attempt(problems()[10], ShyTeacher())]
    tasks = [Task("ours", [problem, problems()[10]], adversary, Sampling(max_new_tokens=400),
                  attempts=attempts),
             Task("benchmark", [problem], adversary, Sampling(max_new_tokens=400))]
    first, second, other = evaluate_tasks(tasks, new_run(tmp_path, "evaluate"))
    assert (first.reference, first.trajectory.meta["teacher_correct"]) == (None, 0)
    assert second.reference is not None and second.trajectory.meta["teacher_correct"] == 1
    assert other.reference is None and "teacher_correct" not in other.trajectory.meta


def test_a_teacher_is_a_row_like_any_student():
    records = evaluate(ShyTeacher(), problems()[:9], {}, meta={"method": "teacher"})
    assert [r.trajectory.meta["failure"] for r in records] == ["error", None, None] * 3
    assert [r.trajectory.meta["correct"] for r in records] == [False, True, False] * 3
    assert {r.trajectory.meta["method"] for r in records} == {"teacher"}
