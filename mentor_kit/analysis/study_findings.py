"""The sentences under the figures and tables of notebook 05, and about a whole study."""

from __future__ import annotations

import pandas as pd

from mentor_kit.analysis.curves import seed_table, term_names
from mentor_kit.analysis.sentences import (
    Finding,
    counted,
    joined,
    listed,
    named,
    percent_text,
    seed_count,
    where,
)
from mentor_kit.analysis.style import focus, ordered
from mentor_kit.analysis.summaries import (
    IN_DOMAIN,
    LAST_SPLIT,
    count_arrays,
    metric_intervals,
    ordered_splits,
    refuse_empty,
    seed_scores,
    similarity_intervals,
)
from mentor_kit.analysis.verdicts import (
    CANNOT_TELL,
    NOT_SUPPORTED,
    SUPPORTED,
    compare,
    on_split,
    verdict,
)
from mentor_kit.errors import UserError
from mentor_kit.metrics.bootstrap import iqm, stratified_bootstrap
from mentor_kit.metrics.trajectories import UNKNOWN


def accuracy_by_split(items: pd.DataFrame) -> Finding:
    """The accuracy of every method on the first split (in domain where there is one), best first.

    Raises:
        UserError: no items.
    """
    refuse_empty(items)
    split = ordered_splits(items["split"])[0]
    items = items[items["split"] == split]
    rows = metric_intervals(items, "correct").sort_values("estimate", ascending=False,
                                                          kind="stable")
    told = {row["method"]: f"{named(row['method'], items)} {percent_text(row)}"
            for _, row in rows.iterrows()}
    return Finding(f"{where(split)}, of {counted(int(rows['n'].max()), 'item')} and with "
                   f"{seed_count(items)} a method, the judge calls right: {joined(told)}.")


def ablation_bars(items: pd.DataFrame, baseline: str = "") -> Finding:
    """Which of the other methods are more accurate than MENTOR (or another baseline, see
    `style.focus`) in domain, and which less.

    Raises:
        UserError: the baseline, or everything else, is missing.
    """
    items = on_split(items, IN_DOMAIN)
    baseline = focus(items["method"].unique(), baseline)
    others = [m for m in ordered(items["method"].unique()) if m != baseline]
    judged: dict[str, list[str]] = {SUPPORTED: [], NOT_SUPPORTED: [], CANNOT_TELL: []}
    for method in others:
        judged[verdict(compare(items, "correct", method, baseline))].append(named(method, items))
    words = {SUPPORTED: "more accurate", NOT_SUPPORTED: "less accurate", CANNOT_TELL: CANNOT_TELL}
    told = [f"{words[said]}: {listed(names)}" for said, names in judged.items() if names]
    n = counted(items["problem_id"].nunique(), "item")
    return Finding(f"Against {named(baseline, items)} in domain ({n}, {seed_count(items)} a "
                   f"method), {'; '.join(told)}.")


def training_curves(curves: pd.DataFrame) -> Finding:
    """Validation accuracy of every method at its last step, and how the tool-set match moved.

    Raises:
        UserError: no validation was logged.
    """
    told = {}
    for method in ordered(curves["method"].unique()):
        accuracy, match = (seed_table(curves, method, c) for c in ("val/accuracy", "val/set_match"))
        if not len(accuracy):
            continue
        text = f"{named(method, curves)} {100 * accuracy.iloc[-1].mean():.1f}%"
        if len(match) > 1:
            first, last = (100 * match.iloc[i].mean() for i in (0, -1))
            text += f" (tool-set match from {first:.0f}% to {last:.0f}%)"
        told[method] = text
    if not told:
        raise UserError("No validation accuracy in the training curves: run the training stage.")
    return Finding(f"Validation accuracy after step {curves['step'].max():.0f}, "
                   f"{seed_count(curves)} a method: {joined(told)}.")


