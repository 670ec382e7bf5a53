"""What a teacher made of a problem, and why it is or is not a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mentor_kit.core.problem import Problem, known_tools
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.judging.judge import final_answer, judge

ACCEPTED = "accepted"
OTHER = "the teacher option tools:text, a text of its option system, or another model."
CALLS = f"The teacher's calls fail: read the rejected attempts; try {OTHER}"
ADVICE = {
    "no_tool": f"The teacher answers without tools: see what the endpoint honours; try {OTHER}",
    "no_answer": f"The teacher boxes no answer: read the rejected attempts; try {OTHER}",
    "wrong_answer": "The teacher is wrong: try more samples, easier problems, or a stronger model.",
    "length": "The replies are cut: raise the teacher option max_tokens.",
    "max_turns": "The dialogues are cut: raise the teacher option max_turns.",
    **dict.fromkeys(("malformed_call", "unknown_tool", "not_executed", "tool_error"), CALLS),
    **dict.fromkeys(
        ("timeout", "connection", "bad_json", "no_choices", "deadline"),
        "The server did not answer: see to it and start again; what was not answered "
        "is asked again.",
    ),
}


@dataclass(frozen=True)
class Attempt:
    """What a teacher made of a problem. `reason` is `accepted` or why not; a rejected attempt keeps
    the calls that were made (`trajectory` is None where there were none).

    `failed`: nobody answered (network, server, deadline); such an attempt is made again at the next
    start. `log`: what the store keeps beside the trajectory and outside the dataset (raw replies,
    retries, seconds).
    """

    trajectory: Trajectory | None
    accepted: bool
    reason: str
    failed: bool = False
    log: Mapping[str, Any] = field(default_factory=dict, compare=False)


def judged(trajectory: Trajectory, problem: Problem,
           log: Mapping[str, Any] | None = None) -> Attempt:
    """An attempt of a model, kept or rejected by `reject_reason`."""
    reason = reject_reason(trajectory, problem) or ACCEPTED
    return Attempt(trajectory, reason == ACCEPTED, reason, log=log or {})


def reject_reason(trajectory: Trajectory, problem: Problem) -> str | None:
    """Why a trajectory is no reference, the first that holds; None when it is one.

    `max_turns` (calls in the last turn allowed), `length`, `error`; `no_answer`, `wrong_answer`
    (by the judge); `no_tool`; `malformed_call`, `unknown_tool`, `not_executed`, `tool_error` (one
    call is enough). Paper: the answer must be right and tools used; that every call was carried out
    is ours: references must not teach failing calls.
    """
    if trajectory.finish != "eos":
        return trajectory.finish
    answer = final_answer(trajectory)
    if answer is None:
        return "no_answer"
    if not judge(answer, problem.answers).correct:
        return "wrong_answer"
    return _call_reason(trajectory, known_tools(problem))


def advice(reason: str) -> str:
    """What to do where this is the reason of most rejections."""
    reason = "connection" if reason.startswith("http_") else reason
    return ADVICE.get(reason, "Read the rejected attempts, and try other problems or another "
                              "teacher.")


def _call_reason(trajectory: Trajectory, known: tuple[str, ...]) -> str | None:
    calls = trajectory.calls
    if not calls:
        return "no_tool"
    if any(c.name is None for c in calls):
        return "malformed_call"
    if any(c.name not in known for c in calls):
        return "unknown_tool"
    if not all(c.executed for c in calls):
        return "not_executed"
    return None if all(c.ok for c in calls) else "tool_error"
