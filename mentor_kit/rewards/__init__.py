"""Rewards: named terms over (problem, reference, student), weighed by a preset. No torch.

    load_reward("mentor")(problem, reference, student)  ->  Score(total, terms)
"""

from mentor_kit.rewards.reward import (
    PRESETS,
    Reward,
    Score,
    Term,
    formula,
    load_reward,
    presets_table,
    reference_from_names,
)

__all__ = ["PRESETS", "Reward", "Score", "Term", "formula", "load_reward", "presets_table",
           "reference_from_names"]