def reward_terms(curves: pd.DataFrame) -> Finding:
    """Which reward term grew most in training, for each method: first against last fifth of the
    steps.

    Raises:
        UserError: no term was logged.
    """
    names, told = term_names(curves), {}
    for method in ordered(curves["method"].unique()):
        columns = [f"term/{n}" for n in names]
        steps = curves[curves["method"] == method].groupby("step")[columns].mean()
        steps = steps.dropna(how="all").fillna(0.0)
        if len(steps) < 2:
            continue
        fifth = max(1, len(steps) // 5)
        first, last = steps.iloc[:fifth].mean(), steps.iloc[-fifth:].mean()
        most = (last - first).abs().idxmax()
        told[method] = (f"{named(method, curves)} {last.sum():.2f} from {first.sum():.2f}, most "
                        f"of it by {most.removeprefix('term/').replace('_', ' ')} "
                        f"({last[most] - first[most]:+.2f})")
    if not told:
        raise UserError("No reward terms in the training curves: only RL methods log them.")
    return Finding("Mean training reward, last against first fifth of the steps, "
                   f"{seed_count(curves)} a method: {joined(told)}.")


def similarity_vs_accuracy(items: pd.DataFrame) -> Finding:
    """Whether the students most similar to the teacher are the most accurate ones, in domain.

    Raises:
        UserError: no item with a reference.
    """
    split = ordered_splits(items["split"])[0] if len(items) else IN_DOMAIN
    items = items[(items["split"] == split) & items["teacher_tools"].notna()]
    if items.empty:
        raise UserError("No evaluated item has a teacher reference.")
    x = similarity_intervals(items).set_index("method").drop(index="teacher", errors="ignore")
    y = metric_intervals(items, "correct").set_index("method").loc[x.index]
    similar, accurate = x["estimate"].idxmax(), y["estimate"].idxmax()
    row = x.loc[similar]
    text = (f"{where(split)} the student most similar to the teacher is {named(similar, items)} "
            f"(1 - JSD {row['estimate']:.2f} [{row['low']:.2f}, {row['high']:.2f}]) and the most "
            f"accurate is {named(accurate, items)} ({percent_text(y.loc[accurate])})")
    if len(x) >= 3 and x["estimate"].nunique() > 1 and y["estimate"].nunique() > 1:
        ranks = x["estimate"].rank().corr(y["estimate"].rank())
        text += f"; over {len(x)} methods the two rank with Spearman {ranks:+.2f}"
    return Finding(f"{text} ({counted(int(row['n']), 'item')}, {seed_count(items)} a method).")


def tool_usage(items: pd.DataFrame, method: str = "mentor") -> Finding:
    """The tool whose share of calls differs most between a method and the teacher, and the share of
    unknown names.

    Raises:
        UserError: the method has no item with a reference.
    """
    inside = items[items["split"] == IN_DOMAIN] if (items["split"] == IN_DOMAIN).any() else items
    inside = inside[inside["method"] == method].dropna(subset="teacher_tools")
    if inside.empty:
        raise UserError(f"No evaluated item of {method!r} has a teacher reference.")
    teacher, student, names = count_arrays(inside)
    p, q = (counts.sum(0) / max(counts.sum(), 1) for counts in (teacher, student))
    known = [i for i, name in enumerate(names) if name != UNKNOWN]
    most = max(known, key=lambda i: abs(p[i] - q[i]))
    name = named(method, items)
    return Finding(f"{name} differs most from the teacher in {names[most]}: {100 * q[most]:.1f}% "
                   f"of its calls, {100 * p[most]:.1f}% of the teacher's; "
                   f"{100 * q[names.index(UNKNOWN)]:.1f}% of its calls name no tool that exists "
                   f"({student.sum():,.0f} calls, {counted(len(teacher), 'item')}, "
                   f"{seed_count(inside)}).")


def seeds_summary(items: pd.DataFrame) -> Finding:
    """The interquartile mean of every method over seeds and splits, best first.

    Raises:
        UserError: a method has only one seed.
    """
    refuse_empty(items)
    kept = items[items["split"] != LAST_SPLIT]
    found = {m: stratified_bootstrap(seed_scores(kept, m), iqm)
             for m in ordered(items["method"].unique())}
    if None in found.values():
        raise UserError("Intervals over seeds need at least two seeds of every method.")
    best = sorted(found, key=lambda m: -found[m].estimate)
    told = {m: f"{named(m, items)} {found[m].estimate:.2f} [{found[m].low:.2f}, "
               f"{found[m].high:.2f}]" for m in best}
    return Finding(f"Interquartile mean of the accuracy over {seed_count(items)} and "
                   f"{len(ordered_splits(kept['split']))} splits: {joined(told)}.")


def budget_table(budgets: pd.DataFrame) -> Finding:
    """Optimizer steps and sampled tokens of every method.

    Raises:
        UserError: no training run stored a budget.
    """
    if budgets.empty:
        raise UserError("No budgets: training runs write them to budget.json.")
    names = [c for c in ("optimizer_steps", "sampled_tokens", "teacher_tokens", "teacher_forwards")
             if c in budgets]
    means = budgets.groupby("method")[names].mean()
    told = {}
    for method in ordered(means.index):
        used = [f"{mean:,.0f} {name.replace('_', ' ')}"
                for name, mean in means.loc[method].dropna().items()]
        told[method] = f"{named(method, budgets)} {', '.join(used)}"
    return Finding(f"Used in training, means over {seed_count(budgets)}: {joined(told)}.")
