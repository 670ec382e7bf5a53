"""Tables of judged records with intervals, for notebook 04 and the command line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mentor_kit.analysis.sentences import Finding
from mentor_kit.analysis.style import split_label
from mentor_kit.core.records import Record
from mentor_kit.core.trajectory import FAILURES
from mentor_kit.metrics.bootstrap import rate_interval
from mentor_kit.metrics.samples import sample_metrics
from mentor_kit.metrics.trajectories import by_problem, by_split, summarise

COUNTS = {"n_calls": "calls", "n_failed": "failed calls", "n_unknown": "unknown tools",
          "n_malformed": "malformed", "turns": "turns", "tokens": "tokens"}


def interval_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row a split: items, accuracy in percent with its 95% interval over items, a scorer's
    further numbers (percent), failures by kind (of all answers) and the means of calls, turns and
    tokens.

    The interval is a bootstrap's, and Wilson's where every item is alike. With k samples an item
    counts with its mean@k; pass@k and maj@k stand beside it. Where the teacher was asked the items,
    `teacher %` is its accuracy by the same judge, and `accepted %` how many of the items have an
    accepted attempt: fewer, because an attempt with a right answer is not a reference if its calls
    should not be learnt.
    """
    rows = {split: _row(group) for split, group in by_split(records).items()}
    return pd.DataFrame.from_dict(rows, orient="index").dropna(axis=1, how="all")


def _row(records: Sequence[Record]) -> dict[str, float]:
    right = [np.mean([r.trajectory.meta["correct"] for r in group])
             for group in by_problem(records).values()]
    estimate, low, high = rate_interval(np.array(right))
    summary, samples = summarise(records), sample_metrics(records)
    row = {"items": len(right), "answers": len(records), "accuracy %": _percent(estimate),
           "low": _percent(low), "high": _percent(high)}
    if samples["k"] > 1:
        row[f"pass@{samples['k']} %"] = _percent(samples["pass_at_k"])
        row[f"maj@{samples['k']} %"] = _percent(samples["maj_at_k"])
    row |= _teacher(records)
    for name, value in summary.items():
        if name.startswith("score/"):
            column = f"{name.removeprefix('score/')} %"
            # a scorer's number never takes the place of ours, whatever its name
            row[f"score {column}" if column in row else column] = _percent(value)
    for kind in FAILURES:
        row[kind] = round(summary.get(f"failure/{kind}", 0) * len(records))
    row["boxed %"] = _percent(summary["boxed"])
    return row | {shown: round(summary[name], 2) for name, shown in COUNTS.items()}


def _percent(rate: float) -> float:
    return round(100 * float(rate), 1)


def _teacher(records: Sequence[Record]) -> dict[str, float]:
    """The teacher's accuracy and its share of accepted attempts; of a teacher's own records, the
    share alone."""
    metas = [r.trajectory.meta for r in records]
    if all("accepted" in m for m in metas):
        return {"accepted %": _percent(np.mean([m["accepted"] for m in metas]))}
    if not all("teacher_correct" in m for m in metas):
        return {}
    return {"teacher %": _percent(np.mean([m["teacher_correct"] for m in metas])),
            "accepted %": _percent(np.mean([r.reference is not None for r in records]))}


def failures(records: Sequence[Record], kind: str = "", split: str = "") -> list[Record]:
    """The records that are wrong; of one kind (a failure's name, or `wrong_answer`) and split where
    named."""
    wrong = [r for r in records if not r.trajectory.meta["correct"]
             and split in ("", r.problem.split)]
    return [r for r in wrong if kind in ("", r.trajectory.meta["failure"] or "wrong_answer")]


def failure_counts(records: Sequence[Record]) -> pd.DataFrame:
    """Wrong answers by split and kind: length, max_turns, error, no_answer, wrong_answer."""
    kinds = (*FAILURES, "wrong_answer")
    return pd.DataFrame({split: {k: len(failures(group, k)) for k in kinds}
                         for split, group in by_split(records).items()}).T


def failure_examples(records: Sequence[Record]) -> list[Record]:
    """The first record of each kind of failure."""
    kinds = failure_counts(records).sum()
    return [failures(records, kind)[0] for kind in kinds.index if kinds[kind]]


def accuracy_finding(records: Sequence[Record]) -> Finding:
    """How often the judge calls the answers right, by split, with 95% intervals over items."""
    told = []
    for split, row in interval_table(records).iterrows():
        bounds = f"[{row['low']:.1f}, {row['high']:.1f}]"
        text = f"{split_label(split)} {row['accuracy %']:.1f}% {bounds}"
        if not pd.isna(row.get("teacher %")):
            text += f" (teacher {row['teacher %']:.1f}%)"
        told.append(f"{text} of {row['items']:.0f} items")
    return Finding(f"Right by the judge, one student: {', '.join(told)}.")


def failure_finding(records: Sequence[Record]) -> Finding:
    """How many answers are wrong, and by which kinds, commonest first."""
    counts = failure_counts(records).sum().sort_values(ascending=False, kind="stable")
    counts = counts[counts > 0]
    if counts.empty:
        return Finding(f"None of {len(records):,} answers is wrong.")
    kinds = ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in counts.items())
    return Finding(f"{counts.sum():,} of {len(records):,} answers are wrong: {kinds}.")
