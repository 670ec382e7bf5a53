"""What a figure or table shows, as one plain sentence computed from the same results.

    from mentor_kit.analysis import findings
    findings.difference(results.main_items)
    In domain MENTOR minus Sparse RL is -7.5 points [-14.5, -0.5] over 200 items, one seed: not
    supported, Sparse RL is ahead.

A finding has the name and the arguments of the figure it stands under; `difference` and `answer`
stand under the table of differences. It is a text, and shows itself as a paragraph in Jupyter.

The wording rules:

- A claim says that one method is better than another: more accurate, or (unknown-tool rate) lower.
- `supported`: the whole 95% interval is on the claim's side of 0, and so is every seed.
- `not supported`: the whole interval and every seed are on the other side. The sentence names the
  method that is ahead.
- `cannot be told`: the interval holds 0, the seeds disagree, or a method or its items are missing.
  The sentence says which.
- Of more than five methods a list names those of the main comparison and counts the others.
- An interval is over items; with one seed it speaks of these two trained students, not of the
  methods. The sentence says the number of items and of seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import pandas as pd

from mentor_kit.analysis.curves import seed_table, term_names
from mentor_kit.analysis.frame import SIZE, Results, run_frame
from mentor_kit.analysis.style import (
    EXPECTED,
    escape_html,
    focus,
    label,
    ordered,
    split_label,
)
from mentor_kit.analysis.summaries import (
    IN_DOMAIN,
    LAST_SPLIT,
    OUT_OF_DOMAIN,
    count_arrays,
    in_and_out,
    metric_intervals,
    ordered_splits,
    paired_difference,
    per_item,
    refuse_empty,
    seed_scores,
    similarity_intervals,
)
from mentor_kit.analysis.tables import points
from mentor_kit.analysis.teacher_figures import ACCEPTED, Attempts, yield_frame
from mentor_kit.errors import UserError
from mentor_kit.metrics.bootstrap import Interval, iqm, stratified_bootstrap
from mentor_kit.metrics.trajectories import UNKNOWN
from mentor_kit.runs.run import Run

SUPPORTED, NOT_SUPPORTED, CANNOT_TELL = "supported", "not supported", "cannot be told"
MANY = 5  # methods that one sentence names
LOWER_IS_BETTER = ("unknown_tool",)
METRICS = {"correct": "", "set_match": " in tool-set match",
           "unknown_tool": " in unknown-tool rate"}


class Finding(str):
    """A sentence (or a few lines). Shows itself as a paragraph a line in Jupyter."""

    def _repr_html_(self) -> str:
        return "".join(f"<p>{escape_html(line)}</p>" for line in self.splitlines())


class Comparison(NamedTuple):
    """Two methods on the items both have: the difference, of how many items, and of each seed."""

    difference: Interval | None
    items: int = 0
    by_seed: tuple[float, ...] = ()


def compare(items: pd.DataFrame, column: str, method: str, baseline: str) -> Comparison:
    """`method` minus `baseline` in a metric. Seeds are compared where both methods have them."""
    items = items[items["method"].isin([method, baseline])]
    found = paired_difference(items, column, method, baseline)
    if found is None:
        return Comparison(None)
    tables = [per_item(group, column).dropna() for _, group in items.groupby("seed")]
    by_seed = [float((t[method] - t[baseline]).mean())
               for t in tables if t.shape[1] == 2 and len(t)]
    return Comparison(found, len(per_item(items, column).dropna()), tuple(by_seed))


def verdict(found: Comparison, lower_is_better: bool = False) -> str:
    """Whether the claim that the first method is better is supported, by the rules on top."""
    if found.difference is None:
        return CANNOT_TELL
    sign = -1 if lower_is_better else 1
    ends = [sign * round(v, 9)
            for v in (found.difference.low, found.difference.high, *found.by_seed)]
    if min(ends) > 0:
        return SUPPORTED
    return NOT_SUPPORTED if max(ends) < 0 else CANNOT_TELL


def difference(items: pd.DataFrame, method: str = "mentor", baseline: str = "sparse",
               split: str = IN_DOMAIN, column: str = "correct") -> Finding:
    """One method minus another on one split, with interval, items, seeds and verdict.

    Args:
        items: `Results.main_items`.
        split: a split, or `out_of_domain` for all shifted ones together.
        column: `correct`, `set_match` or `unknown_tool` (there lower is better).
    """
    items = _on(items, split)
    found = compare(items, column, method, baseline)
    where, names = _where(split), (_name(method, items), _name(baseline, items))
    if found.difference is None:
        return Finding(f"{where} {names[0]} against {names[1]}{METRICS[column]}: {CANNOT_TELL}, "
                       f"{_missing(items, method, baseline)}.")
    return Finding(f"{where} {names[0]} minus {names[1]}{METRICS[column]} is "
                   f"{_points(found.difference)} over {_count(found.items, 'item')}, "
                   f"{_seeds(items, method, baseline)}: "
                   f"{_judged(found, names, column in LOWER_IS_BETTER)}.")


def answer(items: pd.DataFrame) -> Finding:
    """The answer to notebook 05's question, a line a claim: MENTOR over sparse, and each of them
    over imitation, in and out of domain."""
    refuse_empty(items)
    lines = []
    for method, baseline in (("mentor", "sparse"), ("mentor", "sft"), ("sparse", "sft")):
        told = [_claim(items, method, baseline, split) for split in (IN_DOMAIN, OUT_OF_DOMAIN)]
        lines.append(f"{label(method)} is more accurate than {label(baseline)}: "
                     f"{'; '.join(told)}.")
    return Finding("\n".join(lines))


def _claim(items: pd.DataFrame, method: str, baseline: str, split: str) -> str:
    items, where = _on(items, split), split_label(split)
    found = compare(items, "correct", method, baseline)
    if found.difference is None:
        return f"{where} {CANNOT_TELL} ({_missing(items, method, baseline)})"
    judged = _judged(found, (label(method), label(baseline)))
    return (f"{where} {judged} ({_points(found.difference)}, {_count(found.items, 'item')}, "
            f"{_seeds(items, method, baseline)})")


def _judged(found: Comparison, names: tuple[str, str], lower_is_better: bool = False) -> str:
    """The verdict with its reason."""
    said = verdict(found, lower_is_better)
    if said == NOT_SUPPORTED:
        return f"{said}, {names[1]} is {'lower' if lower_is_better else 'ahead'}"
    if said == SUPPORTED:
        return said
    if found.difference.low <= 0 <= found.difference.high:
        return f"{said}, the interval holds 0"
    above = sum(d > 0 for d in found.by_seed)
    return f"{said}, the difference is above 0 in {above} of {len(found.by_seed)} seeds"


def _on(items: pd.DataFrame, split: str) -> pd.DataFrame:
    items = in_and_out(items) if split == OUT_OF_DOMAIN else items
    return items[items["split"] == split]


def _missing(items: pd.DataFrame, *methods: str) -> str:
    absent = [label(m) for m in methods if m not in set(items["method"])]
    return f"no items of {' and '.join(absent)}" if absent else "no item that both answered"


def _where(split: str) -> str:
    words = split_label(split)
    return words.capitalize() if split in (IN_DOMAIN, OUT_OF_DOMAIN) else f"On {words}"


def _name(method: str, items: pd.DataFrame) -> str:
    return label(method, items["method"].unique())


def _points(found: Interval) -> str:
    return points(found).replace(" ", " points ", 1)


def _percent(row: pd.Series) -> str:
    """`79.3% [73.5, 84.0]`."""
    low, high = (f"{100 * row[bound]:.1f}" for bound in ("low", "high"))
    return f"{100 * row['estimate']:.1f}% [{low}, {high}]"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _seeds(frame: pd.DataFrame, *methods: str) -> str:
    """`one seed`, `5 seeds`, `1 to 5 seeds`: of the named methods, or of all."""
    frame = frame[frame["method"].isin(methods)] if methods else frame
    counts = frame.groupby("method")["seed"].nunique()
    low, high = counts.min(), counts.max()
    if low != high:
        return f"{low} to {high} seeds"
    return "one seed" if low == 1 else f"{low} seeds"


def _told(by_method: dict[str, str]) -> str:
    """The text of each method; of many only those of the main comparison, and how many others."""
    if len(by_method) <= MANY:
        return "; ".join(by_method.values())
    told = [text for method, text in by_method.items() if method in EXPECTED]
    told = told or list(by_method.values())[:MANY]
    return "; ".join(told) + f" (and {_count(len(by_method) - len(told), 'other method')})"


def _list(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


# Under the figures of notebook 05 --------------------------------------------------------------


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
    told = {row["method"]: f"{_name(row['method'], items)} {_percent(row)}"
            for _, row in rows.iterrows()}
    return Finding(f"{_where(split)}, of {_count(int(rows['n'].max()), 'item')} and with "
                   f"{_seeds(items)} a method, the judge calls right: {_told(told)}.")


def ablation_bars(items: pd.DataFrame, baseline: str = "") -> Finding:
    """Which of the other methods are more accurate than MENTOR (or another baseline, see
    `style.focus`) in domain, and which less.

    Raises:
        UserError: the baseline, or everything else, is missing.
    """
    items = _on(items, IN_DOMAIN)
    baseline = focus(items["method"].unique(), baseline)
    others = [m for m in ordered(items["method"].unique()) if m != baseline]
    judged: dict[str, list[str]] = {SUPPORTED: [], NOT_SUPPORTED: [], CANNOT_TELL: []}
    for method in others:
        judged[verdict(compare(items, "correct", method, baseline))].append(_name(method, items))
    words = {SUPPORTED: "more accurate", NOT_SUPPORTED: "less accurate", CANNOT_TELL: CANNOT_TELL}
    told = [f"{words[said]}: {_list(names)}" for said, names in judged.items() if names]
    return Finding(f"Against {_name(baseline, items)} in domain "
                   f"({_count(items['problem_id'].nunique(), 'item')}, {_seeds(items)} a method), "
                   f"{'; '.join(told)}.")


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
        text = f"{_name(method, curves)} {100 * accuracy.iloc[-1].mean():.1f}%"
        if len(match) > 1:
            first, last = (100 * match.iloc[i].mean() for i in (0, -1))
            text += f" (tool-set match from {first:.0f}% to {last:.0f}%)"
        told[method] = text
    if not told:
        raise UserError("No validation accuracy in the training curves: run the training stage.")
    return Finding(f"Validation accuracy after step {curves['step'].max():.0f}, {_seeds(curves)} "
                   f"a method: {_told(told)}.")


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
        told[method] = (f"{_name(method, curves)} {last.sum():.2f} from {first.sum():.2f}, most "
                        f"of it by {most.removeprefix('term/').replace('_', ' ')} "
                        f"({last[most] - first[most]:+.2f})")
    if not told:
        raise UserError("No reward terms in the training curves: only RL methods log them.")
    return Finding("Mean training reward, last against first fifth of the steps, "
                   f"{_seeds(curves)} a method: {_told(told)}.")


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
    text = (f"{_where(split)} the student most similar to the teacher is {_name(similar, items)} "
            f"(1 - JSD {row['estimate']:.2f} [{row['low']:.2f}, {row['high']:.2f}]) and the most "
            f"accurate is {_name(accurate, items)} ({_percent(y.loc[accurate])})")
    if len(x) >= 3 and x["estimate"].nunique() > 1 and y["estimate"].nunique() > 1:
        ranks = x["estimate"].rank().corr(y["estimate"].rank())
        text += f"; over {len(x)} methods the two rank with Spearman {ranks:+.2f}"
    return Finding(f"{text} ({_count(int(row['n']), 'item')}, {_seeds(items)} a method).")


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
    name = _name(method, items)
    return Finding(f"{name} differs most from the teacher in {names[most]}: {100 * q[most]:.1f}% "
                   f"of its calls, {100 * p[most]:.1f}% of the teacher's; "
                   f"{100 * q[names.index(UNKNOWN)]:.1f}% of its calls name no tool that exists "
                   f"({student.sum():,.0f} calls, {_count(len(teacher), 'item')}, "
                   f"{_seeds(inside)}).")


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
    told = {m: f"{_name(m, items)} {found[m].estimate:.2f} [{found[m].low:.2f}, "
               f"{found[m].high:.2f}]" for m in best}
    return Finding(f"Interquartile mean of the accuracy over {_seeds(items)} and "
                   f"{len(ordered_splits(kept['split']))} splits: {_told(told)}.")


def data_scaling(items: pd.DataFrame) -> Finding:
    """In-domain accuracy at the smallest and at the largest number of training references.

    Raises:
        UserError: no method was trained on two sizes.
    """
    inside, told = _on(items, IN_DOMAIN), []
    for method in ordered(inside["method"].unique()):
        rows = inside[inside["method"] == method]
        sizes = sorted(rows[SIZE].dropna().unique())
        if len(sizes) < 2:
            continue
        first, last = (_percent(metric_intervals(rows[rows[SIZE] == size], "correct").iloc[0])
                       for size in (sizes[0], sizes[-1]))
        told.append(f"{_name(method, items)} from {first} with {sizes[0]:g} references to {last} "
                    f"with {sizes[-1]:g}")
    if not told:
        raise UserError(f"Data scaling needs two values of {SIZE!r} of one method.")
    return Finding(f"In domain ({_count(inside['problem_id'].nunique(), 'item')}, "
                   f"{_seeds(inside)} a method), {'; '.join(told)}.")


def budget_table(budgets: pd.DataFrame) -> Finding:
    """Optimizer steps and sampled tokens of every method.

    Raises:
        UserError: no training run stored a budget.
    """
    if budgets.empty:
        raise UserError("No budgets: training runs write them to budget.json.")
    names = [c for c in ("optimizer_steps", "sampled_tokens", "teacher_tokens") if c in budgets]
    means = budgets.groupby("method")[names].mean()
    told = {}
    for method in ordered(means.index):
        used = [f"{mean:,.0f} {name.replace('_', ' ')}"
                for name, mean in means.loc[method].dropna().items()]
        told[method] = f"{_name(method, budgets)} {', '.join(used)}"
    return Finding(f"Used in training, means over {_seeds(budgets)}: {_told(told)}.")


STUDY: dict[str, Callable[[Results], Finding]] = {
    "the question": lambda r: answer(r.main_items),
    "accuracy by split": lambda r: accuracy_by_split(r.main_items),
    "ablation bars": lambda r: ablation_bars(r.main_items),
    "training curves": lambda r: training_curves(r.training),
    "reward terms": lambda r: reward_terms(r.training),
    "similarity vs accuracy": lambda r: similarity_vs_accuracy(r.main_items),
    "tool usage": lambda r: tool_usage(r.main_items),
    "data scaling": lambda r: data_scaling(r.items),
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


# Under the figures of notebooks 01, 02 and 03 --------------------------------------------------


def teacher_yield(attempts: Attempts) -> Finding:
    """How many of a teacher's attempts passed, and the commonest reason of rejection.

    Raises:
        UserError: no attempts.
    """
    outcomes = Counter(yield_frame(attempts)[0]["outcome"])
    total, passed = outcomes.total(), outcomes.pop(ACCEPTED, 0)
    text = f"{passed:,} of {_count(total, 'attempt')} ({passed / total:.1%}) passed the checks"
    if not outcomes:
        return Finding(f"{text}; none was rejected.")
    reason, count = min(outcomes.items(), key=lambda pair: (-pair[1], pair[0]))
    return Finding(f"{text}; the commonest reason of rejection is {reason.replace('_', ' ')} "
                   f"({count:,} of {total - passed:,}).")


def tool_histogram(attempts: Attempts) -> Finding:
    """Calls a trajectory and the commonest tool of the accepted attempts."""
    used = [t.tool_names for _, ok, _, t in attempts if ok and t is not None]
    if not used:
        return Finding("No attempt was accepted, so there is no reference to learn tools from.")
    counts = Counter(name for names in used for name in names)
    if not counts:
        return Finding("No accepted trajectory calls a tool.")
    name, most = min(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    total = counts.total()
    return Finding(f"An accepted trajectory makes {total / len(used):.2f} calls on average; "
                   f"{len(counts)} tools are used, {name} most ({most / total:.1%} of {total:,} "
                   "calls).")


def reward_distribution(scores: pd.DataFrame) -> Finding:
    """How many distinct rewards each preset gives the same rollouts (rows rollouts, columns
    presets)."""
    told = {c: f"{label(c, scores.columns)} {scores[c].round(6).nunique()} (mean "
               f"{scores[c].mean():.2f})" for c in scores.columns}
    return Finding(f"Distinct rewards of the same {_count(len(scores), 'rollout')}: "
                   f"{_told(told)}.")


def reward_correlation(correlations: pd.Series) -> Finding:
    """The presets whose reward agrees most and least with the judge."""
    known = correlations.dropna().sort_values(ascending=False, kind="stable")
    if known.empty:
        return Finding("No correlation is defined: the rewards, or the verdicts, never vary.")
    first, last = (label(known.index[i], correlations.index) for i in (0, -1))
    text = f"{first} agrees most with the judge (correlation {known.iloc[0]:.2f})"
    return Finding(text + (f", {last} least ({known.iloc[-1]:.2f})." if len(known) > 1 else "."))


def run_curves(run: Run) -> Finding:
    """Validation accuracy, tool-set match and unknown-tool rate of one run, first and last; of a
    run without validation its loss.

    Raises:
        UserError: the run logged nothing.
    """
    curves, told = run_frame(run), []
    for column, words in (("val/accuracy", "validation accuracy"),
                          ("val/set_match", "tool-set match"),
                          ("val/unknown_tool", "unknown-tool rate")):
        ends = _ends(curves, column)
        if ends:
            told.append(f"{words} from {100 * ends[0]:.1f}% to {100 * ends[1]:.1f}%")
    loss = _ends(curves, "loss")
    if not told and loss:
        told = [f"loss from {loss[0]:.2f} to {loss[1]:.2f}, not validated"]
    if not told:
        raise UserError(f"The run {str(run)!r} has logged nothing: train it first.")
    return Finding(f"{label(str(curves['method'].iloc[0]))}, seed {curves['seed'].iloc[0]}, after "
                   f"step {curves['step'].max():.0f}: {', '.join(told)} (one run).")


def _ends(curves: pd.DataFrame, column: str) -> tuple[float, float] | None:
    """First and last logged value of a column; None where nothing was."""
    values = curves[column].dropna() if column in curves else ()
    return (values.iloc[0], values.iloc[-1]) if len(values) else None
