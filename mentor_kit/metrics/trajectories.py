"""Metrics of stored trajectories: pure functions, no model, no torch.

The denominator of every rate is every record handed in: a cut, crashed or unanswered item is
a wrong one and is counted by its kind. Only comparisons with a teacher are limited to the records
that have a reference (`n_reference` says how many those are).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from scipy.spatial.distance import jensenshannon

from mentor_kit.core.problem import known_tools
from mentor_kit.core.records import Record
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError

UNKNOWN = "<unknown>"  # the one bin of all names that the toolbox does not have
RATES = ("correct", "boxed", "set_match", "sequence_similarity", "similarity", "n_calls",
         "n_executed", "n_ok",
         "n_failed", "n_unknown", "n_malformed", "unknown_tool", "turns", "repeats_teacher_exactly")


def by_split(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Split -> its records, in the order of the records."""
    return _grouped(records, lambda r: r.problem.split)


def by_problem(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Problem id -> its records, in the order of the records."""
    return _grouped(records, lambda r: r.problem.id)


def _grouped(records: Iterable[Record], key: Callable[[Record], str]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return dict(groups)


def tool_names(trajectory: Trajectory, known_names: Iterable[str]) -> tuple[str, ...]:
    """Names of the parsed calls in order, executed or not; names outside the toolbox become
    `<unknown>`."""
    known = set(known_names)
    return tuple(n if n in known else UNKNOWN for n in trajectory.tool_names)


def tool_counts(trajectories: Iterable[Trajectory], known_names: Iterable[str]) -> Counter[str]:
    """How often each tool was called, over parsed calls; unknown names share the bin
    `<unknown>`."""
    known = tuple(known_names)
    return Counter(n for t in trajectories for n in tool_names(t, known))


def count_similarity(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    """`tool_similarity` of count arrays of shape (..., tools); returns shape (...)."""
    p, q = np.asarray(teacher, float), np.asarray(student, float)
    called = (p.sum(-1) > 0) & (q.sum(-1) > 0)
    with np.errstate(invalid="ignore", divide="ignore"):  # without calls; equal ones by rounding
        distance = np.nan_to_num(jensenshannon(p, q, base=2, axis=-1))
    return np.where(called, np.clip(1 - distance**2, 0, 1), 0.0)


def tool_similarity(teacher_counts: Mapping[str, float],
                    student_counts: Mapping[str, float]) -> float:
    """1 - Jensen-Shannon divergence in bits of two tool distributions: 1 the same, 0 disjoint.

    Without any call on either side the similarity is 0. The paper plots "1 - JSD" and is silent
    about base and bins: bits keep it in 0..1.
    """
    names = sorted(set(teacher_counts) | set(student_counts))
    p, q = ([counts.get(n, 0) for n in names] for counts in (teacher_counts, student_counts))
    return float(count_similarity(np.array(p), np.array(q)))


def set_match(reference: Trajectory, student: Trajectory,
              known_names: Iterable[str] | None = None) -> bool:
    """Whether student and teacher use the same set of tools: order, counts and arguments do not
    matter.

    With `known_names` the student's unknown names are left out first, as the released reward does;
    the unknown names are a metric of their own (`unknown_tool`).
    """
    names = set(student.tool_names)
    return set(reference.tool_names) == (names if known_names is None else names & set(known_names))


def sequence_similarity(reference: Trajectory, student: Trajectory) -> float:
    """Longest common subsequence of the two tool-name sequences over the longer one's length (1:
    equal order).

    The paper is silent; the longer length is the denominator so that extra calls cost as missing
    ones do.
    """
    a, b = reference.tool_names, student.tool_names
    row = [0] * (len(b) + 1)
    for x in a:
        previous = row
        row = [0]
        for j, y in enumerate(b):
            row.append(previous[j] + 1 if x == y else max(previous[j + 1], row[j]))
    return row[-1] / max(len(a), len(b)) if a or b else 1.0


def call_counts(trajectory: Trajectory, known_names: Iterable[str]) -> dict[str, int]:
    """Counts of written, executed, successful, failed, unknown and malformed calls."""
    calls, known = trajectory.calls, set(known_names)
    return {"n_calls": len(calls), "n_executed": sum(c.executed for c in calls),
            "n_ok": sum(c.ok for c in calls),
            "n_failed": sum(c.executed and not c.ok for c in calls),
            "n_unknown": sum(c.name is not None and c.name not in known for c in calls),
            "n_malformed": sum(c.name is None for c in calls)}


def repeats_teacher_exactly(record: Record) -> bool:
    """Whether the written calls equal the teacher's in names, arguments, order and after which of
    the user's messages they stand (and there are any)."""
    if record.reference is None:
        return False
    teacher, student = (_calls_by_message(t) for t in (record.reference, record.trajectory))
    return bool(record.reference.calls) and teacher == student


def _calls_by_message(trajectory: Trajectory) -> list[Any]:
    said = [[*((c.name, c.arguments) for c in turn.calls), *[turn.user] * (turn.user is not None)]
            for turn in trajectory.turns]
    return list(chain.from_iterable(said))


