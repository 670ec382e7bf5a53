"""A collection as a dataset for others: the column form of `MENTOR-RL/MENTOR-data`, with a dataset
card.

    export_mentor_data(collection, run.path("dataset"), config)

Writes `<split>.parquet` for each split that has references, and `README.md`.
`mentor_kit.problems.mentor_data` reads them back. The same collection gives the same bytes.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentor_kit.core.files import atomic_path
from mentor_kit.core.records import Record
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.runs.files import file_sha256, write_atomic

if TYPE_CHECKING:
    from mentor_kit.collection.collection import Collection
    from mentor_kit.collection.config import CollectConfig

#: What is known of the licences of problem sources, by the source's name in the problems.
LICENCES = {"gsm_symbolic": "Apache-2.0 (reasoning-gym)",
            "arithmetic_stories": "Apache-2.0 (MENTOR kit)",
            "nvidia/AceReason-Math": "CC-BY-4.0"}
CARD = """---
license: other
task_categories: [text-generation]
tags: [tool-use, mentor]
{configs}---
# Teacher trajectories: {source}

Problems with the tools that a teacher used to solve them, in the columns of
`MENTOR-RL/MENTOR-data` (arXiv 2510.18383). Collected with MENTOR kit. Only attempts with a right
answer, tools used and every call carried out are kept.

| split | problems asked | kept | sha256 of the file |
|---|---|---|---|
{counts}

- Teacher: `{teacher}`; attempts a problem: {samples}; selection: `{selection}`
- Teacher options (sampling, limits): {options}
- Problems: `{problems}`, options {problem_options}, seed {seed}
- Licence of the problems: {licence}. Trajectories of a model are also subject to the terms of
  that model or service.

Columns: `question`; `reward_model.ground_truth` (the first accepted answer); `tool_calls_used`
(names, in order, repetitions kept); `extra_info`: `func_schemas` (JSON), `env` (Python source of
the tools' module, which imports mentor_kit), `index`, `problem_id`, `answers` (all accepted),
`trajectory` (the exact text); `data_source`.
"""


def export_mentor_data(collection: Collection, folder: Path | str, config: CollectConfig,
                       teacher: Any = None) -> Path:
    """Write the references of every split and the card. Returns the folder.

    Splits without a reference are in the card's counts only. `teacher` is whom the collection
    asked: the card then lists its model and sampling in full, and not only the options that were
    given.
    """
    folder, counts, lines = Path(folder), collection.counts(), []
    kept = {split: records for split in collection.splits
            if (records := collection.accepted(split))}
    for split in collection.splits:
        digest = "-"
        if split in kept:
            digest = f"`{file_sha256(_write(folder / f'{split}.parquet', kept[split]))}`"
        lines.append(f"| {split} | {counts[f'asked/{split}']} | {counts[f'accepted/{split}']} | "
                     f"{digest} |")
    write_atomic(folder / "README.md", _card(collection, config, teacher, list(kept), lines))
    return folder


def _card(collection: Collection, config: CollectConfig, teacher: Any, splits: Sequence[str],
          counts: Sequence[str]) -> str:
    sources = sorted({r.problem.source for r in collection.records})
    files = "".join(f"  - split: {s}\n    path: {s}.parquet\n" for s in splits)
    configs = f"configs:\n- config_name: default\n  data_files:\n{files}" if files else ""
    licence = "; ".join(
        f"{s}: {LICENCES.get(s, 'not known here, see where the problems come from')}"
        for s in sources
    )
    asked = config.teacher_options
    if hasattr(teacher, "identity"):
        asked = [f"{name}:{' '.join(str(value).split())}" for name,
                 value in teacher.identity().items()
                 if value not in ("", {})]
    return CARD.format(configs=configs, source=", ".join(sources), counts="\n".join(counts),
                       teacher=config.teacher, samples=config.samples, selection=config.selection,
                       problems=config.problems, options=_listed(asked),
                       problem_options=_listed(config.problem_options), seed=config.data_seed,
                       licence=licence)


def _listed(options: Sequence[str]) -> str:
    return ", ".join(f"`{option}`" for option in options) or "the defaults"


def _write(path: Path, records: Sequence[Record]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, texts = pa.string(), pa.list_(pa.string())
    info = pa.struct([("func_schemas", text), ("env", text), ("index", pa.int64()),
                      ("problem_id", text),
                      ("answers", texts), ("trajectory", text)])
    schema = pa.schema([("question", text), ("reward_model", pa.struct([("ground_truth", text)])),
                        ("tool_calls_used", texts), ("extra_info", info), ("data_source", text)])
    table = pa.Table.from_pylist([_row(r, i) for i, r in enumerate(records)], schema=schema)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def _row(record: Record, index: int) -> dict[str, Any]:
    problem = record.problem
    schemas, env = _tools(problem.toolbox)
    info = {"func_schemas": schemas, "env": env, "index": index, "problem_id": problem.id,
            "answers": list(problem.answers), "trajectory": record.trajectory.to_text()}
    return {"question": problem.question, "reward_model": {"ground_truth": problem.answers[0]},
            "tool_calls_used": list(record.trajectory.tool_names), "extra_info": info,
            "data_source": problem.source}


@cache
def _tools(toolbox: str) -> tuple[str, str]:
    """Schemas as JSON, and the source of the module that defines the tools ("" where there is
    none)."""
    box = load_toolbox(toolbox)
    modules = dict.fromkeys(inspect.getmodule(t.function) for t in box.tools.values()
                            if t.given is None)
    try:
        env = "\n\n".join(inspect.getsource(m) for m in modules if m is not None)
    except OSError:
        env = ""
    return json.dumps(box.schemas), env
