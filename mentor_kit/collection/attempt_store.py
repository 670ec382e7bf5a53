"""The append-only store of a collection under way: `attempts.jsonl` in the run folder.

One line an attempt, written whole by one call to the system, keyed by (problem id, sample). A kill
at any byte leaves at most one half line at the end, which the next start cuts off; nothing is ever
rewritten. One collector at a time: the file is locked for as long as it is open. It is no artefact
of the run (it holds raw replies, seconds, retries) and
stays when a finished run is started again: what was paid for is not asked twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from mentor_kit.core.files import atomic_path
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record, paused_gc, row_to_trajectory
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.runs.files import canonical_json

ATTEMPTS = "attempts.jsonl"
BLOCK = 1 << 16  # bytes read at once
Key = tuple[str, int, str]
LOG = b',"log":'  # where a line goes on with what is only kept for people to read


class AttemptStore:
    """Attempts by (problem, sample). Use as a context manager. Memory holds the trajectories,
    without their logs.

    Args:
        path: the file; made with its folder where missing.
        identity: JSON-able facts that all attempts share (teacher, model, sampling, tools). A file
            of another identity is refused.

    Raises:
        UserError: another collector has the file open, or it holds attempts of another identity.
    """

    def __init__(self, path: Path | str, identity: Mapping[str, Any]) -> None:
        self.path, self.damaged = Path(path), 0
        self.rows: dict[Key, tuple[Trajectory, bool]] = {}  # and whether the attempt failed
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            self._lock()
            self._cut_half_line()
            self._read(json.loads(canonical_json(identity)))
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rows.clear()
        os.fsync(self._file)
        os.close(self._file)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"Another collector is writing {str(self.path)!r}: wait for it or stop "
                            "it; two never write one folder.") from None

    def _cut_half_line(self) -> None:
        """Cut what follows the last line end: the line that a kill interrupted."""
        end = size = os.fstat(self._file).st_size
        while end > 0:
            start = max(end - BLOCK, 0)
            found = os.pread(self._file, end - start, start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._file, end)

    def _read(self, identity: Mapping[str, Any]) -> None:
        with open(self.path, "rb", buffering=BLOCK) as lines, paused_gc():
            header = lines.readline()
            for line in lines:
                self._remember(line)
        if not header:
            self._write({"identity": identity})
        elif (other := _loads(header).get("identity")) != identity:
            changed = [n for n in sorted({*identity, *(other or {})})
                       if (other or {}).get(n) != identity.get(n)]
            raise UserError(f"{str(self.path)!r} holds attempts made with another "
                            f"{', '.join(changed)}: collect into another run_dir, or delete that "
                            "file.")

    def _remember(self, line: bytes) -> None:
        end = line.find(LOG)
        try:
            row = json.loads((line[:end] + b"}" if end >= 0 else line).decode())
            if None not in (row["response"], row["meta"]):
                meta = {sys.intern(name): value for name, value in row["meta"].items()}
                trajectory = row_to_trajectory(row, row["problem_id"], meta)
                self.rows[row["problem_id"], row["sample"], row["digest"]] = \
                    trajectory, row["failed"]
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            self.damaged += 1  # by a disk, not by a kill; that attempt is made again

    def _write(self, value: Mapping[str, Any]) -> bytes:
        """Append a line, and return it."""
        line = (json.dumps(value, separators=(",", ":")) + "\n").encode()
        try:
            written, why = os.write(self._file, line), "the line was cut"
        except OSError as error:
            written, why = 0, error.strerror
        if written < len(line):
            raise UserError(f"{str(self.path)!r} cannot grow ({why}): is the disk full? What was "
                            "collected is safe; start again to continue.")
        return line

    def add(self, record: Record, failed: bool, log: Mapping[str, Any]) -> None:
        """Append an attempt. Once this returns, no kill loses it. `log` is kept in the file
        alone."""
        self._remember(self._write({**attempt_row(record, failed), "log": dict(log)}))

    def done(self, problem: Problem, sample: int) -> bool:
        """Whether this attempt was made and answered; one that failed (network, server, deadline)
        is made again."""
        _, failed = self.rows.get(key(problem, sample), (None, True))
        return not failed

    def record(self, problem: Problem, sample: int) -> Record:
        """The stored attempt.

        Raises:
            KeyError: it was never made.
        """
        return Record(problem, self.rows[key(problem, sample)][0])


def take_over(path: Path, identity: Mapping[str, Any]) -> None:
    """Give a study's new run the attempts of the fullest run beside it that share the identity.

    Other sizes, samples, limits or another address make another run of the study; what was paid for
    is not asked twice.
    """
    if path.exists() or not (path.parent / "cell.json").is_file():
        return
    header = {"identity": json.loads(canonical_json(identity))}
    same = [p for cell in path.parent.parent.glob("*/cell.json")
            if _header(p := cell.with_name(ATTEMPTS)) == header]
    if same:
        with atomic_path(path) as temporary:
            shutil.copyfile(max(same, key=lambda p: (p.stat().st_size, p)), temporary)


def _header(path: Path) -> dict[str, Any]:
    with suppress(OSError), open(path, "rb") as file:
        return _loads(file.readline())
    return {}


def _loads(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def key(problem: Problem, sample: int) -> Key:
    """(problem id, sample, digest of what is asked): a problem that was changed under its id is
    another problem."""
    content = json.dumps([problem.question, problem.answers, problem.toolbox])
    return problem.id, sample, hashlib.sha256(content.encode()).hexdigest()[:12]


def attempt_row(record: Record, failed: bool) -> dict[str, Any]:
    """An attempt as stored, without its log."""
    trajectory = record.trajectory
    problem_id, sample, digest = key(record.problem, trajectory.sample)
    return {"problem_id": problem_id, "sample": sample, "digest": digest, "failed": failed,
            "producer": trajectory.producer, "response": trajectory.to_text(),
            "finish": trajectory.finish, "meta": dict(trajectory.meta)}
