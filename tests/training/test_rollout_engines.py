"""Two engines sample in training, the kit's and TRL's native tool loop: one set of rules, told by
scripted students.

Every script is played to both: same token ids, same tool mask, same executed calls and
observations, same verdict.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from killed_sandbox import killed_sandbox
from small_student import BOX, by_heart, grpo_trainer_of, steady_seed, teacher_records
from transformers import Qwen2Config, Qwen2ForCausalLM

from mentor_kit.core.chat_markup import ASSISTANT, EOS, render_call
from mentor_kit.core.records import load_records
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.errors import UserError
from mentor_kit.students import rollout
from mentor_kit.students.student import Student
from mentor_kit.students.tiny import build_model, build_tokenizer
from mentor_kit.training import processes
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.grpo import choose_engine, perturbed

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(60)
ADD, TIMES = render_call("add", {"a": 1, "b": 2}), render_call("multiply", {"a": 3, "b": 4})
ANSWER = "The answer is \\boxed{3}." + EOS


def call(text):
    return f"<tool_call>\n{text}\n</tool_call>"


SCRIPTS = {  # what the student writes, turn by turn
    "a call and an answer": [ADD + EOS, ANSWER],
    "several calls, one unknown": [
        ADD + "\n" + render_call("plus", {"a": 1}) + "\n" + TIMES + EOS,
        ANSWER,
    ],
    "a draft in thoughts (TB-04)": [f"<think>\n{ADD}\n</think>\n\n{ANSWER}"],
    "a draft, then a call (TB-04c)": [f"<think>\n{ADD}\n</think>\n\n{TIMES}" + EOS, ANSWER],
    "thoughts that are not closed": [f"<think>\nmaybe {ADD}" + EOS],
    "thoughts after a call": [f"{ADD}\n<think>hm</think>" + EOS, ANSWER],
    "a mark in an argument": [
        call('{"name": "add", "arguments": {"a": "<think>", "b": 2}}') + EOS,
        ANSWER,
    ],
    "arguments in a list (TB-05a)": [call('{"name": "add", "arguments": [1, 2]}') + EOS, ANSWER],
    "arguments in a text (TB-05c)": [
        call('{"name": "add", "arguments": "{\\"a\\": 1}"}') + EOS,
        ANSWER,
    ],
    "arguments under another name (TB-05e)": [
        call('{"name": "add", "parameters": {"a": 1, "b": 2}}') + EOS,
        ANSWER,
    ],
    "arguments are a number": [call('{"name": "add", "arguments": 3}') + EOS, ANSWER],
    "arguments are null": [call('{"name": "add", "arguments": null}') + EOS, ANSWER],
    "arguments that no tool takes": [render_call("add", {"a": 1, "c": True}) + EOS, ANSWER],
    "a name without end": [render_call("x" * 300, {}) + EOS, ANSWER],
    "malformed JSON": [call('{"name": "add"') + EOS],
    "one of two is malformed": [ADD + call("oops") + EOS],
    "no name": [call('{"arguments": {}}') + EOS],
    "an array": [call('[{"name": "add", "arguments": {"a": 1, "b": 2}}]') + EOS],
    "a call that is not closed": ['<tool_call>\n{"name": "add", "arguments": {}}' + EOS],
    "JSON nested a thousand deep": [call('{"name": "add", "arguments": ' + "[" * 1000) + EOS],
    "an empty turn": [EOS],
    "an empty turn after a call": [ADD + EOS, EOS],
    "division by zero": [render_call("divide", {"a": 1, "b": 0}) + EOS, ANSWER],
    "no end": ["word " * 1200],
    "no end, after a whole call": ["word " * 500 + ADD + "word " * 1200],
    "calls for ever": [ADD + EOS] * 9,
    "malformed at the turn limit": [ADD + EOS] * 4 + [call("oops") + EOS],
    "results too long": [ADD * 110 + EOS, ANSWER],
    "padding is written": ["<|endoftext|>word<|endoftext|>" + EOS],
    "the header of a turn is written": [f"<|im_start|>user\nhello {ADD}" + EOS, ANSWER],
}
FINISHES = {"calls for ever": "max_turns", "no end": "length",
            "no end, after a whole call": "length",
            "results too long": "max_turns"}
BUDGET = 1100


@pytest.fixture(scope="module")
def student():
    """An untrained one with room for long scripts."""
    texts = [t for r in RECORDS for t in (r.problem.question, r.trajectory.to_text())]
    tokenizer = build_tokenizer(texts, 800, max_length=4096)
    return Student(build_model(tokenizer, hidden_size=16, layers=1, heads=2, kv_heads=1,
                               ffn_size=16), tokenizer, BOX,
                   "test")


def play(monkeypatch, student, folder, engine, scripts, **options):
    """The records of one step in which the student writes these scripts, and the batch that is
    trained on."""
    tokenizer, questions = student.tokenizer, [r.problem.question for r in RECORDS[:len(scripts)]]
    turns = [[tokenizer(text, add_special_tokens=False)["input_ids"] for text in script]
             for script in scripts]
    flat = [[i for turn in script for i in turn] for script in turns]

    def choose(student, rows, scores, sampling):  # the kit asks for a token of each row
        ids = [flat[questions.index(r.problem.question)][sum(r.written):] for r in rows]
        return [i[0] if i else tokenizer.eos_token_id for i in ids]

    def generate(input_ids, generation_config, **_):  # TRL asks for a turn of each row
        rows = []
        for text in tokenizer.batch_decode(input_ids):
            script = turns[next(n for n, q in enumerate(questions) if f"{q}\nPut" in text)]
            number = text.count(ASSISTANT) - 1
            rows.append((script[number] if number < len(script) else [tokenizer.eos_token_id])[
                :generation_config.max_new_tokens])
        width = max(map(len, rows))
        padded = [r + [tokenizer.pad_token_id] * (width - len(r)) for r in rows]
        return torch.cat([input_ids, torch.tensor(padded)], dim=1)

    trainer = grpo_trainer_of(student, folder, RECORDS, rollout_engine=engine,
                              prompts_per_step=len(scripts), group_size=2,
                         micro_batch=2 * len(scripts), **{"max_new_tokens": BUDGET, **options})
    with monkeypatch.context() as patch:
        patch.setattr(rollout, "_choose", choose)
        patch.setattr(trainer.model, "generate", generate)
        batch = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    return load_records(folder / "rollouts" / "step-000001.parquet"), batch


def assert_equal(played):
    (ours, batch), (theirs, same) = played
    for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "tool_mask",
                 "advantages"):
        assert torch.equal(batch[name], same[name]), name
    assert ours == theirs  # text, finish, rewards, verdicts
    for a, b in zip(ours, theirs, strict=True):
        assert a.trajectory.calls == b.trajectory.calls  # what was executed, and what came back


def test_odd_turns_are_the_same_to_both_engines(student, tmp_path, monkeypatch):
    played = [play(monkeypatch, student, tmp_path / e, e, list(SCRIPTS.values()))
              for e in ("kit", "trl")]
    assert_equal(played)
    found = {name: played[0][0][2 * n].trajectory for n, name in enumerate(SCRIPTS)}
    assert {n: t.finish for n, t in found.items() if t.finish != "eos"} == FINISHES
    seen = {n: [(c.name[:9], c.observation.content[:60]) for c in t.calls if c.executed] for n,
            t in found.items()}
    assert seen["a draft in thoughts (TB-04)"] == seen["thoughts that are not closed"] == []
    assert seen["a draft, then a call (TB-04c)"] == [("multiply", "12")]
    for name in ("arguments in a list (TB-05a)", "arguments in a text (TB-05c)",
                 "arguments are a number"):
        assert seen[name] == [("add", "{'error': 'add: arguments must be an object.'}")]
    for name in ("arguments under another name (TB-05e)", "arguments are null"):
        assert seen[name] == [("add", """{'error': "add: missing argument 'a'."}""")]
    assert len(seen["calls for ever"]) == 4 and len(found["calls for ever"].turns) == 5
    assert seen["JSON nested a thousand deep"] == seen["results too long"] == []


def test_harder_tools_are_the_same_to_both_engines(student, tmp_path, monkeypatch):
    sampler, records = perturbed(student, RECORDS, "failing=1+distracting=12")
    monkeypatch.setitem(globals(), "RECORDS", records)
    flight = render_call("find_flights", {"start": "Rome", "end": "Oslo"})
    played = [play(monkeypatch, sampler, tmp_path / e, e, [[ADD + EOS, ANSWER],
                                                           [flight + EOS, ANSWER]])
              for e in ("kit", "trl")]
    assert_equal(played)
    seen = [r.trajectory.calls[0].observation.content for r in played[0][0]]
    assert seen == ["{'error': 'add: the service is not available.'}"] * 2 + ["Nothing found."] * 2
    assert played[0][0][0].problem.toolbox == "perturbed:failing=1+distracting=12:arithmetic"
    assert student.toolbox.name == "arithmetic"  # validation's


@pytest.mark.parametrize("engine", ["kit", "trl"])
def test_an_mcp_server_that_is_killed_in_a_rollout_loses_nothing(student, tmp_path, monkeypatch,
                                                                 capfd, engine):
    pytest.importorskip("mcp")
    helper = Path(__file__).parents[1] / "helpers/mcp_server.py"
    box = load_toolbox(f"mcp:{sys.executable} {helper}")
    served = replace(student, toolbox=box)
    die = render_call("die", {"once": str(tmp_path / "died")})
    ask = render_call("add", {"a": 1, "b": 2})
    rollouts, _ = play(monkeypatch, served, tmp_path / engine, engine,
                       [[ask + EOS, die + EOS, ask + EOS, ANSWER]] * 2)
    for record in rollouts:
        assert [c.observation.content for c in record.trajectory.calls] == ["3.0", "alive", "3.0"]
    assert "was lost; it is started again." in capfd.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="needs seccomp")
@pytest.mark.parametrize("engine", ["kit", "trl"])
def test_a_python_sandbox_that_is_killed_in_a_rollout_loses_nothing(student, tmp_path, monkeypatch,
                                                                    capfd, engine):
    ask = render_call("python", {"code": "1 + 2"})
    with killed_sandbox():
        rollouts, _ = play(monkeypatch, replace(student, toolbox=load_toolbox("python")),
                           tmp_path / engine, engine, [[ask + EOS, ask + EOS, ANSWER]] * 2)
    for record in rollouts:
        assert [c.observation.content for c in record.trajectory.calls] == ["3", "3"]
    assert "The Python sandbox was killed; it is started again" in capfd.readouterr().err


@pytest.mark.parametrize(("options", "reason"), [
    ({"perturb": "renamed"}, "training keeps the names"),
    ({"perturb": "slow=3"}, "a share up to 1")])
def test_what_cannot_be_perturbed_in_training(options, reason):
    with pytest.raises(ValueError, match=reason):
        TrainConfig(**options)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_results_at_the_token_budget(student, tmp_path, monkeypatch, more):
    """Results that fill the budget to the last token stay; those that pass it are dropped."""
    length = len(student.tokenizer(ADD + EOS + rollout.render_environment(["3"]),
                                   add_special_tokens=False)["input_ids"])
    played = [play(monkeypatch, student, tmp_path / e, e, [[ADD + EOS, ANSWER]] * 2,
                   max_new_tokens=length + more)
              for e in ("kit", "trl")]
    assert_equal(played)
    trajectory = played[0][0][0].trajectory
    finishes = ["max_turns"] if more < 0 else ["eos", "length"]
    assert [t.finish for t in trajectory.turns] == finishes
    assert trajectory.turns[-1].text == {-1: ADD, 0: "", 1: "The answer is \\boxed{"}[more]


@pytest.mark.parametrize("more", [0, 1])
def test_results_at_the_model_s_last_position(student, tmp_path, monkeypatch, more):
    """TB-13: what does not fit into the model's positions is dropped, by both."""
    text = ADD + EOS + rollout.render_environment(["3"])
    length = len(student.prompt_ids(RECORDS[0].problem.question)) + len(
        student.tokenizer(text)["input_ids"]
    )
    monkeypatch.setattr(student.model.config, "max_position_embeddings", length + more)
    played = [play(monkeypatch, student, tmp_path / e, e, [[ADD + EOS, ANSWER]] * 2)
              for e in ("kit", "trl")]
    assert_equal(played)
    assert [c.executed for c in played[0][0][0].trajectory.calls] == [more > 0]


