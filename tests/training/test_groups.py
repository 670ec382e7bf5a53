"""Groups that hold more than the student's rollouts: teacher traces, replayed turns, flat groups,
turn advantages, rejection sampling. Rollouts are scripted; engine, rewards and loss are real."""

from __future__ import annotations

import math

import pytest
import torch
from small_student import by_heart, clone, new_run, teacher_records, untrained, varied

from mentor_kit.core.records import load_records
from mentor_kit.errors import UserError
from mentor_kit.rewards import load_reward
from mentor_kit.rewards.advantages import turn_advantages
from mentor_kit.rewards.context import RewardContext
from mentor_kit.rewards.terms import turn_credits
from mentor_kit.runs.parameters import configure
from mentor_kit.students import rollout
from mentor_kit.training import grpo
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.policy_loss import trace_term

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(12)
SETTINGS = {"method": "mentor", "steps": 2, "prompts_per_step": 3, "group_size": 4,
            "micro_batch": 12, "max_new_tokens": 256, "validate_every": 0, "save_every": 1,
            "temperature": 0.7}


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train on scripted rollouts; gives the run, its budget and each step's batch as TRL has it."""

    def trained(script=varied, student=None, **options):
        config = TrainConfig(**SETTINGS | options)
        ids: dict[tuple[str, int], list[int]] = {}

        def choose(student, rows, scores, sampling):
            for row in (r for r in rows if (r.problem.id, r.sample) not in ids):
                record = next(r for r in RECORDS if r.problem.id == row.problem.id)
                done = len(row.turns)  # of the teacher, where turns are replayed
                turns = script(record, row.sample % config.group_size, 0)[done:]
                text = "".join(t + "<|im_end|>" for t in turns)
                ids[row.problem.id, row.sample] = student.tokenizer(
                    text, add_special_tokens=False)["input_ids"]
            return [ids[r.problem.id, r.sample][sum(r.written)] for r in rows]

        monkeypatch.setattr(rollout, "_choose", choose)
        batches, usual = [], grpo.GRPOTrainer._prepare_inputs

        def kept(self, batch):
            found = usual(self, batch)
            batches.append(found)
            return found

        monkeypatch.setattr(grpo.GRPOTrainer, "_prepare_inputs", kept)
        run, student = new_run(tmp_path / str(len(options))), student or untrained(RECORDS)
        budget = grpo.train_grpo(student, RECORDS, RECORDS[:2], load_reward(config.reward_spec),
                                 config, run)
        return run, budget, batches

    return trained


def same(record, number, step=0):
    """The teacher's rollout, whoever asks: all rewards are equal."""
    return [turn.text for turn in record.trajectory.turns]


def wrong(record, number, step=0):
    return ["The answer is \\boxed{-77}."]


def first_is_flat(record, number, step=0):
    """Every third problem has a group without differences."""
    return (varied if RECORDS.index(record) % 3 else same)(record, number)


def row_key(prompt, ids, mask):
    return tuple(prompt.tolist()), tuple(ids[mask.bool()].tolist())


def steps(run):
    return [line for line in run.metrics() if "loss" in line]


# turn advantages

def test_turn_advantages_by_hand():
    credits = [[1.0, 0.5, 0.0], [0.0, 0.5], [1.0]]
    # returns with discount .5: 1 + .5 x .5 = 1.25, .5, 0 | 0 + .5 x .5 = .25, .5 | 1
    found = turn_advantages(credits, discount=0.5, scale=False)
    mean = (1.25 + 0.25 + 1) / 3
    assert found[0].tolist() == pytest.approx([1.25 - mean, 0.0, 0.0])
    assert found[1].tolist() == pytest.approx([0.25 - mean, 0.0])
    assert found[2].tolist() == pytest.approx([1 - mean])
    deviation = math.sqrt(((1.25 - mean)**2 + (0.25 - mean)**2 + (1 - mean)**2) / 2)
    scaled = turn_advantages(credits, discount=0.5)
    assert scaled[0][0] == pytest.approx((1.25 - mean) / (deviation + 1e-4))


def test_each_token_has_the_advantage_of_its_turn(train):
    """`turn` adds to TRL's advantage of a rollout the advantage of each turn, on written tokens
    only."""
    _, _, plain = train(steps=1)
    run, _, batches = train(steps=1, method="turn_credit", turn_discount=0.5)
    batch, of_rollouts = batches[0], plain[0]
    assert batch["advantages"].shape == batch["completion_ids"].shape
    stored = load_records(run.path("trajectories.parquet"))
    names = ("prompt_ids", "completion_ids", "completion_mask")
    by_ids = {row_key(*row): a for *row, a in zip(
        *(of_rollouts[n] for n in names), of_rollouts["advantages"], strict=True)}
    groups = [stored[n:n + 4] for n in range(0, 12, 4)]
    expected = []
    for group in groups:
        credits = [turn_credits(RewardContext(r.problem, r.reference, r.trajectory,
                                              executed_only=True)) for r in group]
        expected += turn_advantages(credits, discount=0.5)
    rows = {}
    for *row, written, found in zip(*(batch[n] for n in names), batch["tool_mask"],
                                    batch["advantages"], strict=True):
        key, mask = row_key(*row), row[-1]
        added = [round(a, 4) for a in
                 (found[(mask * written).bool()] - by_ids[key]).tolist()]
        rows[key] = list(dict.fromkeys(added))
    assert any(len(values) > 1 for values in rows.values())  # turns of one rollout differ
    found = {v for values in rows.values() for v in values}
    assert found <= {round(float(a), 4) for turns in expected for a in turns} | {0.0}


