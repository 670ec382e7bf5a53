"""Which of a problem's right attempts becomes its reference, where a teacher made several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mentor_kit.core.records import Record

NOT_SELECTED = "not_selected"


def passed(record: Record) -> bool:
    """Whether an attempt was right, selected or not."""
    return record.trajectory.meta["reason"] in ("accepted", NOT_SELECTED)


def select(records: Iterable[Record], policy: str) -> list[Record]:
    """Records with one accepted attempt a problem at most; the other right ones get the reason
    `not_selected`.

    Policies: `first` sample; `shortest`: fewest calls, then shortest text; `most_typical`: of the
    tool set that most of the problem's right attempts share, the shortest. Ties go to the earlier
    sample. Paper silent: it does not say how many trajectories its teacher gave a problem.
    """
    records = list(records)
    groups: dict[str, list[Record]] = {}
    for record in records:
        if passed(record):
            groups.setdefault(record.problem.id, []).append(record)
    chosen = {name: _choose(group, policy).trajectory.sample for name, group in groups.items()}
    return [_marked(r, chosen[r.problem.id] == r.trajectory.sample) if passed(r) else r
            for r in records]


def _marked(record: Record, chosen: bool) -> Record:
    if chosen == record.trajectory.meta["accepted"]:
        return record
    reason = "accepted" if chosen else NOT_SELECTED
    return replace(record, trajectory=record.trajectory.with_meta(accepted=chosen, reason=reason))


def _choose(group: Sequence[Record], policy: str) -> Record:
    if policy == "first" or len(group) == 1:
        return min(group, key=lambda r: r.trajectory.sample)
    if policy == "most_typical":
        sets = Counter(frozenset(r.trajectory.tool_names) for r in group)
        most = max(sets.values())
        group = [r for r in group if sets[frozenset(r.trajectory.tool_names)] == most]
    return min(group, key=lambda r: (len(r.trajectory.calls), len(r.trajectory.to_text()),
                                     r.trajectory.sample))
