"""Tools with a state of their own train: every rollout has its own till, by the kit's engine."""

from __future__ import annotations

import pytest
from small_student import grpo_trainer_of, new_run, scripted, untrained

from mentor_kit.core.chat_markup import render_call
from mentor_kit.core.environment import OWN, StatefulTools, make_environment
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record, load_records
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.students.sampling import Sampling
from mentor_kit.training import grpo
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.grpo import choose_engine
from mentor_kit.training.sft import sft_rows, train_sft

pytestmark = pytest.mark.numeric


class Till(StatefulTools):
    """Holds coins; an attempt begins with those that the problem says."""

    def reset(self, problem):
        self.coins = problem.meta.get("coins", 0)

    def put(self, amount: int) -> int:
        """Put coins into the till."""
        self.coins += amount
        return self.coins

    def count(self) -> int:
        """How many coins are in the till."""
        return self.coins


def problem(number):
    return Problem(f"till/{number}", f"Put {number} coins into the till twice. How many are there?",
                   (str(3 * number),), "till", "train", OWN, Till.facts() | {"coins": number})


def played(asked, *texts):
    """The trajectory of these turns, answered by a till of its own."""
    till, turns = make_environment(asked), []
    for text in texts:
        response = till.step(Turn(text))
        turns.append(Turn(text, "eos", response.text if response else ""))
    return Trajectory(asked.id, tuple(turns), "teacher:till")


def lesson(number):
    put, asked = render_call("put", {"amount": number}), problem(number)
    return Record(asked, played(asked, put, f"{put}\n{render_call('count', {})}",
                                f"The answer is \\boxed{{{3 * number}}}."))


LESSONS = [lesson(n) for n in (2, 3, 4)]


def test_the_state_is_an_attempts_own():
    results = [c.observation.content for c in LESSONS[0].trajectory.calls]
    assert results == ["4", "6", "6"]
    assert [s["function"]["name"] for s in Till.facts()["tool_schemas"]] == ["put", "count"]
    assert "missing argument" in make_environment(problem(1)).step(
        Turn(render_call("put", {}))).text


def test_grpo_and_sft_train_on_stateful_tools(tmp_path, monkeypatch):
    def script(record, number, step):
        said = [turn.text for turn in record.trajectory.turns]
        return [said, [said[0], "The answer is \\boxed{0}."]][number % 2]

    monkeypatch.setattr(grpo, "KitRollouts", scripted(LESSONS, script))
    student = untrained(LESSONS)
    trainer = grpo_trainer_of(student, tmp_path / "grpo", LESSONS, shared_prompts=True,
                              max_new_tokens=200)
    trainer.train()
    rollouts = load_records(tmp_path / "grpo" / "rollouts" / "step-000001.parquet")
    for number, record in enumerate(rollouts):
        first = LESSONS[number // 4].trajectory.calls[0].observation.content
        assert record.trajectory.calls[0].observation.content == first  # no till of another
        assert record.trajectory.meta["correct"] == (number % 2 == 0)
    rows = sft_rows(student, LESSONS)
    prompt = student.tokenizer.decode(rows[0]["input_ids"][:rows[0]["assistant_masks"].index(1)])
    assert "put" in prompt and "multiply" not in prompt
    config = TrainConfig(method="sft", steps=1, sft_batch=3, validate_every=0, save_every=0)
    train_sft(student, LESSONS, [], config, new_run(tmp_path / "sft"))
    assert student.rollout([LESSONS[0].problem], Sampling(max_new_tokens=4))[0].turns


def test_trl_s_loop_does_not_know_them():
    with pytest.raises(UserError, match="sampled by the kit's engine only, and here TRL is to"):
        choose_engine(TrainConfig(rollout_engine="trl"), untrained(LESSONS), LESSONS)
