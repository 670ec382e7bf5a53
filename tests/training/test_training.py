"""Training: masks, determinism and exact resume on one kind of CPU, the reward TRL sees, the budget
that is reported."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from small_student import (
    BOX,
    by_heart,
    clone,
    new_run,
    scripted,
    teacher_records,
    untrained,
    varied,
)
from transformers import TrainerCallback

from mentor_kit.core.records import load_records
from mentor_kit.errors import UserError
from mentor_kit.rewards import load_reward
from mentor_kit.runs.parameters import configure
from mentor_kit.students.backends import bfloat16_cpu
from mentor_kit.students.loading import LoadConfig
from mentor_kit.students.rollout import Sampling
from mentor_kit.students.student import load_student
from mentor_kit.training import stage
from mentor_kit.training.checkpoints import tiled_order
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.grpo import train_grpo
from mentor_kit.training.optimizers import MuonWithAdamW, StackedMuon, WSDSchedule
from mentor_kit.training.sft import sft_rows, train_sft

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(12)
SMALL = {"prompts_per_step": 3, "group_size": 4, "micro_batch": 6, "max_new_tokens": 96,
         "validate_every": 0,
         "temperature": 0.7}


@pytest.fixture(scope="module")
def student():
    return by_heart()


def weights(student):
    return {k: v.clone() for k, v in student.model.state_dict().items()}


def equal(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def grpo(student, folder, steps=2, **options):
    learner = clone(student)
    run = new_run(folder)
    budget = train_grpo(learner, RECORDS, RECORDS[:2], load_reward("mentor"),
                        TrainConfig(**{**SMALL, "steps": steps, "save_every": 1, **options}), run)
    return learner, run, budget


def test_tiled_order_is_permutations_and_seeded():
    order = tiled_order(5, 12, seed=1)
    assert sorted(order[:5]) == sorted(order[5:10]) == list(range(5)) and len(order) == 12
    assert order == tiled_order(5, 12, seed=1) != tiled_order(5, 12, seed=2)


def test_sft_trains_on_assistant_tokens_alone(student):
    """The trained rows give tool results weight zero: changing them leaves the loss of other
    tokens' labels alone."""
    row, again = sft_rows(student, [RECORDS[0], RECORDS[0]])
    assert row == again == student.encode(RECORDS[0].problem, RECORDS[0].trajectory)
    text = student.tokenizer.decode([i for i,
                                     m in zip(row["input_ids"], row["assistant_masks"], strict=True)
                                     if m])
    assert "<tool_response>" not in text and "<tool_call>" in text


def test_sft_is_deterministic_and_counts_tokens(tmp_path):
    results = []
    for name in ("a", "b"):
        learner, run = untrained(RECORDS), new_run(tmp_path / name)
        budget = train_sft(learner, RECORDS, RECORDS[:2],
                           TrainConfig(method="sft", sft_learning_rate=3.0e-3, save_every=0,
                                       steps=3, sft_batch=4,
                                                                         validate_every=2), run)
        results.append((weights(learner), (run.dir / "metrics.jsonl").read_bytes(), budget))
    assert equal(results[0][0], results[1][0]) and results[0][1:] == results[1][1:]
    rows = sft_rows(untrained(RECORDS), RECORDS)
    assert results[0][2] == {"optimizer_steps": 3, "sampled_tokens": 0, "teacher_forwards": 0,
                             "teacher_tokens": sum(sum(r["assistant_masks"]) for r in rows)}


def test_sft_stops_at_the_target_and_counts_the_rows_it_saw(student, tmp_path, monkeypatch):
    from mentor_kit.training.sft_trainer import SharedPrefixTrainer

    seen, step = [], SharedPrefixTrainer.training_step
    monkeypatch.setattr(SharedPrefixTrainer, "training_step", lambda self, model, inputs, *args: (
        seen.append(inputs["labels"].clone()), step(self, model, inputs, *args))[1])
    settings = TrainConfig(method="cold_start", cold_start_steps=9, cold_start_batch=4,
                           cold_start_accuracy=0.1,
                           cold_start_cooldown=0, validate_every=2, save_every=0, seed=5,
                           cold_start_learning_rate=1e-9,
                           cold_start_muon_learning_rate=1e-9)
    budget = train_sft(clone(student), RECORDS, RECORDS, settings, new_run(tmp_path))
    assert budget["optimizer_steps"] == 2
    trained_on = [(row != -100).sum().item() for batch in seen for row in batch]
    rows = sft_rows(student, RECORDS)
    assert trained_on == [sum(rows[i]["assistant_masks"])
                          for i in tiled_order(len(rows), 36, 5)[:8]]
    assert budget["teacher_tokens"] == sum(trained_on)


