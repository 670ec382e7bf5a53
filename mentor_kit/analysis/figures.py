"""All figures, by name: each is a pure function that returns a Picture, i.e. (figure, caption).

    from mentor_kit.analysis import figures
    figures.show(figures.training_curves(results.training), run, "training_curves")

`STUDY_FIGURES` are those that `mentor_kit.analysis.report` makes from a study's results.
"""

from __future__ import annotations

from collections.abc import Callable

from mentor_kit.analysis.comparisons import ablation_bars, accuracy_by_split, seeds_summary
from mentor_kit.analysis.curves import reward_terms, run_curves, training_curves
from mentor_kit.analysis.frame import Results
from mentor_kit.analysis.regimes import (
    data_scaling,
    groups_with_signal,
    quirk_dose,
    regime_map,
    sampled_and_greedy,
)
from mentor_kit.analysis.reward_figures import (
    advantage_bars,
    advantage_by_calls,
    reward_correlation,
    reward_distribution,
    reward_heatmap,
)
from mentor_kit.analysis.similarity import similarity_vs_accuracy, tool_usage
from mentor_kit.analysis.style import Picture, savefig, show
from mentor_kit.analysis.teacher_figures import (
    pass_rate,
    teacher_yield,
    tool_histogram,
    tool_transitions,
    turns_histogram,
)

__all__ = [
    "STUDY_FIGURES",
    "Picture",
    "ablation_bars",
    "accuracy_by_split",
    "advantage_bars",
    "advantage_by_calls",
    "data_scaling",
    "groups_with_signal",
    "pass_rate",
    "quirk_dose",
    "regime_map",
    "reward_correlation",
    "reward_distribution",
    "reward_heatmap",
    "reward_terms",
    "run_curves",
    "sampled_and_greedy",
    "savefig",
    "seeds_summary",
    "show",
    "similarity_vs_accuracy",
    "teacher_yield",
    "tool_histogram",
    "tool_transitions",
    "tool_usage",
    "training_curves",
    "turns_histogram",
]

STUDY_FIGURES: dict[str, Callable[[Results], Picture]] = {
    "training_curves": lambda r: training_curves(r.training),
    "accuracy_by_split": lambda r: accuracy_by_split(r.main_items),
    "similarity_vs_accuracy": lambda r: similarity_vs_accuracy(r.main_items),
    "tool_usage": lambda r: tool_usage(r.main_items),
    "reward_terms": lambda r: reward_terms(r.training),
    "ablation_bars": lambda r: ablation_bars(r.main_items),
    "regime_map": lambda r: regime_map(r.items),
    "quirk_dose": lambda r: quirk_dose(r.items),
    "data_scaling": lambda r: data_scaling(r.items),
    "sampled_and_greedy": lambda r: sampled_and_greedy(r.items),
    "groups_with_signal": lambda r: groups_with_signal(r.curves),
    "seeds_summary": lambda r: seeds_summary(r.main_items),
}
