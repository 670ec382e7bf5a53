"""What a figure or table shows, as one plain sentence computed from the same results.

    from mentor_kit.analysis import findings
    findings.difference(results.main_items)
    In domain MENTOR minus Sparse RL is -7.5 points [-14.5, -0.5] over 200 items, 5 seeds. That it
    is better: not supported, Sparse RL is ahead.

A finding has the name and the arguments of the figure it stands under; `difference` and `answer`
stand under the table of differences, by the rules of `mentor_kit.analysis.verdicts`. It is a text,
and shows itself as a paragraph in Jupyter. A sentence says of how many items and seeds it speaks;
of more than five methods it names those of the main comparison and counts the others.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from mentor_kit.analysis.claims import answer
from mentor_kit.analysis.frame import Results
from mentor_kit.analysis.regime_findings import (
    data_scaling,
    groups_with_signal,
    quirk_dose,
    regime_map,
    sampled_and_greedy,
)
from mentor_kit.analysis.sentences import Finding
from mentor_kit.analysis.stage_findings import (
    reward_correlation,
    reward_distribution,
    run_curves,
    teacher_yield,
    tool_histogram,
)
from mentor_kit.analysis.study_findings import (
    ablation_bars,
    accuracy_by_split,
    budget_table,
    reward_terms,
    seeds_summary,
    similarity_vs_accuracy,
    tool_usage,
    training_curves,
)
from mentor_kit.analysis.summaries import refuse_empty
from mentor_kit.analysis.verdicts import difference
from mentor_kit.errors import UserError

__all__ = ["Finding", "ablation_bars", "accuracy_by_split", "answer", "budget_table",
           "data_scaling", "difference", "groups_with_signal", "quirk_dose", "regime_map",
           "reward_correlation", "reward_distribution", "reward_terms", "run_curves",
           "sampled_and_greedy", "seeds_summary", "similarity_vs_accuracy", "study_findings",
           "teacher_yield", "tool_histogram", "tool_usage", "training_curves"]

STUDY: dict[str, Callable[[Results], Finding]] = {
    "the claims": lambda r: answer(r.items),
    "accuracy by split": lambda r: accuracy_by_split(r.main_items),
    "ablation bars": lambda r: ablation_bars(r.main_items),
    "training curves": lambda r: training_curves(r.training),
    "reward terms": lambda r: reward_terms(r.training),
    "similarity vs accuracy": lambda r: similarity_vs_accuracy(r.main_items),
    "tool usage": lambda r: tool_usage(r.main_items),
    "regime map": lambda r: regime_map(r.items),
    "quirk dose": lambda r: quirk_dose(r.items),
    "data scaling": lambda r: data_scaling(r.items),
    "sampled and greedy": lambda r: sampled_and_greedy(r.items),
    "groups with signal": lambda r: groups_with_signal(r.curves),
    "seeds summary": lambda r: seeds_summary(r.main_items),
    "budgets": lambda r: budget_table(r.budgets),
}


def study_findings(results: Results) -> str:
    """All findings of a study as a Markdown list; what the results do not allow is left out.

    Raises:
        UserError: no evaluated items.
    """
    refuse_empty(results.items)
    lines = []
    for name, find in STUDY.items():
        with suppress(UserError):
            lines += [f"- {name}: {line}" for line in find(results).splitlines()]
    return "\n".join(lines) + "\n"