def _last_result(trajectory: Trajectory) -> str | None:
    results = [c.observation.content for c in trajectory.calls if c.observation is not None]
    return results[-1] if results else None


def _same_value(a: str, b: str) -> bool:
    try:
        return float(a.replace(",", "")) == float(b.replace(",", ""))
    except ValueError:
        return a.strip() == b.strip()


def is_miscopied_last_result(record: Record) -> bool:
    """Whether the last tool result is the teacher's, yet the boxed answer is another value."""
    from mentor_kit.judging.judge import final_answer

    if record.reference is None:
        return False
    answer, seen = final_answer(record.trajectory), _last_result(record.trajectory)
    expected = _last_result(record.reference)
    if answer is None or seen is None or expected is None:
        return False
    return _same_value(seen, expected) and not _same_value(answer, seen)


def exact_repeats_with_wrong_answer(records: Iterable[Record]) -> list[Record]:
    """Records whose calls repeat the teacher's exactly and which were still judged wrong.

    Each should be a mis-copied last result (`is_miscopied_last_result`); any other one points to a
    bug in the rollout loop.
    """
    return [r for r in records if not r.trajectory.meta["correct"] and repeats_teacher_exactly(r)]


def record_metrics(record: Record, known_names: Iterable[str]) -> dict[str, Any]:
    """Every metric of one judged record; comparisons with the teacher are None without a reference.

    Raises:
        UserError: the record bears no verdict (`meta["correct"]`).
    """
    from mentor_kit.judging.judge import final_answer

    trajectory, reference, known = record.trajectory, record.reference, tuple(known_names)
    if "correct" not in trajectory.meta:
        raise UserError(f"The trajectory of {record.problem.id!r} has no verdict: judge it before "
                        "measuring it.")
    counts = call_counts(trajectory, known)
    metrics = {"correct": bool(trajectory.meta["correct"]), "boxed": bool(final_answer(trajectory)),
             "set_match": None, "sequence_similarity": None, "similarity": None, **counts,
             "unknown_tool": counts["n_unknown"] > 0, "turns": len(trajectory.turns),
             "finish": trajectory.finish,
             "failure": trajectory.meta.get("failure"),
             "repeats_teacher_exactly": repeats_teacher_exactly(record)}
    if reference is not None:
        metrics["set_match"] = set_match(reference, trajectory, known)
        metrics["sequence_similarity"] = sequence_similarity(reference, trajectory)
        metrics["similarity"] = tool_similarity(tool_counts([reference], known),
                                              tool_counts([trajectory], known))
    return metrics


def summarise(records: Sequence[Record], known: Iterable[str] | None = None) -> dict[str, float]:
    """Means over all records of `record_metrics`, plus counts and the pooled tool similarity.

    Args:
        known: the tool names of all records; without it each record's own (`known_tools`).

    Keys: `n`, `n_reference`, the names in `RATES` (means; comparisons with the teacher over the
    records that have one, nan without any), `similarity_pooled` (1 - JSD of all calls together),
    `tokens` (mean of the completions whose length is known), `score/<name>` (means of a scorer's
    further numbers), and `failure/<kind>` and `finish/<kind>` (shares of all records).
    """
    if not records:
        raise UserError("No records to summarise: evaluate at least one item.")
    shared = None if known is None else tuple(known)
    names = [known_tools(r.problem) if shared is None else shared for r in records]
    rows = [record_metrics(r, n) for r, n in zip(records, names, strict=True)]
    summary: dict[str, float] = {"n": len(rows),
                                 "n_reference": sum(r.reference is not None for r in records)}
    summary |= {name: _mean(row[name] for row in rows) for name in RATES}
    teacher, student = _pooled_counts(records, names)
    summary["similarity_pooled"] = (tool_similarity(teacher, student) if summary["n_reference"]
                                    else float("nan"))
    summary["tokens"] = _mean(r.trajectory.meta.get("tokens") for r in records)
    for name in sorted({s for r in records for s in r.trajectory.meta.get("scores", {})}):
        summary[f"score/{name}"] = _mean(r.trajectory.meta.get("scores", {}).get(name)
                                         for r in records)
    for kind in ("finish", "failure"):
        shares = Counter(row[kind] for row in rows if row[kind] is not None)
        summary |= {f"{kind}/{name}": shares[name] / len(rows) for name in sorted(shares)}
    return summary


def _mean(values: Iterable[float | None]) -> float:
    found = [float(v) for v in values if v is not None]
    return float(np.mean(found)) if found else float("nan")


def _pooled_counts(records: Sequence[Record], names: Sequence[tuple[str,
                                                                    ...]]) -> tuple[Counter[str],
                                                                                    Counter[str]]:
    """Tool counts of the references and of the students, over the records that have a reference."""
    teacher: Counter[str] = Counter()
    student: Counter[str] = Counter()
    for record, known in zip(records, names, strict=True):
        if record.reference is not None:
            teacher.update(tool_names(record.reference, known))
            student.update(tool_names(record.trajectory, known))
    return teacher, student
