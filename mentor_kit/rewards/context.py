"""What a reward term may look at: one problem, the teacher's trajectory, the student's, and what
follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mentor_kit.core.problem import Problem, known_tools
from mentor_kit.core.records import to_json
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import ToolCall, written_calls
from mentor_kit.judging.judge import Verdict
from mentor_kit.judging.verdicts import answer_of, verdict_of


@dataclass(frozen=True)
class RewardContext:
    """One rollout to be scored. Everything is derived on demand, once.

    With `executed_only`, the student's calls are those that were carried out without an error;
    otherwise every well-formed call to a known tool counts, read over the whole text as the
    released code reads it (an unclosed call swallows the text up to the next closing tag, in
    whichever turn that stands). `judge`: the rules by which the answer is judged.
    """

    problem: Problem
    reference: Trajectory | None
    student: Trajectory
    executed_only: bool = False
    judge: str = "released"

    @cached_property
    def answer(self) -> str | None:
        return answer_of(self.problem, self.student)

    @cached_property
    def verdict(self) -> Verdict:
        return verdict_of(self.problem, self.student, self.judge)

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset(known_tools(self.problem))

    @cached_property
    def written_calls(self) -> tuple[ToolCall, ...]:
        """Calls as the released code finds them in the whole text: known or not, malformed or not,
        drafts inside `<think>` included."""
        return written_calls(self.student.to_text())

    @cached_property
    def calls(self) -> tuple[ToolCall, ...]:
        """The student's calls that count."""
        if self.executed_only:
            return tuple(c for c in self.student.calls if c.ok and c.name in self.known)
        return tuple(c for c in self.written_calls if c.name in self.known)

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.calls]

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """Names of calls to tools that do not exist. A name that is not a text (`"name": 5`) counts
        here, as in the released code, though such a call is malformed and never carried out."""
        return tuple(str(c.written_name) for c in self.written_calls
                     if c.written_name and c.name not in self.known)

    @cached_property
    def n_written_calls(self) -> int:
        """Calls the student tried to write: well-formed, malformed and never closed alike."""
        return sum(max(len(t.calls), t.n_opened_calls) for t in self.student.turns)

    @cached_property
    def malformed(self) -> int:
        return self.n_written_calls - sum(bool(c.name) for c in self.student.calls)

    @cached_property
    def reference_calls(self) -> tuple[ToolCall, ...]:
        return tuple(c for c in self.reference.calls if c.name) if self.reference else ()

    @property
    def reference_names(self) -> list[str]:
        return [c.name for c in self.reference_calls]


def canonical(value: Any) -> str:
    """A JSON value as text for comparison: keys sorted, 4.0 written as 4."""
    try:
        return to_json(_whole(value))
    except RecursionError:  # thousands of nested brackets: equal to nothing sensible
        return "too deep"


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _whole(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_whole(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