def test_validation_leaves_the_training_sampling_alone(student, tmp_path):
    """Else every seed would explore with the same random numbers after each validation."""
    kept = [{p.name: p.read_bytes()
             for p in (grpo(student, tmp_path / name, validate_every=every)[1].dir
                                              / "rollouts").iterdir()} for name,
            every in (("with", 1), ("without", 0))]
    assert kept[0] == kept[1] and len(kept[0]) == 2


def test_warm_up_stable_decay_by_hand():
    factor = WSDSchedule(warmup=2, decay=4)
    assert [factor(s) for s in range(4)] == [0.5, 1.0, 1.0, 1.0] and not factor.is_over(99)
    factor.begin_decay(10)
    factor.begin_decay(12)
    assert [factor(s) for s in (3, 10, 11, 13, 14, 20)] == [1.0, 1.0, 0.75, 0.25, 0.0, 0.0]
    assert not factor.is_over(13) and factor.is_over(14)


def test_grpo_is_deterministic(student, tmp_path):
    (a, run_a, _), (b, run_b, _) = (grpo(student, tmp_path / name) for name in "ab")
    assert equal(weights(a), weights(b)) and not equal(weights(a), weights(student))
    assert run_a.metrics() == run_b.metrics()
    shards = [sorted((r.dir / "rollouts").iterdir()) for r in (run_a, run_b)]
    assert [p.read_bytes() for p in shards[0]] == [p.read_bytes() for p in shards[1]]


class Crash(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyboardInterrupt


def test_grpo_resumes_exactly(student, tmp_path, monkeypatch):
    whole, run, budget = grpo(student, tmp_path / "whole", steps=4, save_every=2, validate_every=2)
    from mentor_kit.training import callback

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(callback.RunCallback, "on_step_begin", Crash.on_step_end)
        grpo(student, tmp_path / "cut", steps=4, save_every=2, validate_every=2)
    resumed, again, same_budget = grpo(student, tmp_path / "cut", steps=4, save_every=2,
                                       validate_every=2)
    assert equal(weights(whole), weights(resumed)) and budget == same_budget
    assert run.metrics() == again.metrics()


def test_rollouts_are_stored_with_the_reward_trained_on(student, tmp_path):
    _, run, budget = grpo(student, tmp_path)
    reward = load_reward("mentor")
    first = load_records(run.dir / "rollouts" / "step-000001.parquet")
    assert len(first) == 12
    for record in first:
        score = reward(record.problem, record.reference, record.trajectory)
        assert record.trajectory.meta["reward"] == score.total
    logged = next(m for m in run.metrics() if m.get("step") == 1 and "reward" in m)
    assert logged["reward"] == pytest.approx(np.mean([r.trajectory.meta["reward"] for r in first]),
                                             abs=1e-6)
    assert logged["executed_calls"] > 0 and budget["sampled_tokens"] > 0


def test_greedy_rollouts_equal_those_of_trl(student, tmp_path):
    """TRL's tool loop and ours are two implementations of one protocol: greedy, they must write the
    same text."""
    _, run, _ = grpo(student, tmp_path, steps=1, top_k=1)
    for record in load_records(run.dir / "rollouts" / "step-000001.parquet"):
        ours = student.ask(record.problem, sampling=Sampling(max_new_tokens=96)).trajectory
        assert (
            ours.to_text() == record.trajectory.to_text()
            and ours.finish == record.trajectory.finish
        )


def test_muon_state_round_trip():
    model = untrained(RECORDS).model
    optimizer = MuonWithAdamW(model, 0.02, 0.003)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    state, before = copy.deepcopy(optimizer.state_dict()), {k: v.clone() for k,
                                                            v in model.state_dict().items()}
    optimizer.step()
    after = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(before)
    fresh = MuonWithAdamW(model, 0.02, 0.003)
    fresh.load_state_dict(state)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    fresh.step()
    assert all(torch.equal(after[k], v) for k, v in model.state_dict().items())


def test_muon_on_stacks_of_matrices_is_muon_on_each():
    """On one machine the bits are the same; elsewhere products in bfloat16 may be summed
    otherwise."""
    moved = []
    for optimizer_class in (torch.optim.Muon, StackedMuon):
        torch.manual_seed(0)
        matrices = [torch.nn.Parameter(torch.randn(shape)) for shape in
                    ((8, 8), (24, 8), (8, 8), (8, 24), (24, 8))]
        optimizer = optimizer_class(matrices, lr=0.02, weight_decay=0.1, momentum=0.95)
        for _ in range(4):
            for matrix in matrices[:4]:  # the last one has no gradient
                matrix.grad = torch.randn_like(matrix)
            optimizer.step()
        moved.append((matrices, optimizer.state_dict()))
    (ours, our_state), (theirs, their_state) = moved
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=4 * 0.02 * 2**-7)  # bfloat16 has 8 bits
    assert our_state["state"].keys() == their_state["state"].keys() == {0, 1, 2, 3}


