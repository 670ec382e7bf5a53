"""Tables of notebook 02: what each reward pays for behaviours and for real rollouts, and whether it
can teach.

GRPO learns from differences inside a group of rollouts of one problem: a term that is the same for
all of them teaches nothing. So before any training: how often is a sampled rollout right, does it
use the teacher's tools, and in which share of groups does each term of a reward vary?
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

import numpy as np
import pandas as pd

from mentor_kit.core.problem import known_tools
from mentor_kit.core.records import Record
from mentor_kit.errors import UserError
from mentor_kit.metrics.trajectories import record_metrics
from mentor_kit.rewards.advantages import group_advantages
from mentor_kit.rewards.behaviours import behaviours
from mentor_kit.rewards.context import RewardContext
from mentor_kit.rewards.reward import GATES, Reward, load_reward


def behaviour_scores(presets: Sequence[str | Reward]) -> pd.DataFrame:
    """Score of every handwritten behaviour (rows) under every preset (columns)."""
    return pd.DataFrame({r.name: behaviour_terms(r)["total"] for r in map(load_reward, presets)})


def behaviour_terms(preset: str | Reward) -> pd.DataFrame:
    """Each behaviour's terms under one preset, and their total."""
    reward = load_reward(preset)
    rows = {}
    for name, behaviour in behaviours():
        score = reward(behaviour.problem, behaviour.reference, behaviour.trajectory)
        rows[name] = {**score.terms, "total": score.total}
    return pd.DataFrame(rows).T.fillna(0.0)


# (rollout, compared with, what the released formula gets wrong); scores are computed
PATHOLOGIES = (
    ("hallucinated tool", "extra valid tool",
     "inventing a tool costs less than one valid call too many"),
    ("wrong answer, hallucinated tool", "no box",
     "a boxed wrong answer can score below none: it may stop boxing"),
    ("never executed", "perfect", "a call that was never carried out still earns the match"),
    ("dummy calls", "perfect", "arguments are ignored: calls on zeros earn the match"),
    ("repeated calls", "perfect", "counts are ignored: repeating calls is free"),
    ("other order", "perfect", "order is ignored"),
    ("failed call", "perfect", "success is ignored: a call that ends in an error earns the match"),
    ("malformed call", "perfect", "a malformed call is neither known nor unknown, so it is free"),
)


def pathologies(preset: str | Reward = "mentor",
                repaired: str | Reward = "mentor_fixed") -> pd.DataFrame:
    """PAPER's pathologies as pairs of rollouts with their scores under a preset and under a
    repaired one.

    `dummy calls` and `other order` are not mended by `mentor_fixed`: it ignores arguments and
    order, too.
    """
    scores = behaviour_scores([preset, repaired])
    rows = []
    for rollout, compared, conclusion in PATHOLOGIES:
        row = {"rollout": rollout, "compared with": compared}
        for name in scores:
            row[f"{name}: rollout"] = scores.at[rollout, name]
            row[f"{name}: compared"] = scores.at[compared, name]
        rows.append({**row, "conclusion": conclusion})
    return pd.DataFrame(rows).set_index("rollout")


def rollout_kind(record: Record) -> str:
    """What a rollout did, in words: how it ended, else right or wrong and how its tools compare
    with the teacher's."""
    context = RewardContext(record.problem, record.reference, record.trajectory)
    if GATES["not_ended"](context):
        return "not ended"
    if context.answer is None:
        return "no box"
    verdict = "right" if context.verdict.correct else "wrong"
    if context.unknown:
        return f"{verdict}, invented tool"
    if not context.names:
        return f"{verdict}, no tools"
    same = set(context.names) == set(context.reference_names)
    return f"{verdict}, teacher's tools" if same else f"{verdict}, other tools"


def scores_by_kind(rollouts: Sequence[Record], presets: Sequence[str | Reward]) -> pd.DataFrame:
    """Mean reward of real rollouts by what they did (rows, with counts) under every preset
    (columns)."""
    kinds = pd.Series([rollout_kind(r) for r in rollouts], name="kind")
    names = kinds.map({kind: f"{kind} ({count})" for kind, count in kinds.value_counts().items()})
    columns = {r.name: [r(x.problem, x.reference, x.trajectory).total for x in rollouts]
               for r in map(load_reward, presets)}
    means = pd.DataFrame(columns).groupby(names).mean()
    return means.loc[means.mean(axis=1).sort_values(ascending=False, kind="stable").index]


def score_frame(rollouts: Sequence[Record], presets: Sequence[str | Reward]) -> pd.DataFrame:
    """One row a rollout and preset: problem_id, sample, preset, total, correct."""
    rewards = [load_reward(p) for p in presets]
    rows = [{"problem_id": r.problem.id, "sample": r.trajectory.sample, "preset": reward.name,
             "total": reward(r.problem, r.reference, r.trajectory).total,
             "correct": r.trajectory.meta["correct"]}
            for reward in rewards for r in rollouts]
    return pd.DataFrame(rows)


def totals(rollouts: Sequence[Record], presets: Sequence[str | Reward]) -> pd.DataFrame:
    """The reward of each rollout (index problem_id, sample) under each preset (columns)."""
    return score_frame(rollouts, presets).pivot(index=["problem_id", "sample"], columns="preset",
                                                values="total")


