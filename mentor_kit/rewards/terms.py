"""Reward terms: small pure functions of a `RewardContext`, each between 0 and 1. A preset weighs a
few of them.

Terms of the released code keep its meaning to the letter; the others say which paper they come
from. `RewardContext.calls` decides which of the student's calls count: all written ones, or only
executed ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mentor_kit.core.turn import ToolCall
from mentor_kit.rewards.context import RewardContext, canonical


def answered(context: RewardContext) -> float:
    """1 for any boxed answer, right or wrong."""
    return float(context.answer is not None)


def answer_right(context: RewardContext) -> float:
    """1 when the judge accepts the final answer."""
    return float(context.verdict.correct)


def same_tools(context: RewardContext) -> float:
    """1 when the student's set of tools equals the teacher's. Released MENTOR: ignores order,
    counts, arguments."""
    return float(bool(context.names) and set(context.names) == set(context.reference_names))


def any_shared_tool(context: RewardContext) -> float:
    """1 when student and teacher share a tool. Released ABLATION2."""
    return float(bool(set(context.names) & set(context.reference_names)))


def tool_set_f1(context: RewardContext) -> float:
    """F1 of the sets of tools. Released ABLATION4."""
    return _f1(Counter(set(context.names)), Counter(set(context.reference_names)))


def no_unknown_tool(context: RewardContext) -> float:
    """1 when no well-formed call names a tool that does not exist. Released code; true of no call
    at all, too."""
    return float(not context.unknown)


def tool_count_f1(context: RewardContext) -> float:
    """F1 of the multisets of tools: using a tool twice is not using it once. Ours."""
    return _f1(Counter(context.names), Counter(context.reference_names))


def tool_order(context: RewardContext) -> float:
    """2 x longest common subsequence / (student's calls + teacher's calls). Ours; the plainest
    ordered match."""
    return _ratio(2 * _common_subsequence(context.names, context.reference_names),
                  len(context.names) + len(context.reference_names))


def same_arguments(context: RewardContext) -> float:
    """F1 of the multisets of (tool, arguments). A reference made of names alone is compared by
    name. Ours."""
    by_name = {c.name for c in context.reference_calls if c.arguments is None}
    return _f1(Counter(_signature(c, by_name) for c in context.calls),
               Counter(_signature(c, by_name) for c in context.reference_calls))


def strict_replication(context: RewardContext) -> float:
    """1 when names, arguments and order all equal the teacher's: what v3 of the paper argues
    against."""
    by_name = {c.name for c in context.reference_calls if c.arguments is None}
    return float(bool(context.calls) and [_signature(c, by_name) for c in context.calls]
                 == [_signature(c, by_name) for c in context.reference_calls])


def matched_credit(context: RewardContext) -> float:
    """Optimal one-to-one assignment of calls to the teacher's, mean similarity over the longer
    side.

    MatchTIR (arXiv 2601.10712): similarity of two calls of one tool = (1 + overlap of parameter
    names + equal values) / (2 + the teacher's parameters). The paper rewards each turn
    (`turn_credits`); we divide by the larger number of calls, so that a trajectory has one number
    and both missing and surplus calls cost.
    """
    return _ratio(sum(call_credits(context)), max(len(context.calls), len(context.reference_calls)))


def call_match(context: RewardContext) -> float:
    """ToolRL's correctness (arXiv 2504.13958), R_max / S_max, so between 0 and 1; the paper scales
    it to -3..3.

    S_max = 1 + sum over the teacher's calls of (1 + its parameters); R = overlap of names (multiset
    Jaccard) + for each matched pair, overlap of parameter names + equal values; R_max is its
    maximum over assignments.
    """
    names, wanted = Counter(context.names), Counter(context.reference_names)
    best = 1.0 + sum(1 + len(_parameters(c)) for c in context.reference_calls)
    pairs = _assign(context.calls, context.reference_calls, _parameter_score)
    return (_ratio((names & wanted).total(), (names | wanted).total())
            + sum(score for _, _, score in pairs)) / best


def carried_out_f1(context: RewardContext) -> float:
    """2 x (calls carried out that the teacher also made) / (calls attempted + teacher's calls). For
    `mentor_fixed`.

    Unknown, malformed, failed and never executed calls count as attempts only, so each lowers the
    term.
    """
    done = Counter(c.name for c in context.student.calls if c.ok and c.name in context.known)
    shared = (done & Counter(context.reference_names)).total()
    return _ratio(2 * shared, context.n_written_calls + len(context.reference_calls))


def clean_calls(context: RewardContext) -> float:
    """1 when no call is malformed and none names a tool that does not exist. Ours, for
    `mentor_fixed`."""
    return float(not context.malformed and not context.unknown)


TERMS: dict[str, Callable[[RewardContext], float]] = {f.__name__: f for f in (
    answered, answer_right, same_tools, any_shared_tool, tool_set_f1, no_unknown_tool,
    tool_count_f1, tool_order,
    same_arguments, strict_replication, matched_credit, call_match, carried_out_f1, clean_calls)}


def call_credits(context: RewardContext) -> list[float]:
    """The similarity of each of `context.calls` to the teacher's call that it is assigned to; 0 for
    those left over."""
    credit = [0.0] * len(context.calls)
    for i, j, score in _assign(context.calls, context.reference_calls, _similarity_parts):
        credit[i] = score / (2 + len(_parameters(context.reference_calls[j])))
    return credit


def turn_credits(context: RewardContext) -> list[float]:
    """MatchTIR's reward of each assistant turn: the mean credit of its calls, 0 for turns without.

    Turns are those of `context.student`, so `context` must count executed calls only
    (`executed_only=True`).
    """
    credit = iter(call_credits(context))
    turns = [[next(credit) for c in turn.calls if c.ok and c.name in context.known]
             for turn in context.student.turns]
    return [_ratio(sum(t), len(t), empty=0.0) for t in turns]


def _ratio(part: float, whole: float, empty: float = 1.0) -> float:
    """part / whole; `empty` where there is nothing to compare (no call on either side is a perfect
    match)."""
    return part / whole if whole else empty


def _f1(student: Counter[str], teacher: Counter[str]) -> float:
    return _ratio(2 * (student & teacher).total(), student.total() + teacher.total())


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        above_left = 0
        for j, y in enumerate(b, 1):
            above_left, row[j] = row[j], above_left + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def _signature(call: ToolCall, by_name: set[str]) -> str:
    return call.name if call.name in by_name else f"{call.name} {canonical(call.arguments)}"


def _parameters(call: ToolCall) -> dict[str, Any]:
    return call.arguments if isinstance(call.arguments, dict) else {}


def _parameter_score(call: ToolCall, wanted: ToolCall) -> float:
    """Overlap of the parameter names (Jaccard) + number of equal values, for two calls of one
    tool."""
    ours, theirs = _parameters(call), _parameters(wanted)
    equal = sum(canonical(ours[k]) == canonical(v) for k, v in theirs.items() if k in ours)
    return _ratio(len(ours.keys() & theirs.keys()), len(ours.keys() | theirs.keys())) + equal


def _similarity_parts(call: ToolCall, wanted: ToolCall) -> float:
    return 1.0 + _parameter_score(call, wanted)


def _assign(calls: Sequence[ToolCall], wanted: Sequence[ToolCall],
            score: Callable[[ToolCall, ToolCall], float]) -> list[tuple[int, int, float]]:
    """Optimal one-to-one pairs (call, wanted, score) between calls of the same tool."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    if not calls or not wanted:
        return []
    scores = np.array([[score(c, w) if c.name == w.name else 0.0 for w in wanted] for c in calls])
    rows, columns = linear_sum_assignment(scores, maximize=True)
    return [(int(i), int(j), float(scores[i, j])) for i, j in zip(rows, columns, strict=True)
            if calls[i].name == wanted[j].name]