def test_adapters_are_matrices_only_and_muon_steps_them_alone(tmp_path):
    folder = untrained(RECORDS).save(tmp_path / "student")
    model = load_student(folder, BOX, loading=LoadConfig(finetuning="lora", lora_rank=2)).model
    optimizer = MuonWithAdamW(model, 0.02, 0.003)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in trained.items()}
    for p in trained.values():
        p.grad = torch.randn_like(p)
    optimizer.step()
    assert len(optimizer.parts) == 1 and all(not torch.equal(p, before[n]) for n,
                                             p in trained.items())
    optimizer.load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize(("options", "match"), [
    ({"group_size": 1}, "group_size=1.*greater than or equal to 2"),
    ({"micro_batch": 7}, "do not divide"),
    ({"updates_per_batch": 2, "steps": 3, "micro_batch": 64}, "must be multiples"),
    ({"learning_rate": 0.0}, "learning_rate=0.0.*greater than 0"),
    ({"report_to": "json"}, "it must be none or one of tensorboard, wandb"),
    ({"report_to": "wandb"}, "the package wandb is not installed"),
    ({"seed": 2**40}, "seed=1099511627776 is above 4294967295"),
    ({"student_hidden": 10**9}, "less than or equal to 8192"),
    ({"student_hidden": 20}, "multiple of 8"), ({"steps": 10**12}, "less than or equal to 1000000"),
    ({"group_size": 10**15}, "above 1000000000"),
    ({"start_run": "none", "student_source": "/no/such"}, "there is no such folder"),
    ({"method": "cold_start", "student_source": "~/no/such"}, "there is no such folder")])
def test_impossible_settings_are_refused(options, match):
    with pytest.raises(UserError, match=match):
        configure(TrainConfig, **options)


def test_the_stage_trains_saves_and_cleans_up(student, tmp_path):
    from mentor_kit.collection.collection import Collection
    from mentor_kit.core.records import Record

    validation = teacher_records(4, "validation")
    collection = Collection(tuple(Record(r.problem, r.trajectory) for r in RECORDS + validation))
    config = configure(TrainConfig, method="cold_start", student_hidden=32, student_layers=1,
                       cold_start_steps=3,
                       cold_start_batch=4, validate_every=2, validation_items=2, save_every=1,
                       max_new_tokens=64)
    run = new_run(tmp_path / "cold", "cold_start")
    lessons = stage.load_training_data(collection, config)
    assert any("habits" in r.trajectory.meta and r.trajectory.meta["habits"] for r in lessons.train)
    budget = stage.train(config, stage.make_student(config, lessons, None), lessons, run)
    assert (
        json.loads((run.dir / "budget.json").read_text()) == budget
        and budget["optimizer_steps"] == 3
    )
    assert (
        not (run.dir / "checkpoints").exists()
        and load_student(run.dir / "student").model.num_parameters() > 0
    )

    # killed between the training's end and the notebook's, and started again: twice
    metrics = run.metrics()
    for _ in range(2):
        run = new_run(tmp_path / "cold", "cold_start")
    assert not run.metrics()
    assert stage.train(config, stage.make_student(config, lessons, None), lessons, run) == budget
    assert run.metrics() == metrics and {m["step"] for m in metrics} == {1, 2, 3}


def test_no_accepted_item_is_named():
    from mentor_kit.collection.collection import Collection

    with pytest.raises(UserError, match="no accepted item in split 'train'"):
        stage.load_training_data(Collection(()), configure(TrainConfig))


