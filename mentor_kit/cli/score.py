"""`mentor-kit score`: give stored rollouts their rewards, without a model.

JSONL in: one object a line with `response` (the model's exact text), `ground_truth` (a text, or a
list of which any may match) and `teacher_tools` (the teacher's tool names, or []); `tools` may name
the tools that exist (default: those of the toolbox, else the 12 arithmetic ones). JSONL out: every
field passes through, `score` and `terms` are added (those of an earlier scoring are replaced). A
response without its end token at the end was cut off, and a reward's gate decides it (`not_ended`).
Parquet in (the kit's stored form): Parquet out with `score` and `terms` in each trajectory's meta,
or JSONL by suffix.
"""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mentor_kit.core.chat_markup import EOS
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record, load_records, save_records
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.judging.judge import require_graders
from mentor_kit.rewards import Reward, Score, load_reward, reference_from_names
from mentor_kit.rewards.context import RewardContext
from mentor_kit.runs.files import write_atomic

CONTRACT = ("response (text), ground_truth (text or list of texts), teacher_tools (list of tool "
            "names)")
FIELDS = {"response": (TypeAdapter(str), "a text"),
          "ground_truth": (TypeAdapter(str | list[str]), "a text or a list of texts"),
          "teacher_tools": (TypeAdapter(list[str] | None), "a list of tool names"),
          "tools": (TypeAdapter(list[str] | None), "a list of tool names")}
# how files begin that are not JSON lines in UTF-8 -> what they are, what to do
KINDS = {b"\x1f\x8b": ("packed by gzip", "unpack it by gunzip"),
         b"PK\x03\x04": ("a zip archive", "unpack it"),
         b"\x28\xb5\x2f\xfd": ("packed by zstd", "unpack it by unzstd"),
         b"PAR1": ("Parquet", "name it .parquet"),
         codecs.BOM_UTF16_LE: ("UTF-16", "write it as UTF-8"),
         codecs.BOM_UTF16_BE: ("UTF-16", "write it as UTF-8")}


@dataclass(frozen=True)
class Summary:
    """What `score_file` did.

    Attributes:
        scored: rollouts written to `out`.
        bad: lines left out and written to `bad_out` (None when there are none).
        mean: mean total score, None when nothing was scored.
        judged_by: how many answers each judge decided (`mentor_kit.judging.judge.Verdict.by`), so
            that refusals and time-outs are seen.
        note: a warning for the user; "" without.
    """

    out: Path
    scored: int
    bad: int
    mean: float | None
    judged_by: dict[str, int]
    bad_out: Path | None = None
    note: str = ""

    def __str__(self) -> str:
        mean = "no mean" if self.mean is None else f"mean {self.mean:.4f}"
        judges = ", ".join(f"{name} {count}" for name, count in self.judged_by.items())
        text = (f"{self.scored} rollouts scored in {self.out}, {mean} "
                f"(judged by: {judges or 'nobody'})")
        if self.bad:
            text += f"; {self.bad} bad line{'' if self.bad == 1 else 's'} in {self.bad_out}"
        return f"{text}\nnote: {self.note}" if self.note else text


class BadLine(ValueError):
    """A line that cannot be scored; its message is the reason."""


