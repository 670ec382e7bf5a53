"""The sentences under the figures of notebooks 01, 02 and 03: attempts, rewards, one run."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from mentor_kit.analysis.frame import run_frame
from mentor_kit.analysis.sentences import Finding, counted, joined
from mentor_kit.analysis.style import label
from mentor_kit.analysis.teacher_figures import ACCEPTED, Attempts, yield_frame
from mentor_kit.errors import UserError
from mentor_kit.runs.run import Run


def teacher_yield(attempts: Attempts) -> Finding:
    """How many of a teacher's attempts passed, and the commonest reason of rejection.

    Raises:
        UserError: no attempts.
    """
    outcomes = Counter(yield_frame(attempts)[0]["outcome"])
    total, passed = outcomes.total(), outcomes.pop(ACCEPTED, 0)
    text = f"{passed:,} of {counted(total, 'attempt')} ({passed / total:.1%}) passed the checks"
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
    return Finding(f"Distinct rewards of the same {counted(len(scores), 'rollout')}: "
                   f"{joined(told)}.")


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