def test_a_rollout_does_not_depend_on_processes_or_torch_s_random_state(tmp_path, monkeypatch):
    def sampled(seed):
        trainer = grpo_trainer_of(by_heart(), tmp_path / f"run-{seed}", RECORDS[:12],
                                  temperature=1.0, seed=seed)
        prompts = [row["prompt"] for row in next(iter(trainer.get_train_dataloader()))]
        return trainer, prompts, trainer.rollout_func(prompts, trainer)

    def differ(rollouts):
        return len({tuple(ids) for ids in rollouts["completion_ids"]}) > 3

    trainer, prompts, whole = sampled(steady_seed(rollout, lambda seed: differ(sampled(seed)[2])))
    torch.manual_seed(99)
    for rank, part in enumerate((slice(0, 6), slice(6, 12))):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        share = trainer.rollout_func(prompts[part], trainer)
        assert share["completion_ids"] == whole["completion_ids"][part]
        assert share["trajectory"] == whole["trajectory"][part]
    monkeypatch.setattr(processes, "rank", lambda: 0)
    # the same prompts in the next step: other rollouts
    trainer.rollout_func.order = [*range(3), *range(3)]
    trainer.state.global_step = 1
    assert trainer.rollout_func(prompts, trainer)["completion_ids"] != whole["completion_ids"]
    with pytest.raises(RuntimeError, match="other prompts"):
        trainer.rollout_func(prompts[::-1], trainer)


def test_the_engine_is_chosen_by_the_student(student, tmp_path):
    def engine(student, **options):
        return choose_engine(TrainConfig(**options), student)

    assert engine(student) == "kit" and engine(student, rollout_engine="trl") == "trl"
    assert engine(student, vllm_server="http://localhost:8000") == "trl"
    config = Qwen2Config(vocab_size=len(student.tokenizer), hidden_size=16, num_hidden_layers=2,
                         num_attention_heads=2,
                         num_key_value_heads=1, intermediate_size=16, use_sliding_window=True,
                         sliding_window=4,
                         max_window_layers=0)
    slides = Student(Qwen2ForCausalLM(config), student.tokenizer, BOX)
    assert engine(slides) == "trl"
    with pytest.raises(UserError, match="rollout_engine='kit' cannot sample here: it keeps a cache "
                                        "of plain llama"):
        engine(slides, rollout_engine="kit")