def score_file(preset: str | Reward, in_path: Path | str, out_path: Path | str,
               toolbox: str | None = None,
               eos: str = EOS, skip_bad: bool = False) -> Summary:
    """Score every rollout of a file; nothing is written unless all (or with `skip_bad`, the rest)
    could be.

    Args:
        preset: anything `load_reward` takes.
        in_path: JSONL, or a Parquet file of trajectories.
        out_path: JSONL, or Parquet when the input is.
        toolbox: name of the toolbox whose tools count as known, instead of each problem's own.
        eos: the end token of the responses (JSONL only: the stored form keeps its own).
        skip_bad: write lines that cannot be scored to `OUT.bad.jsonl` with the reason instead of
            stopping.

    Raises:
        UserError: a file is missing or unreadable, a line is bad (line number and reason), an
            argument is unknown, a reward function fails (line number), or an output is the input or
            neither JSONL nor Parquet.
    """
    reward, in_path, out_path = load_reward(preset), Path(in_path), Path(out_path)
    require_graders()
    if toolbox is not None:
        load_toolbox(toolbox)
    if not in_path.is_file():
        raise UserError(f"No input file {str(in_path)!r}: give a JSONL file with {CONTRACT}, or a "
                        "trajectory Parquet file.")
    _check_output(in_path, out_path)
    if not eos:
        raise UserError("The end token is empty: give the token that ends a turn, e.g. "
                        "'<|im_end|>'.")
    if in_path.suffix == ".parquet":
        return _score_records(reward, in_path, out_path, toolbox)
    if out_path.suffix == ".parquet":
        raise UserError(f"Output {str(out_path)!r} cannot be Parquet for the JSONL input "
                        f"{str(in_path)!r}: name a .jsonl.")
    return _score_lines(reward, in_path, out_path, toolbox, eos, skip_bad)


def _check_output(in_path: Path, out_path: Path) -> None:
    if out_path.is_dir():
        raise UserError(f"Output {str(out_path)!r} is a folder: name a file.")
    if out_path.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"Output {str(out_path)!r} is neither .jsonl nor .parquet: name one of "
                        "these.")
    if in_path.resolve() in (out_path.resolve(), _bad_path(out_path).resolve()):
        raise UserError(f"Output {str(out_path)!r} would overwrite the input {str(in_path)!r}: "
                        "name another file.")


def _bad_path(out_path: Path) -> Path:
    """Where lines that cannot be scored are put aside."""
    return out_path.with_name(out_path.name.removesuffix(".jsonl") + ".bad.jsonl")


def _score_lines(reward: Reward, in_path: Path, out_path: Path, toolbox: str | None, eos: str,
                 skip_bad: bool) -> Summary:
    good, bad, totals, judges, cut = [], [], [], Counter(), []
    for number, raw in _lines(in_path):
        try:
            row = _read_row(raw)
            record = row_to_record(row, number, toolbox, eos)
            score, by = _score(reward, record, f"{in_path}, line {number}")
            good.append(_dump(row | {"score": score.total, "terms": dict(score.terms)}))
        except BadLine as error:
            if not skip_bad:
                raise UserError(f"{in_path}, line {number}: {error}. Nothing was written; repair "
                                "the line, or use --skip-bad to leave it out.") from None
            bad.append(_dump({"line": number, "reason": str(error),
                              "text": raw.decode("utf-8", "replace")}))
            continue
        totals.append(score.total)
        judges[by] += 1
        if record.trajectory.finish != "eos":
            cut.append(row["response"])
    bad_out = _bad_path(out_path)
    _write(out_path, good)
    if bad:
        _write(bad_out, bad)
    else:
        # a stale side file of an earlier attempt would claim bad lines
        bad_out.unlink(missing_ok=True)
    summary = _summary(out_path, totals, judges, len(bad), bad_out if bad else None)
    return replace(summary, note=_note_of_endings(cut, len(totals), eos))


def _note_of_endings(cut: list[str], n: int, eos: str) -> str:
    """How many of n responses lack their end token, and what may be wrong with the file."""
    if not cut:
        return ""
    note = (f"{len(cut)} of {n} responses do not end with the end token {eos!r} and count as cut "
            "off")
    followed = sum(response.rstrip().endswith(eos) for response in cut)
    if followed:
        return f"{note}; in {followed} of them a line break or space follows it: strip that"
    if len(cut) == n:
        return f"{note}; if they end with another one name it by --eos, if with none append it"
    return note


def _score_records(reward: Reward, in_path: Path, out_path: Path, toolbox: str | None) -> Summary:
    records, scored, judges = load_records(in_path), [], Counter()
    for number, record in enumerate(records, 1):
        problem = replace(record.problem, toolbox=toolbox) if toolbox else record.problem
        score, by = _score(reward, replace(record, problem=problem), f"{in_path}, row {number}")
        facts = {"score": score.total, "terms": dict(score.terms)}
        scored.append(replace(record, trajectory=record.trajectory.with_meta(**facts)))
        judges[by] += 1
    totals = [r.trajectory.meta["score"] for r in scored]
    if out_path.suffix == ".parquet":
        save_records(out_path, scored)
    else:
        _write(out_path, [_dump(_record_to_line(r)) for r in scored])
    return _summary(out_path, totals, judges, 0, None)


