"""One rollout through training, notebook, `score` and analysis; our advantages against those of a
real TRL step."""

from __future__ import annotations

import numpy as np
import pytest
from small_student import new_run, scripted, teacher_records, untrained, varied

from mentor_kit.analysis.frame import run_frame
from mentor_kit.cli.score import score_file
from mentor_kit.core.records import load_records
from mentor_kit.rewards import load_reward
from mentor_kit.rewards.advantages import group_advantages, per_term_advantages
from mentor_kit.rewards.diagnostics import score_frame
from mentor_kit.training import grpo
from mentor_kit.training.config import TrainConfig

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(12)


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    """A GRPO step on scripted rollouts, real but for these: its run, and what TRL's trainer
    logged."""
    run, trainers = new_run(tmp_path_factory.mktemp("run")), []

    class Kept(grpo.SharedPromptTrainer):
        def __init__(self, **options):
            super().__init__(**options)
            trainers.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpo, "SharedPromptTrainer", Kept)
        patch.setattr(grpo, "KitRollouts", scripted(RECORDS, varied))
        settings = TrainConfig(steps=1, prompts_per_step=6, group_size=4, micro_batch=24,
                               max_new_tokens=256,
                                validate_every=0, save_every=1)
        grpo.train_grpo(untrained(RECORDS), RECORDS, RECORDS[:2], load_reward("mentor"), settings,
                        run)
    return run, trainers[0]


def test_one_rollout_has_one_number_everywhere(step, tmp_path):
    run, trainer = step
    stored = run.dir / "rollouts" / "step-000001.parquet"
    rollouts = load_records(stored)
    trained_on = [r.trajectory.meta["reward"] for r in rollouts]  # what training stored
    # what TRL trained on
    assert list(trainer._logs["rewards"]["reward"]) == pytest.approx(trained_on, abs=1e-6)
    assert score_frame(rollouts, ["mentor"])["total"].tolist() == trained_on  # the notebook
    score_file("mentor", stored, tmp_path / "scored.parquet")  # the command line
    scored = load_records(tmp_path / "scored.parquet")
    assert [r.trajectory.meta["score"] for r in scored] == trained_on
    assert [r.trajectory.meta["terms"] for r in scored] == [r.trajectory.meta["terms"]
                                                            for r in rollouts]
    (logged,) = run_frame(run)["reward"].dropna()  # analysis reads the training log
    assert logged == pytest.approx(np.mean(trained_on), abs=1e-6)
    assert len(set(trained_on)) > 2


def test_advantages_are_those_trl_trained_with(step):
    run, trainer = step
    rewards = [r.trajectory.meta["reward"]
               for r in load_records(run.dir / "rollouts" / "step-000001.parquet")]
    expected = group_advantages(np.reshape(rewards, (6, 4)))
    assert np.abs(expected).max() > 0.1
    assert np.ravel(expected) == pytest.approx(list(trainer._logs["advantages"]), abs=2e-4)


def test_per_term_advantages_are_those_of_trl(tmp_path):
    """TRL's normalize_then_sum, one reward function a term, in a real step."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    terms = np.array([[1.0, 0.1, 0.0], [0.0, 0.1, 0.3], [0.7, 0.0, 0.3], [0.7, 0.1, 0.0],
                      [0.2, 0.1, 0.3], [0.0, 0.1, 0.3], [0.7, 0.0, 0.0], [0.7, 0.1, 0.06]])
    student = untrained(RECORDS)

    def column(k):
        def reward(completions, **_):
            return terms[:len(completions), k].tolist()
        reward.__name__ = f"term{k}"
        return reward

    arguments = GRPOConfig(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=8, num_generations=4,
        use_cpu=True,
        bf16=False, gradient_checkpointing=False, max_completion_length=4, report_to="none",
        disable_tqdm=True, save_strategy="no",
        reward_weights=[0.7, 0.1, 0.3], multi_objective_aggregation="normalize_then_sum")
    rows = Dataset.from_list([{"prompt": "What is 1 + 1?"}, {"prompt": "What is 2 + 2?"}])
    trainer = GRPOTrainer(model=student.model, processing_class=student.tokenizer, args=arguments,
                          train_dataset=rows,
                          reward_funcs=[column(k) for k in range(3)])
    trainer.train()
    ours = per_term_advantages(terms.reshape(2, 4, 3), [0.7, 0.1, 0.3])
    assert np.ravel(ours) == pytest.approx(list(trainer._logs["advantages"]), abs=1e-4)
