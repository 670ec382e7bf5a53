"""One run: the folder results/<study>/<stage>/<key>/ that one execution of one notebook writes.

    run = init_run(run_dir, stage="train", params=config, inputs={"teacher_run": teacher})
    run.log({"step": 1, "loss": 0.5})                # one line of metrics.jsonl
    with run.time("train"): ...                      # one line of timing.jsonl
    save_records(run.path("trajectories.parquet"), records)
    run.finish(accuracy=0.5)                         # DONE, written last

`key` hashes the stage, its integer version, the parameters and the keys of the input runs; never
the commit. Dates, wall times and host facts are in `manifest.json` and `timing.jsonl` alone, so
that the same parameters and seed give the same bytes everywhere else. A finished run that is
started again starts over; an unfinished one continues (its files stay).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentor_kit.core.files import sync
from mentor_kit.runs.card import run_card
from mentor_kit.runs.files import (
    append_jsonl,
    canonical_json,
    file_sha256,
    plain,
    read_jsonl,
    write_atomic,
)
from mentor_kit.runs.progress import PROGRESS

# The integer version of what a notebook computes: bump it when its artefacts would change.
NOTEBOOK_VERSIONS = {"01_teacher_trajectories": 3, "02_reward_design": 4, "03_rl_training": 3,
                     "04_evaluation": 4,
                     "05_paper_figures": 6}
STAGE_NOTEBOOKS = {"collect": "01_teacher_trajectories", "cold_start": "03_rl_training",
                   "train": "03_rl_training",
                   "design": "02_reward_design", "evaluate": "04_evaluation",
                   "evaluate_constrained": "04_evaluation",
                   "figures": "05_paper_figures"}
NOTEBOOK_CONFIGS = {"01_teacher_trajectories": "mentor_kit.collection.config:CollectConfig",
                    "02_reward_design": "mentor_kit.evaluation.config:DesignConfig",
                    "03_rl_training": "mentor_kit.training.config:TrainConfig",
                    "04_evaluation": "mentor_kit.evaluation.config:EvaluateConfig",
                    "05_paper_figures": "mentor_kit.analysis.config:FiguresConfig"}
# Files about the execution rather than of its outcome: not listed in DONE, not compared between
# runs.
EXECUTION_FILES = {"manifest.json", "timing.jsonl", "cell.json", "cell.log", "notebook.ipynb",
                   "notebook.partial.ipynb",
                   "DONE", "FAILED", ".lock", "metrics.previous.jsonl", "attempts.jsonl",
                   PROGRESS}
# a folder of a run that is no artefact: what an interrupted training continues from
SCRATCH = "checkpoints"


def run_key(stage: str, version: int, params: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """12 hexadecimal digits that name a run. `inputs`: parameter name -> key, or list of keys, of
    the input runs."""
    content = {"stage": stage, "version": version, "params": params, "inputs": inputs}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:12]


def notebook_version(notebook: str) -> int:
    return NOTEBOOK_VERSIONS.get(notebook, 1)


@dataclass
class Run:
    """A run folder. `facts` are the keyword arguments of `finish`; `inputs` name the input runs as
    stage/key."""

    dir: Path
    stage: str
    key: str
    params: dict[str, Any] = field(default_factory=dict, repr=False)
    inputs: dict[str, Any] = field(default_factory=dict, repr=False)
    facts: dict[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{self.stage}/{self.key}"

    def _repr_html_(self) -> str:
        return run_card(self, NOTEBOOK_CONFIGS.get(STAGE_NOTEBOOKS.get(self.stage, "")))

    def path(self, name: str) -> Path:
        """Where the artefact `name` lives; its parent folder exists."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def is_done(self) -> bool:
        return (self.dir / "DONE").is_file()

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl. No times here: they go to `time`, or the same seed
        gives other bytes."""
        append_jsonl(self.path("metrics.jsonl"), metrics)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return read_jsonl(self.dir / "metrics.jsonl")

    def resume_metrics(self, step: int) -> None:
        """Call when training (re)starts after `step` (0: from scratch), so that metrics.jsonl is as
        if unbroken.

        Lines with a `step` above the given one are dropped; what an earlier, killed attempt logged
        up to `step` is put back. Lines without a `step` stay.
        """
        previous = self.dir / "metrics.previous.jsonl"
        now = [row for row in self.metrics() if row.get("step", 0) <= step]
        earlier = [row for row in read_jsonl(previous) if 0 <= row.get("step", -1) <= step]
        lines = dict.fromkeys(map(canonical_json, now + earlier))
        write_atomic(self.dir / "metrics.jsonl", "".join(f"{line}\n" for line in lines))
        previous.unlink(missing_ok=True)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Append the wall time of the block, in seconds, to timing.jsonl (one line an attempt, also
        a failed one)."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.log_time(name, time.perf_counter() - started)

    def log_time(self, name: str, seconds: float, **facts: Any) -> None:
        append_jsonl(self.path("timing.jsonl"),
                     {"name": name, "seconds": round(seconds, 4), **facts})

    def artefacts(self) -> list[str]:
        """Relative names of the files that are this run's outcome."""
        files = (p.relative_to(self.dir) for p in self.dir.rglob("*") if p.is_file())
        return sorted(f.as_posix() for f in files if f.parts[0] not in EXECUTION_FILES | {SCRATCH}
                      and not any(part.endswith(".tmp") for part in f.parts))

    def finish(self, *, not_deterministic: Sequence[str] = (), **facts: Any) -> Run:
        """Write DONE: names, sizes and hashes of all artefacts, and `facts`. The last act of a
        notebook.

        `not_deterministic` names the artefacts whose bytes may differ between equal runs.
        """
        (self.dir / "metrics.previous.jsonl").unlink(missing_ok=True)
        for name in self.artefacts():  # DONE rests on them, also after a crash of the machine
            sync(self.dir / name)
        listing = {name: {"bytes": (self.dir / name).stat().st_size,
                          "sha256": file_sha256(self.dir / name),
                          "deterministic": name not in not_deterministic}
                   for name in self.artefacts()}
        self.facts = plain(facts)
        content = {"stage": self.stage, "key": self.key, "facts": self.facts, "artefacts": listing}
        write_atomic(self.dir / "DONE",
                     json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        return self

