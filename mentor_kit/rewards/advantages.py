"""Group-relative advantages in numpy. Those of rollouts are for pictures only: training uses
TRL's, which are the same. Those of turns are what training adds to them (`advantage="turn"`).

A group is the rollouts of one problem. Rewards are plain numbers; advantages are in standard
deviations of the group, except where the scaling is turned off.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mentor_kit.errors import UserError

EPSILON = 1e-4  # what TRL adds to the standard deviation


def group_advantages(rewards: ArrayLike, *, scale: bool = True,
                     epsilon: float = EPSILON) -> NDArray[np.float64]:
    """Advantage of each rollout over its group.

    Args:
        rewards: (groups, rollouts), at least two rollouts a group.
        scale: divide by the group's standard deviation (GRPO; TRL `scale_rewards="group"`); False
            subtracts the mean only (Dr. GRPO, arXiv 2503.20783; TRL `scale_rewards="none"`), so
            that advantages keep the reward's scale.
        epsilon: added to the standard deviation; TRL's 1e-4.

    Returns:
        (groups, rollouts). The standard deviation is the unbiased one (n - 1), as in TRL.

    Raises:
        UserError: not two-dimensional, or fewer than two rollouts a group.
    """
    rewards = np.asarray(rewards, dtype=float)
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise UserError(f"Rewards have shape {rewards.shape}; advantages need (groups, rollouts) "
                        "with two rollouts or more a group.")
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    if not scale:
        return centred
    deviation = rewards.std(axis=1, ddof=1, keepdims=True)
    return centred / (deviation + epsilon)


def per_term_advantages(terms: ArrayLike, weights: ArrayLike | None = None, *,
                        epsilon: float = EPSILON) -> NDArray[np.float64]:
    """GDPO (arXiv 2601.05242): normalise each term in its group, add them up, normalise over the
    batch.

    Summing first and normalising after erases the weights (see notebook 02); this keeps the terms
    apart. Equals TRL's `multi_objective_aggregation="normalize_then_sum"`.

    Args:
        terms: (groups, rollouts, terms).
        weights: (terms,), 1 each by default. Contributions of `Score.terms` are already weighted,
            and a constant factor disappears in the normalisation, so weights must be given here to
            have an effect.

    Returns:
        (groups, rollouts).
    """
    terms = np.asarray(terms, dtype=float)
    weights = np.ones(terms.shape[-1]) if weights is None else np.asarray(weights, dtype=float)
    each = [group_advantages(terms[..., k], epsilon=epsilon) for k in range(terms.shape[-1])]
    total = np.tensordot(np.stack(each, axis=-1), weights, axes=1)
    return (total - total.mean()) / (total.std(ddof=1) + epsilon)


def turn_advantages(credits: Sequence[Sequence[float]], *, discount: float = 1.0,
                    scale: bool = True, epsilon: float = EPSILON) -> list[NDArray[np.float64]]:
    """Advantage of each assistant turn over the turns of the same number in its group.

    A turn's return is its credit and, discounted, those of the turns after it. MatchTIR (arXiv
    2601.10712) adds this to the rollout's own advantage, for every token of the turn.

    Args:
        credits: of each rollout of one group the credit of each of its turns (see
            `mentor_kit.rewards.terms.turn_credits`); rollouts may have different numbers of turns.
        discount: of one turn, between 0 and 1.
        scale, epsilon: as in `group_advantages`.

    Returns:
        For each rollout an array (turns); 0 where no other rollout has a turn of this number.
    """
    most = max(map(len, credits), default=0)
    returns = np.full((len(credits), most + 1), np.nan)
    for row, of_turns in zip(returns, credits, strict=True):
        after = 0.0
        for turn in reversed(range(len(of_turns))):
            row[turn] = after = of_turns[turn] + discount * after
    advantages = np.zeros_like(returns)
    for turn in range(most):
        there = ~np.isnan(returns[:, turn])
        if there.sum() > 1:
            (advantages[there, turn],) = group_advantages([returns[there, turn]], scale=scale,
                                                          epsilon=epsilon)
    return [row[:len(of_turns)] for row, of_turns in zip(advantages, credits, strict=True)]
