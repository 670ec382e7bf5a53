"""The one stored form of trajectories: a Parquet file of problem, trajectory and reference.

Teacher collection, training rollouts and evaluation all write this form, so any of them can be
scored, compared and plotted by the same code. Written atomically (temporary file, then rename) and
without dates, so the same content gives the same bytes.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mentor_kit.core.chat_markup import utf8
from mentor_kit.core.files import atomic_path
from mentor_kit.core.html import record_html
from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError

CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
ROW_GROUP = 5_000  # records that stand as a table beside themselves


@dataclass(frozen=True)
class Record:
    """A trajectory with its problem and, where there is one, the teacher's reference trajectory."""

    problem: Problem
    trajectory: Trajectory
    reference: Trajectory | None = None

    def _repr_html_(self) -> str:
        return record_html(self)


@contextmanager
def paused_gc() -> Iterator[None]:
    """For reading or writing many rows: they hold no circles, and Python's collector would walk
    all of them again and again."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def to_json(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces. For columns whose content varies."""
    return CANONICAL.encode(value)


# column -> how a record gives it
COLUMNS: dict[str, Callable[[Record], Any]] = {
    "problem_id": lambda r: utf8(r.problem.id),
    "question": lambda r: utf8(r.problem.question),
    "answers": lambda r: [utf8(answer) for answer in r.problem.answers],
    "source": lambda r: utf8(r.problem.source),
    "split": lambda r: utf8(r.problem.split),
    "toolbox": lambda r: utf8(r.problem.toolbox),
    "problem_meta": lambda r: utf8(to_json(r.problem.meta)),
    "producer": lambda r: utf8(r.trajectory.producer),
    "sample": lambda r: r.trajectory.sample,
    "response": lambda r: utf8(r.trajectory.to_text()),
    "finish": lambda r: r.trajectory.finish,
    "meta": lambda r: utf8(to_json(r.trajectory.meta)),
    "reference": lambda r: utf8(r.reference.to_text()) if r.reference else None,
}


def record_to_row(record: Record) -> dict[str, Any]:
    return {name: value(record) for name, value in COLUMNS.items()}


# how files of earlier versions name the ways in which a trajectory ends
OLD_NAMES = {"tool_cap": "max_turns", "turn_limit": "max_turns", "overlong": "length"}


def row_to_record(row: dict[str, Any]) -> Record:
    problem = Problem(row["problem_id"], row["question"], tuple(row["answers"]), row["source"],
                      row["split"],
                      row["toolbox"], json.loads(row["problem_meta"]))
    trajectory = row_to_trajectory(row, problem.id, json.loads(row["meta"]))
    reference = (Trajectory.from_text(row["reference"], problem.id) if row["reference"] is not None
                 else None)
    return Record(problem, trajectory, reference)


def row_to_trajectory(row: Mapping[str, Any], problem_id: str, meta: Mapping[str, Any]
                      ) -> Trajectory:
    """The trajectory of a stored row; names of earlier versions become today's."""
    renamed = {key: OLD_NAMES[meta[key]] for key in ("failure", "reason")
               if isinstance(meta.get(key), str) and meta[key] in OLD_NAMES}
    return Trajectory.from_text(row["response"], problem_id,
                                finish=sys.intern(OLD_NAMES.get(row["finish"], row["finish"])),
                                producer=sys.intern(row["producer"]), sample=row["sample"],
                                meta={**meta, **renamed} if renamed else meta)


def save_records(path: Path | str, records: Iterable[Record]) -> Path:
    """Write records to a Parquet file that `datasets.load_dataset("parquet", ...)` reads."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    kinds = {"answers": pa.list_(text), "sample": pa.int64()}
    schema = pa.schema([(name, kinds.get(name, text)) for name in COLUMNS])
    records = iter(records)
    options = {"compression": "zstd", "write_page_checksum": True}
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, **options) as file:
        while group := list(islice(records, ROW_GROUP)):
            columns = [pa.array([value(r) for r in group], kind)
                       for value, kind in zip(COLUMNS.values(), schema.types, strict=True)]
            file.write_batch(pa.record_batch(columns, schema))
    return Path(path)


def load_records(path: Path | str) -> list[Record]:
    """Read a Parquet file of trajectories.

    Raises:
        UserError: the file is missing, damaged, or not a trajectory file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        raise UserError(f"No trajectory file at {str(path)!r}: run the stage that writes it first.")
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        missing = [c for c in COLUMNS if c not in table.column_names]
        with paused_gc():
            records = [] if missing else [row_to_record(row) for row in table.to_pylist()]
    # damage shows as any of these
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{str(path)!r} is not a readable Parquet file of trajectories ({reason}); "
                        "if a stage wrote it, delete it and run the stage again.") from error
    if missing:
        raise UserError(
            f"{str(path)!r} is not a trajectory file: column {missing[0]!r} is missing."
        )
    return records
