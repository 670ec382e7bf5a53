"""The picture of one group in notebook 03: numbers by hand, and the mask of its tokens."""

from __future__ import annotations

import numpy as np
import pytest
from small_student import by_heart, teacher_records

import mentor_kit as mk
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.preview import MASKED, WRITTEN, preview_group

pytestmark = pytest.mark.numeric
CONFIG = TrainConfig(group_size=4, micro_batch=4, prompts_per_step=1, max_new_tokens=120,
                     temperature=0.01)


def test_a_group_shows_rewards_advantages_and_the_mask():
    student, record = by_heart(), teacher_records(3)[0]
    group = preview_group(student, record, mk.load_reward("mentor"), CONFIG)
    table = group.table()
    assert list(table["reward"]) == [1.1] * 4 and np.allclose(table["advantage"], 0)
    assert table["tools"][0].split(", ") == list(record.trajectory.tool_names)
    for number, rollout in enumerate(group.rollouts):
        drawn = group.tokens_html(number)
        assert drawn.count(WRITTEN) == sum(rollout.written) == table["trained tokens"][number]
        assert drawn.count(MASKED) == rollout.written.count(0) > 0
        assert "".join(group.pieces[number]) == rollout.trajectory("").to_text()
    assert "masked from the loss" in group._repr_html_() and "reward" in str(group)


def test_advantages_are_those_of_the_group():
    student, record = by_heart(), teacher_records(3)[0]
    rewards = iter([1.0, 0.0, 0.0, 0.0])
    reward = mk.load_reward(lambda problem, reference, student: next(rewards))
    group = preview_group(student, record, reward, CONFIG)
    assert group.advantages.tolist() == pytest.approx([0.75 / 0.5001, *[-0.25 / 0.5001] * 3])