def headroom(rollouts: Sequence[Record]) -> pd.Series:
    """What sampling gives before any training: accuracy, groups of which some but not all are
    right, set match, unknown-tool rate, box rate, executed calls, and how many of those of existing
    tools were carried out without an error (left out where there was none)."""
    metrics = [record_metrics(r, known_tools(r.problem)) for r in rollouts]
    keys = {"sampled accuracy": "correct", "set match": "set_match",
            "unknown-tool rate": "unknown_tool",
            "box rate": "boxed", "executed calls": "n_executed"}
    found = {name: fmean(float(m[key]) for m in metrics) for name, key in keys.items()}
    carried_out = [c.ok for r in rollouts for c in r.trajectory.calls
                   if c.executed and c.name in known_tools(r.problem)]
    if carried_out:
        found["valid arguments"] = fmean(carried_out)
    found["groups partly right"] = varying_share([float(m["correct"]) for m in metrics],
                                                 [r.problem.id for r in rollouts])
    return pd.Series(found, name="mean")


def varying_terms(rollouts: Sequence[Record], presets: Sequence[str | Reward]) -> pd.DataFrame:
    """Share of groups (rollouts of one problem) in which each term of each preset varies; `total`
    is the reward."""
    groups = [r.problem.id for r in rollouts]
    rows = {}
    for reward in map(load_reward, presets):
        scores = [reward(r.problem, r.reference, r.trajectory) for r in rollouts]
        columns = {"total": [s.total for s in scores]}
        for name in dict.fromkeys(name for score in scores for name in score.terms):
            columns[name] = [s.terms.get(name, 0.0) for s in scores]
        rows[reward.name] = {n: varying_share(values, groups) for n, values in columns.items()}
    return pd.DataFrame(rows).T


def varying_share(values: Sequence[float], groups: Sequence[object]) -> float:
    """Share of groups (by label) in which `values` are not all equal."""
    by_group: dict[object, list[float]] = defaultdict(list)
    for value, group in zip(values, groups, strict=True):
        by_group[group].append(value)
    return fmean(float(max(v) - min(v) > 1e-9) for v in by_group.values())


def advantages(rollouts: Sequence[Record], presets: Sequence[str | Reward]) -> pd.DataFrame:
    """The advantage that GRPO makes of each rollout's reward, one row a rollout and preset.

    Returns:
        problem_id, preset, reward, advantage (in standard deviations of the group), correct, calls,
        invented (a call of a tool that does not exist), group (`some right` or `none right`).

    Raises:
        UserError: groups of different sizes, or of fewer than two rollouts.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for rollout in rollouts:
        groups[rollout.problem.id].append(rollout)
    if len({len(group) for group in groups.values()}) != 1:
        raise UserError("Advantages need groups of one size, and these rollouts have "
                        f"{sorted({len(group) for group in groups.values()})} a problem: sample "
                        "the same number for each.")
    rows = []
    for reward in map(load_reward, presets):
        paid = [[reward(r.problem, r.reference, r.trajectory).total for r in group]
                for group in groups.values()]
        for group, totals, scaled in zip(groups.values(), paid, group_advantages(paid),
                                         strict=True):
            kind = f"{'some' if any(r.trajectory.meta['correct'] for r in group) else 'none'} right"
            rows += [_advantage_row(r, reward.name, total, advantage, kind)
                     for r, total, advantage in zip(group, totals, scaled, strict=True)]
    return pd.DataFrame(rows)


def _advantage_row(r: Record, preset: str, total: float, advantage: float,
                   group: str) -> dict[str, object]:
    context = RewardContext(r.problem, r.reference, r.trajectory)
    return {"problem_id": r.problem.id, "preset": preset, "reward": total, "advantage": advantage,
            "correct": r.trajectory.meta["correct"], "calls": len(r.trajectory.calls),
            "invented": bool(context.unknown), "group": group}


def price_of_hygiene(rollouts: Sequence[Record], presets: Sequence[str | Reward] = (
        "mentor", "mentor_no_hygiene", "strict", "strict_no_hygiene", "mentor_fixed")
                     ) -> pd.DataFrame:
    """Is a wrong answer without an invented tool worth as much to GRPO as a right answer?

    In a group without a right answer, dividing by the group's standard deviation turns any small
    bonus into one or two whole deviations. A term for tool hygiene is paid for no call at all, so
    where right answers are rare the cheapest way to a high advantage is to call less.

    Returns:
        One row a preset. `none right`: share of groups without a right answer. Then mean
        advantages: of right answers (in groups with some), and in groups with none of wrong answers
        that invented no tool, and of those that did. `per call`: the slope of the advantage over
        the number of calls, in groups with none; below zero, calling less is what is learnt there.
        nan where there is no such rollout.
    """
    frame = advantages(rollouts, presets)
    rows = {}
    for preset, of in frame.groupby("preset", sort=False):
        empty = of[of["group"] == "none right"]
        slope = np.polyfit(empty["calls"], empty["advantage"], 1)[0] \
            if empty["calls"].nunique() > 1 else np.nan
        rows[preset] = {"none right": float((of["group"] == "none right").mean()),
                        "right answer": of.loc[of["correct"], "advantage"].mean(),
                        "wrong, none invented": empty.loc[~empty["invented"], "advantage"].mean(),
                        "wrong, invented": empty.loc[empty["invented"], "advantage"].mean(),
                        "per call": float(slope)}
    return pd.DataFrame(rows).T


def correlations(scores: pd.DataFrame) -> pd.Series:
    """Correlation of each preset's reward with correctness over rollouts (nan where one of them
    never varies)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return scores.groupby("preset", sort=False).apply(
            lambda g: g["total"].corr(g["correct"].astype(float))
        )