# dynamic sampling

def test_flat_groups_are_left_out_of_the_token_mean(train):
    run, budget, batches = train(first_is_flat, steps=1, drop_flat_groups="leave_out")
    (line,), batch = steps(run), batches[-1]
    flat = [not row["tool_mask"][row["completion_mask"].bool()].any()
            for row in ({n: v[i] for n, v in batch.items() if v.ndim} for i in range(12))]
    assert sum(flat) == 4 * round(3 * line["flat_groups"]) and 0 < sum(flat) < 12
    assert float(batch["num_items_in_batch"]) == float(
        (batch["tool_mask"] * batch["completion_mask"]).sum())
    assert budget["sampled_tokens"] == line["budget/sampled_tokens"]


def test_flat_groups_are_replaced_and_what_was_sampled_counts(train):
    _, plain, _ = train(first_is_flat, steps=1)
    run, budget, batches = train(first_is_flat, steps=1, drop_flat_groups="replace")
    (line,) = steps(run)
    assert 0 < line["flat_groups"] < 1 and line["frac_reward_zero_std"] == 0
    stored = load_records(run.path("trajectories.parquet"))
    assert len(stored) > 12 and len(stored) % 4 == 0
    assert budget["sampled_tokens"] == sum(r.trajectory.meta["tokens"] for r in stored)
    assert budget["sampled_tokens"] > plain["sampled_tokens"]
    assert batches[-1]["tool_mask"].any(1).all()


def test_where_every_group_is_flat_nothing_is_trained_on(train):
    student = untrained(RECORDS)
    before = {n: w.clone() for n, w in student.model.state_dict().items()}
    run, _, _ = train(wrong, student, steps=1, drop_flat_groups="replace", weight_decay=0.0)
    assert all(torch.equal(before[n], w) for n, w in student.model.state_dict().items())
    assert len(load_records(run.path("trajectories.parquet"))) == 12 * 4  # three rounds more


# rejection sampling

def test_rft_trains_on_right_rollouts_alone(train):
    """Its gradient is that of the mean negative log-likelihood of what was kept."""
    run, budget, batches = train(steps=1, method="rft", learning_rate=1e-9)
    (line,), batch = steps(run), batches[-1]
    assert line["kept_rollouts"] == 0.5  # the teacher's, and the one that invents a tool first
    mask = (batch["tool_mask"] * batch["completion_mask"]).bool()
    assert mask.any(1).sum() == 6
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    there = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    student = untrained(RECORDS)
    logits = student.model(ids, attention_mask=there,
                           position_ids=(there.cumsum(1) - 1).clamp(min=0)).logits / 0.7
    logprobs = logits[:, batch["prompt_ids"].shape[1] - 1:-1].log_softmax(-1)
    chosen = logprobs.gather(2, batch["completion_ids"][:, :, None])[..., 0]
    assert line["loss"] == pytest.approx(float(-chosen[mask].mean().detach()), abs=2e-4)
    assert budget["teacher_tokens"] == 0 and budget["sampled_tokens"] > 0


def test_rft_can_ask_for_the_teachers_tools(train):
    run, _, _ = train(steps=1, method="rft", kept="right_tools")
    assert steps(run)[0]["kept_rollouts"] == 0.25


def test_rounds_of_rft_share_their_rollouts(train):
    run, _, _ = train(steps=4, method="rft", num_iterations=2, save_every=2)
    assert [("kept_rollouts" in line) for line in steps(run)] == [True, False, True, False]


# teacher traces and replayed turns

def test_a_trace_by_hand():
    logprobs = torch.tensor([0.5, 0.1]).log().requires_grad_()
    term = trace_term(logprobs, torch.tensor([2.0, 2.0]), 0.1)
    assert term.tolist() == pytest.approx([-2 * 0.5 / 0.6, -2 * 0.1 / 0.2])
    term.sum().backward()
    # d/dlogp of p / (p + g) is g p / (p + g)^2: larger where the student is unsure
    assert logprobs.grad.tolist() == pytest.approx([-2 * 0.05 / 0.36, -2 * 0.01 / 0.04])


