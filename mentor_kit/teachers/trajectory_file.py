"""A teacher whose trajectories stand in a file, and the problems of that file.

    problems: trajectory_file
    problem_options: ["path:theirs.jsonl"]
    teacher: file
    teacher_options: ["path:theirs.jsonl"]

The forms that are read: see `mentor_kit.teachers.dialogue_rows`. Problems of any other source go
with it too: a row answers the problem that asks its question. Nothing is trusted: answers are
judged, and calls are carried out again where the problem's toolbox is ours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from mentor_kit.core.environment import OWN
from mentor_kit.core.files import find_path
from mentor_kit.core.problem import Problem, known_tools
from mentor_kit.core.tables import check_path, deal, read_rows, source_name
from mentor_kit.core.toolbox import Toolbox, load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.judging.judge import final_answer
from mentor_kit.problems import normalise_question
from mentor_kit.teachers.attempt import ACCEPTED, Attempt, call_reason, reject_reason
from mentor_kit.teachers.dialogue_rows import DialogueRow, read_dialogue
from mentor_kit.teachers.observations import describe, differences, with_ours
from mentor_kit.teachers.reply import Call, read_reply, render_reply

REQUIRED = ("answer", "calls")
OBSERVATIONS = ("keep", "replace", "reject", "unchecked")
NO_ANSWER = "(none)"  # of problems whose row has no answer


def read_file(path: str, answer: str = "", hub_split: str = "train", hub_config: str = "",
              revision: str = "") -> tuple[DialogueRow, ...]:
    """Every row of a file, folder or hub set; the last one that was read is kept in memory.

    Raises:
        UserError: an unreadable table, or one without a column that holds trajectories.
    """
    file = find_path(path)
    seen = file.stat() if file.exists() else None
    return _read_file(path, answer, hub_split, hub_config, revision,
                      seen and (seen.st_size, seen.st_mtime_ns))


@lru_cache(maxsize=2)
def _read_file(path: str, answer: str, hub_split: str, hub_config: str, revision: str,
               _version: Any) -> tuple[DialogueRow, ...]:
    rows = read_rows(path, hub_split, hub_config=hub_config, revision=revision)
    if not path.endswith((".json", ".jsonl")):
        rows = map(_without_nulls, rows)
    return tuple(read_dialogue(row, number, answer) for number, row in enumerate(rows))


def _without_nulls(value: Any) -> Any:
    """A cell without the null fields of its structs: a table gives every struct all fields that any
    of them has."""
    if isinstance(value, Mapping):
        return {n: _without_nulls(v) for n, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def load(seed: int, sizes: Mapping[str, int], *, path: str, answer: str = "", toolbox: str = "",
         hub_split: str = "train", hub_config: str = "", revision: str = "") -> list[Problem]:
    """The questions of a file of trajectories, each once, dealt to the splits by one seeded
    shuffle.

    Args:
        path: a file, a folder or a hub id.
        answer: the column of accepted answers; "" takes the first of the usual names. Without one
            the trajectory's own boxed answer is the accepted one (`meta["answer_from"]` says so),
            and without a box "(none)".
        toolbox: what the problems are solved with; "" is what the row says: the toolbox of a run of
            the kit, or the tools that it brings, which nobody can carry out; else `arithmetic`.
        hub_split, hub_config, revision: which part of a hub data set.

    Raises:
        UserError: unreadable table, no question at all, or fewer than asked for.
    """
    rows = read_file(path, answer, hub_split, hub_config, revision)
    found: dict[str, DialogueRow] = {}
    for row in rows:
        if row.question:
            found.setdefault(normalise_question(row.question), row)
    if not found:
        raise UserError(f"{path!r}: no row has a question (row 0: {rows[0].fault}).")
    by_number = {row.number: row for row in found.values()}
    name = source_name(path)
    return [_problem(by_number[n], name, hub_split, split, toolbox)
            for split, numbers in deal(sorted(by_number), sizes, seed, path).items()
            for n in numbers]


def _problem(row: DialogueRow, name: str, hub_split: str, split: str, toolbox: str) -> Problem:
    meta: dict[str, Any] = {"row": row.number}
    answers = row.answers
    if not answers:
        said = [m for m in row.messages if m["role"] == "assistant"][-1:]
        text = row.text or "".join(render_reply(read_reply({"message": m})) for m in said)
        boxed = final_answer(Trajectory.from_text(text, finish="error"))
        answers, meta["answer_from"] = (boxed or NO_ANSWER,), "trajectory"
    toolbox = toolbox or row.toolbox
    own = bool(row.tools) and not toolbox
    if own:
        system = [{"role": "system", "content": row.system}] if row.system else []
        meta |= {"tool_schemas": list(row.tools),
                 "prompt_messages": [*system, {"role": "user", "content": row.question}]}
    return Problem(f"{name}/{hub_split}/{row.number:06d}", row.question, answers, name, split,
                   toolbox or (OWN if own else "arithmetic"), meta)


@dataclass(frozen=True)
class FileTeacher:
    r"""Sample n of a problem is the n-th row that asks its question.

    Args:
        path: a file (.jsonl, .json, .parquet, .csv), a folder of `save_to_disk`, or a hub id.
        require: `answer`: a reference has a right boxed answer and calls that were all carried out,
            as with every teacher; `calls`: it has calls, each well-formed and of a known tool, and
            whatever was carried out succeeded (function-calling data has no answer to judge).
        observations: where our toolbox gives another result than the file tells: `keep` theirs
            (`meta["observations_differ"]` lists both), `replace` them by ours, or `reject` the row;
            `unchecked` carries nothing out. Results that the file leaves out are filled in.
        after: where the last message has no `\boxed{}`, what follows this mark is boxed, up to the
            end of its line (`after:"The answer is"`).
        hub_split, hub_config, revision: which part of a hub data set.

    Raises:
        UserError: no such file, or an unknown choice.
    """

    path: str = ""
    require: str = "answer"
    observations: str = "keep"
    after: str = ""
    hub_split: str = "train"
    hub_config: str = ""
    revision: str = ""
    name = "file"
    # a file is read again rather than its attempts kept one by one
    instant = True

    def __post_init__(self) -> None:
        for option, known in (("require", REQUIRED), ("observations", OBSERVATIONS)):
            if getattr(self, option) not in known:
                raise UserError(f"Teacher option {option}={getattr(self, option)!r} is unknown: "
                                f"use one of {known}.")
        if not self.path:
            raise UserError("The teacher 'file' needs a file: write path:<trajectories>.jsonl.")
        check_path(self.path)

    @cached_property
    def rows(self) -> dict[str, list[DialogueRow]]:
        """Normalised question -> the rows that ask it."""
        found = defaultdict(list)
        for row in read_file(self.path, "", self.hub_split, self.hub_config, self.revision):
            found[normalise_question(row.question)].append(row)
        return dict(found)

    def left_out(self, problems: Iterable[Problem], samples: int) -> list[dict[str, Any]]:
        """Rows that no attempt will be made of, and why: no question, a question that no problem
        asks, or one that is asked fewer times."""
        asked = {normalise_question(p.question) for p in problems}
        found = []
        for question, rows in self.rows.items():
            for place, row in enumerate(rows):
                if not question:
                    found.append({"row": row.number, "reason": f"unreadable: {row.fault}"})
                elif question not in asked:
                    found.append({"row": row.number, "reason": "no problem asks its question"})
                elif place >= samples:
                    found.append({"row": row.number, "reason": "another sample than were asked for "
                                                               "(raise samples)"})
        return sorted(found, key=lambda one: one["row"])

    def review(self, left_out: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """How many rows are used and why others are not, in words."""
        total = sum(map(len, self.rows.values()))
        said = f"{total - len(left_out)} of {total} rows of {self.path!r} are asked for"
        first = {one["reason"]: one["row"] for one in reversed(left_out)}
        for reason, n in Counter(one["reason"] for one in left_out).items():
            said += f"; {n} left out: {reason} (row {first[reason]})"
        return {"rows": said}

    def solve(self, problem: Problem, sample: int = 0) -> Attempt:
        """One row as an attempt. Deterministic."""
        rows = self.rows.get(normalise_question(problem.question), [])
        if sample >= len(rows):
            return Attempt(None, False, "not_in_file")
        row, where = rows[sample], f"row {rows[sample].number}"
        if row.fault:
            return Attempt(None, False, "unreadable", detail=f"{where}: {row.fault}")
        checked = self.observations != "unchecked" and "tool_schemas" not in problem.meta
        box = load_toolbox(problem.toolbox) if checked else None
        try:
            trajectory = make_trajectory(row, problem, sample, box)
        except UserError as error:
            return Attempt(None, False, "unreadable", detail=f"{where}: {error}")
        trajectory = self._boxed(trajectory.with_meta(row=row.number))
        reason, detail = row.rejected, where
        if box and (found := differences(trajectory, box)):
            trajectory = trajectory.with_meta(observations_differ=found)
            if self.observations == "replace":
                trajectory = with_ours(trajectory, box)
            elif self.observations == "reject":
                reason, detail = "other_observation", f"{where}: {describe(found[0])}"
            elif any(not one["ok"] for one in found):
                reason = "tool_error"
        reason = reason or self._reject_reason(trajectory, problem) or ACCEPTED
        accepted = reason == ACCEPTED
        return Attempt(trajectory, accepted, reason, detail="" if accepted else detail)

    def _reject_reason(self, trajectory: Trajectory, problem: Problem) -> str | None:
        if self.require == "answer":
            return reject_reason(trajectory, problem)
        reason = call_reason(trajectory.calls, known_tools(problem))
        if reason == "not_executed":
            done = [c for c in trajectory.calls if c.executed]
            return None if all(c.ok for c in done) else "tool_error"
        return reason

    def _boxed(self, trajectory: Trajectory) -> Trajectory:
        *turns, last = trajectory.turns
        before, mark, said = last.text.rpartition(self.after) if self.after else ("", "", "")
        if not mark or "\\boxed" in last.text:
            return trajectory
        line, end, rest = said.partition("\n")
        answer = line.strip(" \t:*$").removesuffix(".").rstrip(" *$")
        text = f"{before}{mark} \\boxed{{{answer}}}.{end}{rest}"
        return replace(trajectory, turns=(*turns, replace(last, text=text)))


def make_trajectory(row: DialogueRow, problem: Problem, sample: int, box: Toolbox | None
                    ) -> Trajectory:
    """The trajectory of a row. Results that it leaves out are those of `box`.

    Raises:
        UserError: the messages are no trajectory.
    """
    facts = {"problem_id": problem.id, "producer": "teacher:file", "sample": sample}
    if row.text is not None:
        return Trajectory.from_text(row.text, finish=row.finish, **facts)
    messages: list[Mapping[str, Any]] = []
    for said, after in _exchanges(row.messages):
        reply = read_reply({"message": said})
        turn = Turn(render_reply(reply))
        told = [m for m in after if m["role"] == "tool"]
        results = _in_order(reply.calls, len(turn.calls), told)
        if box and any(r is None for r in results):
            ours = [box.execute(c.name, c.arguments).content for c in turn.runnable_calls]
            results = [mine if r is None else r for r, mine in zip(results, ours, strict=False)]
        if None in results and set(results) != {None}:
            raise UserError("one of several calls has no result")
        messages.append({"role": "assistant", "content": turn.text})
        messages += [{"role": "tool", "content": r} for r in results if r is not None]
        messages += [m for m in after if m["role"] != "tool"]
    while messages and messages[-1]["role"] == "tool":  # nobody answers them
        messages.pop()
    finish = "max_turns" if turn.calls else "eos"
    return Trajectory.from_messages(messages, finish=finish, **facts)


def _exchanges(messages: Sequence[Mapping[str, Any]]
               ) -> Iterator[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """Each assistant message with what follows it."""
    if not messages or messages[0]["role"] != "assistant":
        raise UserError("no assistant message follows the question")
    starts = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    for start, end in zip(starts, [*starts[1:], len(messages)], strict=True):
        yield messages[start], list(messages[start + 1:end])


def _in_order(calls: Sequence[Call], n_calls: int, told: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The results in the order of the calls, by their ids where these fit; None where one is
    missing."""
    by_id = {str(m.get("tool_call_id", "")): m for m in told}
    ids = [c.id for c in calls]
    if told and len(by_id) == len(told) and set(by_id) <= set(ids):
        return [by_id[i]["content"] if i in by_id else None for i in ids]
    if len(told) > n_calls:
        raise UserError(f"{len(told)} results follow {n_calls} calls")
    return [m["content"] for m in told] + [None] * (n_calls - len(told))