def _score(reward: Reward, record: Record, place: str) -> tuple[Score, str]:
    """The score, and who judged the answer (cached: the judge works once)."""
    try:
        score = reward(record.problem, record.reference, record.trajectory)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    context = RewardContext(record.problem, record.reference, record.trajectory, judge=reward.judge)
    return score, context.verdict.by


def row_to_record(row: dict[str, Any], number: int, toolbox: str | None = None,
                  eos: str = EOS) -> Record:
    """The record of one input object.

    Raises:
        BadLine: a field is missing or of the wrong type.
    """
    for name, (adapter, kind) in FIELDS.items():
        if name not in row and name != "tools":
            raise BadLine(f"field {name!r} is missing; a line needs {CONTRACT}")
        try:
            adapter.validate_python(row.get(name), strict=True)
        except ValidationError:
            raise BadLine(f"{name} is {_shown(row.get(name))}, it must be {kind}") from None
    golds, tools = row["ground_truth"], row.get("tools")
    golds = [golds] if isinstance(golds, str) else golds
    if not any(g.strip() for g in golds):
        raise BadLine(f"ground_truth is empty, it must be {FIELDS['ground_truth'][1]}")
    problem = Problem(f"line/{number}", "(not stored)", tuple(golds), "jsonl", "scored",
                      toolbox or "arithmetic", {} if tools is None else {"tools": tools})
    return Record(problem, Trajectory.from_text(row["response"], problem.id, eos=eos),
                  reference_from_names(row["teacher_tools"] or (), problem.id))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, bytes) of the lines that are not blank.

    Raises:
        UserError: the file is packed or of an encoding other than UTF-8.
    """
    with path.open("rb") as file:
        start = file.read(4)
        for mark, (kind, fix) in KINDS.items():
            if start.startswith(mark):
                raise UserError(f"{str(path)!r} is {kind}, not JSON lines in UTF-8: {fix}.")
        file.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
        for number, raw in enumerate(file, 1):
            if raw := raw.strip():
                yield number, raw


def _read_row(raw: bytes) -> dict[str, Any]:
    try:
        row = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        _dump(row)  # 1e999 reads as infinity, which JSON cannot hold
    except UnicodeDecodeError as error:
        raise BadLine(f"not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise BadLine("nested too deeply") from None
    except ValueError as error:
        if raw in (b"[", b"{"):
            raise BadLine("JSON over several lines; JSON lines hold one object a line") from None
        raise BadLine(f"not valid JSON ({error})") from None
    if isinstance(row, list):
        raise BadLine("it holds a JSON list; JSON lines hold one object a line, without brackets "
                      "around them")
    if not isinstance(row, dict):
        raise BadLine(f"it holds {_shown(row)}, not an object")
    return row


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _record_to_line(record: Record) -> dict[str, Any]:
    """A stored rollout in the JSONL contract, so that it can be scored again from there."""
    problem, trajectory = record.problem, record.trajectory
    return {"problem_id": problem.id, "split": problem.split, "producer": trajectory.producer,
            "sample": trajectory.sample, "response": trajectory.to_text(),
            "ground_truth": list(problem.answers),
            "teacher_tools": list(record.reference.tool_names) if record.reference else [],
            **trajectory.meta}


def _dump(row: dict[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    # half a surrogate pair is legal in JSON escapes but cannot be written as UTF-8
    return text if text.isascii() or _encodes(text) else json.dumps(row, allow_nan=False)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _write(path: Path, lines: list[str]) -> None:
    write_atomic(path, "".join(line + "\n" for line in lines))


def _summary(out: Path, totals: list[float], judges: Counter[str], bad: int,
             bad_out: Path | None) -> Summary:
    mean = sum(totals) / len(totals) if totals else None
    return Summary(out, len(totals), bad, mean, dict(sorted(judges.items())), bad_out)
