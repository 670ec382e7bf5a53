"""What a teacher made of a problem, and why it is or is not a reference."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mentor_kit.core.problem import Problem, known_tools
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import ToolCall, Turn
from mentor_kit.judging.verdicts import answer_of, verdict_of

ACCEPTED = "accepted"
OTHER = "the teacher option tools:text, a text of its option system, or another model."
PARSER = "start the server with the tool parser of this model, or try the teacher option tools:text"
# a call in a form that is not read: the server did not take it out of the text
UNREAD_CALL = re.compile(
    r"<\|python_tag\|>|\[TOOL_CALLS\]|<\uff5ctool|<\|channel\|>commentary|<function=|<tool_call>|"
    r'```json\s*\{\s*"name"|\A\s*\[\w+\(.*\)\]\s*\Z',
)
THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
ADVICE = {
    "no_tool": f"The teacher answers without tools: see what the endpoint honours; try {OTHER}",
    "no_answer": f"The teacher boxes no answer: read the rejected attempts; try {OTHER}",
    "only_reasoning": "The last reply holds reasoning and nothing else, perhaps a call or the "
                      "answer in it: see to the server's reasoning parser, or raise max_tokens.",
    "wrong_answer": "The teacher is wrong: try more samples, easier problems, or a stronger model.",
    "length": "The replies are cut: raise the teacher option max_tokens.",
    "context": "The dialogues are longer than the model's context: raise it at the server, or "
               "lower the teacher option max_tokens.",
    "max_turns": "The dialogues are cut: raise the teacher option max_turns.",
    "malformed_call": f"The calls are in a form that is not read: {PARSER}.",
    "unknown_tool": "The calls name tools that do not exist: read the rejected attempts; if marks "
                    f"or a prefix stand in the names, {PARSER}; else try {OTHER}",
    "tool_error": f"The teacher's calls fail: read the rejected attempts; try {OTHER}",
    "not_executed": f"The teacher calls a tool where it answers: try {OTHER}",
}
# where the trajectories come from a file
FILE_ADVICE = {
    "no_answer": "The last messages box no answer: the teacher option after:MARK boxes what "
                 "follows a mark, require:calls keeps trajectories without an answer.",
    "max_turns": "The trajectories end with a call: require:calls keeps them.",
    "wrong_answer": "The answers are not those of the problems: see to the column of answers.",
    "unknown_tool": "The calls name tools that the toolbox has not: give the parameter toolbox "
                    "the one they were made with.",
    "tool_error": "The calls fail here: read the rejected rows, or give the parameter toolbox the "
                  "one they were made with.",
    "not_executed": "Some calls have no result: give the parameter toolbox tools that can carry "
                    "them out, or set require:calls.",
    "other_observation": "Our tools give other results: observations:keep keeps theirs, "
                         "observations:replace takes ours.",
    "not_in_file": "No row asks these questions: see what is said of the rows.",
}
UNANSWERED = "The server did not answer: see to it and start again; what was not answered is " \
             "asked again."
# what a server's words ask for: pattern -> the option that gives it
HINTS = {
    "max_completion_tokens": "set max_tokens:-1 and extra:{max_completion_tokens: 4096}",
    "temperature": "temperature:-1 leaves it out",
    "top_p": "top_p:-1 leaves it out",
    "seed": "seed:-1 leaves it out",
    "max_tokens": "max_tokens:-1 leaves it out",
    "reasoning_content": "set echo_reasoning:true",
    "tool.{0,30}(pars|choice|support)|support.{0,20}tool": PARSER,
}


@dataclass(frozen=True)
class Attempt:
    """What a teacher made of a problem: one sample of it. `reason` is `accepted` or why not; a
    rejected attempt keeps the calls that were made (`trajectory` is None where there were none).

    Args:
        failed: nobody answered (network, server, deadline); it is made again at the next start.
        refused: the server said no. If others are answered, it is not made again.
        detail: the server's words, where the reason comes from it.
        log: what the store keeps beside the trajectory and outside the dataset (raw replies,
            retries, seconds).
    """

    trajectory: Trajectory | None
    accepted: bool
    reason: str
    failed: bool = False
    refused: bool = False
    detail: str = ""
    log: Mapping[str, Any] = field(default_factory=dict, compare=False)


def judged(trajectory: Trajectory, problem: Problem,
           log: Mapping[str, Any] | None = None) -> Attempt:
    """An attempt of a model, kept or rejected by `reject_reason`."""
    reason = reject_reason(trajectory, problem) or ACCEPTED
    return Attempt(trajectory, reason == ACCEPTED, reason, log=log or {})


def reject_reason(trajectory: Trajectory, problem: Problem) -> str | None:
    """Why a trajectory is not a reference, the first that holds; None when it is one.

    `max_turns` (calls in the last turn allowed, and not all before it failed), `length`,
    `error`; `only_reasoning`, `no_answer`, `wrong_answer` (by the judge); `no_tool`;
    `malformed_call`, `unknown_tool`, `not_executed`, `tool_error` (one call is enough). Paper: the
    answer must be right and tools used; that every call was carried out is ours: references must
    not teach failing calls.
    """
    known = known_tools(problem)
    if trajectory.finish != "eos":
        executed = [call for turn in trajectory.turns[:-1] for call in turn.calls]
        if trajectory.finish == "max_turns" and executed and not any(c.ok for c in executed):
            return call_reason(executed, known)
        return trajectory.finish
    if answer_of(problem, trajectory) is None:
        return _no_answer_reason(trajectory.turns[-1])
    if not verdict_of(problem, trajectory).correct:
        return "wrong_answer"
    return call_reason(trajectory.calls, known)


def _no_answer_reason(turn: Turn) -> str:
    said = THOUGHT.sub("", turn.text).strip()
    if turn.text.strip() and not said:
        return "only_reasoning"
    return "malformed_call" if UNREAD_CALL.search(said) else "no_answer"


def advice(reason: str, detail: str = "", producer: str = "") -> str:
    """What to do where this is the reason of most rejections; `detail`: the server's words,
    `producer`: whose attempts they are."""
    if producer == "teacher:file":
        return FILE_ADVICE.get(reason, "Read the rejected rows.")
    if reason.startswith("http_4") and detail:
        return f"The server refuses: {hint(detail) or 'read what it says above'}."
    if reason.startswith("finish_"):
        return "The server cut the replies and gave this finish reason: see to the server."
    if reason in ADVICE:
        return ADVICE[reason]
    is_server = reason.startswith("http_") or reason in ("timeout", "connection", "bad_json",
                                                         "no_choices", "aborted", "deadline")
    return UNANSWERED if is_server else \
        "Read the rejected attempts, and try other problems or another teacher."


def hint(detail: str) -> str:
    """The teacher option that a server's words ask for, "" where none is known."""
    found = (text for pattern, text in HINTS.items() if re.search(pattern, detail, re.IGNORECASE))
    return next(found, "")


def call_reason(calls: Sequence[ToolCall], known: tuple[str, ...]) -> str | None:
    if not calls:
        return "no_tool"
    if any(c.name is None for c in calls):
        return "malformed_call"
    if any(c.name not in known for c in calls):
        return "unknown_tool"
    if not all(c.executed for c in calls):
        return "not_executed"
    return None if all(c.ok for c in calls) else "tool_error"