def test_gdpo_trains_on_our_per_term_advantages(student, tmp_path, monkeypatch):
    """One real step: TRL's advantages are those of `per_term_advantages`; the logged reward is
    still the total."""
    from mentor_kit.rewards.advantages import per_term_advantages
    from mentor_kit.training import grpo as module

    trainers = []

    class Kept(module.SharedPromptTrainer):
        def __init__(self, **options):
            super().__init__(**options)
            trainers.append(self)

    monkeypatch.setattr(module, "SharedPromptTrainer", Kept)
    monkeypatch.setattr(module, "KitRollouts", scripted(RECORDS, varied))
    _, run, _ = grpo(student, tmp_path, steps=1, advantage="gdpo", max_new_tokens=256)
    rollouts = load_records(run.dir / "rollouts" / "step-000001.parquet")
    weights = {t.name: t.weight for t in load_reward("mentor").terms} | {"gate": 1.0}
    terms = np.array([[r.trajectory.meta["terms"].get(name, 0.0) for name in weights]
                      for r in rollouts])
    ours = per_term_advantages(terms.reshape(3, 4, -1), list(weights.values()))
    # the last is the gate
    assert all(len(set(column)) > 1 for column in terms.T[:-1]) and np.abs(ours).max() > 0.1
    assert np.ravel(ours) == pytest.approx(list(trainers[0]._logs["advantages"]), abs=2e-3)
    logged = next(m for m in run.metrics() if "reward" in m)
    assert logged["reward"] == pytest.approx(np.mean([r.trajectory.meta["reward"]
                                                      for r in rollouts]), abs=1e-6)
    assert {f"rewards/{name}/mean" for name in weights} <= logged.keys()


def test_an_interrupted_student_without_a_checkpoint_is_not_taken_for_its_start(student, tmp_path,
                                                                                monkeypatch):
    from mentor_kit.training import callback

    learner, run = clone(student), new_run(tmp_path)
    settings = TrainConfig(method="sft", sft_learning_rate=3.0e-3, save_every=4, steps=4,
                           sft_batch=4, validate_every=0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(callback.RunCallback, "on_step_begin", Crash.on_step_end)
        train_sft(learner, RECORDS, [], settings, run)
    with pytest.raises(UserError, match="interrupted before its first checkpoint"):
        train_sft(learner, RECORDS, [], settings, run)


@pytest.mark.parametrize(("text", "arguments", "match"), [
    ("name: tiny\nstages: {}\n", ["--run-dir", "there"], "--run-dir is for a file of parameters"),
    ("method: sft\n", ["--workers", "2", "--dry-run"], "--workers, --dry-run: for a study only"),
    ("metod: sft\n", [], "metod='sft': there is no such parameter"),
    ("method: mentor\n", ["--set", "save_every=3", "--set", "updates_per_batch=2"],
     "must be multiples"),
    ("method: sft\nteacher_run: nowhere\n", [], "no run at 'nowhere'")])
def test_the_train_command_refuses_in_one_line(tmp_path, monkeypatch, capsys, text, arguments,
                                               match):
    from mentor_kit.cli import app as cli

    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(text)
    monkeypatch.setattr("sys.argv", ["mentor-kit", "train", "my.yaml", *arguments])
    with pytest.raises(SystemExit):
        cli.app()
    assert match in capsys.readouterr().err and [p.name for p in tmp_path.iterdir()] == ["my.yaml"]


@pytest.mark.parametrize("method", ["sft", "mentor"])
def test_bfloat16_computes_and_the_weights_stay_float32(student, tmp_path, monkeypatch, method):
    """Rollouts (without gradients) and updates run in bfloat16; parameters and their optimizer's
    steps do not. Rollouts are scripted, so that groups differ on any CPU."""
    from mentor_kit.training import grpo as module

    monkeypatch.setattr(module, "KitRollouts", scripted(RECORDS, varied))
    learner, run, seen = clone(student), new_run(tmp_path), set()
    learner.model.lm_head.register_forward_hook(
        lambda module, given, scores: seen.add((torch.is_grad_enabled(), scores.dtype)))
    config = TrainConfig(**{**SMALL, "max_new_tokens": 256}, method=method, steps=1,
                         precision="bfloat16", sft_batch=6, sft_micro_batch=6, save_every=0)
    if not bfloat16_cpu():
        with pytest.raises(UserError, match="does not use AVX-512 on this CPU"):
            train_sft(learner, RECORDS[:6], [], config, run)
        return
    if method == "sft":
        train_sft(learner, RECORDS[:6], [], config, run)
        assert seen == {(True, torch.bfloat16)}
    else:
        train_grpo(learner, RECORDS[:6], [], load_reward("mentor"), config, run)
        assert {(True, torch.bfloat16), (False, torch.bfloat16)} <= seen
    assert {v.dtype for v in learner.model.state_dict().values()} == {torch.float32}
    assert not equal(weights(learner), weights(student))
