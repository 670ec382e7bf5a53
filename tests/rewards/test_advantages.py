"""Group-relative advantages against hand-computed numbers and TRL's own standard deviation."""

from __future__ import annotations

import numpy as np
import pytest

from mentor_kit.errors import UserError
from mentor_kit.rewards.advantages import group_advantages, per_term_advantages

PAPER_GROUPS = [[1.1, 0.8, 0.8, 0.8, 0.8], [1.0, 0.1, 0.1, 0.1, 0.1], [0.16, 0.1, 0.1, 0.1, 0.1]]


def test_normalising_erases_the_weights():
    # one of five stands out: mean + 0.8 d, std = d sqrt(0.2), so +0.8 / sqrt(0.2) = 1.7889 and
    # -0.4472, whatever d
    advantages = group_advantages(PAPER_GROUPS, epsilon=0.0)
    assert advantages == pytest.approx(np.tile([0.8 / 0.2**0.5] + 4 * [-0.2 / 0.2**0.5], (3, 1)))
    assert advantages.round(2)[:, :2].tolist() == [[1.79, -0.45]] * 3


def test_trl_adds_1e_4():
    # the third group: std = 0.06 sqrt(0.2) = 0.0268328; 0.048 / 0.0269328 = 1.782215
    assert group_advantages(PAPER_GROUPS)[2, 0] == pytest.approx(0.048 / (0.06 * 0.2**0.5 + 1e-4))
    assert group_advantages(PAPER_GROUPS)[2, 0] == pytest.approx(1.78222, abs=1e-5)


def test_without_std_the_size_stays():
    assert group_advantages(PAPER_GROUPS, scale=False)[:, 0] == pytest.approx([0.24, 0.72, 0.048])


def test_equal_rewards_give_no_advantage():
    residue = [[0.7 + 0.3 + 0.1, 1.1, 0.1 + 0.3 + 0.7, 0.8 + 0.3]]  # equal up to float residue
    assert np.abs(group_advantages(residue)).max() < 1e-10


def test_same_numbers_as_trl():
    torch = pytest.importorskip("torch")
    nanstd = pytest.importorskip("trl.trainer.utils").nanstd
    rewards = torch.tensor(PAPER_GROUPS, dtype=torch.float64)
    expected = (rewards - rewards.mean(1, keepdim=True)) / (nanstd(rewards, dim=1, keepdim=True)
                                                            + 1e-4)
    assert group_advantages(PAPER_GROUPS) == pytest.approx(expected.numpy(), abs=1e-12)


def test_per_term_by_hand():
    # two terms, two rollouts: each normalises to +-0.5/sqrt(0.5) = +-0.7071 in its group, whatever
    # its size
    terms = [[[1.0, 0.0], [0.0, 0.1]], [[1.0, 0.1], [0.0, 0.0]]]
    # sums: group 1: 0, 0; group 2: +1.41421, -1.41421; batch std = sqrt(4/3) = 1.154701 ->
    # +-1.224745
    assert per_term_advantages(terms, epsilon=0.0) == pytest.approx(
        np.array([[0.0, 0.0], [1.5**0.5, -(1.5**0.5)]]), abs=1e-12)
    # summed first, group 1 would favour rollout 1 by the larger term
    assert group_advantages(np.sum(terms, axis=-1))[0, 0] > 0.7


def test_per_term_weights_have_an_effect():
    terms = [[[1.0, 0.0], [0.0, 0.1]]]
    assert per_term_advantages(terms, [1.0, 0.2])[0, 0] > 0 > per_term_advantages(terms,
                                                                                  [0.2, 1.0])[0, 0]


@pytest.mark.parametrize("rewards", [[1.0, 2.0], [[1.0]], 3.0])
def test_groups_need_two_rollouts(rewards):
    with pytest.raises(UserError, match="two rollouts"):
        group_advantages(rewards)