def test_mixed_holds_the_teachers_trace_in_each_group(train):
    student = untrained(RECORDS)
    run, budget, batches = train(wrong, student, steps=1, method="mixed", learning_rate=1e-2)
    batch, (line,) = batches[-1], steps(run)
    assert batch["by_teacher"].sum() == 3
    assert (batch["advantages"][batch["by_teacher"]] > 1).all()
    assert (batch["advantages"][~batch["by_teacher"]] < 0).all()
    written = (batch["tool_mask"] * batch["completion_mask"])[batch["by_teacher"]].sum()
    assert budget["teacher_tokens"] == line["budget/teacher_tokens"] == int(written)
    # what is stored and logged is the student's own
    stored = load_records(run.path("trajectories.parquet"))
    assert len(stored) == 9 and line["judge_accuracy"] == 0
    assert {r.trajectory.producer for r in stored} == {"student:test"}


def test_mixed_learns_the_trace(train):
    """Where the student never succeeds, only the trace can teach: its likelihood rises."""
    student = untrained(RECORDS)

    def likelihood():
        rows = [student.encode(r.problem.question, r.trajectory) for r in RECORDS[:4]]
        total = 0.0
        for row in rows:
            ids = torch.tensor([row["input_ids"]])
            with torch.no_grad():
                scores = student.model(ids).logits[0, :-1].log_softmax(-1)
            chosen = scores.gather(1, ids[0, 1:, None])[:, 0]
            total += float(chosen[torch.tensor(row["assistant_masks"][1:]).bool()].mean())
        return total / 4

    before = likelihood()
    train(wrong, student, steps=6, method="mixed", learning_rate=3e-3)
    assert likelihood() > before


def test_replayed_groups_go_on_from_the_teachers_turns(train):
    run, budget, batches = train(same, steps=1, method="mixed", replayed_groups=1.0)
    batch = batches[-1]
    assert "by_teacher" not in batch
    stored = load_records(run.path("trajectories.parquet"))
    by_group = [{r.trajectory.meta["replayed"] for r in stored[n:n + 4]} for n in (0, 4, 8)]
    assert all(len(found) == 1 and min(found) > 0 for found in by_group)
    for record in stored:
        assert record.trajectory.to_text() == record.reference.to_text()
        assert record.trajectory.meta["correct"]
    # the first turn is the teacher's, so it is not trained on, and it was not sampled
    assert (batch["tool_mask"][:, 0] == 0).all() and batch["tool_mask"].any(1).all()
    whole = sum(len(untrained(RECORDS).tokenizer(r.trajectory.to_text())["input_ids"])
                for r in stored)
    assert 0 < budget["sampled_tokens"] < whole


@pytest.mark.parametrize("options", [
    {"method": "mixed"}, {"method": "turn_credit"}, {"drop_flat_groups": "replace"},
    {"method": "rft", "num_iterations": 2, "save_every": 2, "steps": 4},
    {"method": "mixed", "replayed_groups": 0.5}], ids=str)
def test_resume_is_exact(tmp_path, options):
    config = TrainConfig(**SETTINGS | {"steps": 4, "save_every": 2, "max_new_tokens": 24} | options)

    def train(folder, steps):
        learner, run = untrained(RECORDS), new_run(folder)
        grpo.train_grpo(learner, RECORDS, RECORDS[:2], load_reward("mentor"),
                        config.model_copy(update={"steps": steps}), run)
        return learner.model.state_dict(), run.metrics()

    weights, metrics = train(tmp_path / "whole", 4)
    train(tmp_path / "again", 2)
    again, other = train(tmp_path / "again", 4)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert metrics == other


@pytest.mark.parametrize("asked", [
    {"teacher_traces": 1}, {"replayed_groups": 0.5}, {"drop_flat_groups": "leave_out"},
    {"advantage": "turn"}])
@pytest.mark.parametrize("option", [{"student_backend": "unsloth"}, {"rollout_engine": "trl"},
                                    {"num_processes": 2}])
def test_what_cannot_make_groups_is_refused_by_name(asked, option):
    with pytest.raises(UserError, match=next(iter(option))):
        configure(TrainConfig, micro_batch=16, **asked, **option)


def test_a_group_of_traces_alone_is_refused():
    with pytest.raises(UserError, match="no rollout of the student"):
        configure(TrainConfig, teacher_traces=8)


def test_the_usual_group_is_unchanged(tmp_path):
    """A share of replayed groups that never comes: weights and metrics are those without it."""
    student, found = by_heart(), []
    for share in (0.0, 1e-12):
        learner, run = clone(student), new_run(tmp_path / str(share))
        config = TrainConfig(**SETTINGS | {"max_new_tokens": 48, "replayed_groups": share})
        grpo.train_grpo(learner, RECORDS, RECORDS[:2], load_reward("mentor"), config, run)
        found.append((run.metrics(), learner.model.state_dict()))
    (metrics, weights), (others, again) = found
    assert metrics == others
    assert all(torch.equal(weights[name], again[name]) for name in weights)
