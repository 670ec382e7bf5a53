"""One run: the folder results/<study>/<stage>/<key>/ that one execution of one notebook writes.

    run = start_run(run_dir, stage="train", params=config, inputs={"teacher_run": teacher})
    run.log({"step": 1, "loss": 0.5})                # one line of metrics.jsonl
    with run.time("train"): ...                      # one line of timing.jsonl
    save_records(run.path("trajectories.parquet"), records)
    run.finish(accuracy=0.5)                         # DONE, written last

`key` hashes the stage, its integer version, the parameters and the keys of the input runs; never the
commit. Dates, wall times and host facts are in `manifest.json` and `timing.jsonl` alone, so that the
same parameters and seed give the same bytes everywhere else. A finished run that is started again
starts over; an unfinished one continues (its files stay).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentor_kit.errors import UserError

# The integer version of what a notebook computes: bump it when its artefacts would change.
NOTEBOOK_VERSIONS = {"01_teacher_trajectories": 3, "02_reward_design": 4, "03_rl_training": 3, "04_evaluation": 4,
                     "05_paper_figures": 5}
STAGE_NOTEBOOKS = {"collect": "01_teacher_trajectories", "cold_start": "03_rl_training", "train": "03_rl_training",
                   "design": "02_reward_design", "evaluate": "04_evaluation", "evaluate_constrained": "04_evaluation",
                   "figures": "05_paper_figures"}
# Files about the execution rather than of its outcome: not listed in DONE, not compared between runs.
EXECUTION_FILES = {"manifest.json", "timing.jsonl", "cell.json", "cell.log", "notebook.ipynb", "notebook.partial.ipynb",
                   "DONE", "FAILED", ".lock", "metrics.previous.jsonl", "attempts.jsonl", "progress.txt"}
PROGRESS = "progress.txt"  # one line about a run under way, shown by the batch
SCRATCH = "checkpoints"  # a folder of a run that is no artefact: what an interrupted training continues from


def write_atomic(path: Path | str, text: str) -> Path:
    """Write a text file so that a reader sees the old content or the new, never a half."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return path


def canonical_json(value: Any) -> str:
    """Sorted keys, no spaces, numpy scalars as numbers, nan and infinities as null."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "tolist"):  # a numpy or torch scalar or array
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_key(stage: str, version: int, params: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """12 hexadecimal digits that name a run. `inputs`: parameter name -> key, or list of keys, of the input runs."""
    content = {"stage": stage, "version": version, "params": params, "inputs": inputs}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:12]


def notebook_version(notebook: str) -> int:
    return NOTEBOOK_VERSIONS.get(notebook, 1)


def project_root(start: Path | str | None = None) -> Path:
    """The nearest folder at or above `start` (default: the working folder) that holds notebooks/; else `start`."""
    here = Path(start or Path.cwd()).resolve()
    return next((folder for folder in (here, *here.parents) if (folder / "notebooks").is_dir()), here)


@dataclass
class Run:
    """A run folder. `facts` are the keyword arguments of `finish`; `inputs` name the input runs as stage/key."""

    dir: Path
    stage: str
    key: str
    params: dict[str, Any] = field(default_factory=dict, repr=False)
    inputs: dict[str, Any] = field(default_factory=dict, repr=False)
    facts: dict[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{self.stage}/{self.key}"

    def path(self, name: str) -> Path:
        """Where the artefact `name` lives; its parent folder exists."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def is_done(self) -> bool:
        return (self.dir / "DONE").is_file()

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl. No times here: they go to `time`, or the same seed gives other bytes."""
        with open(self.path("metrics.jsonl"), "a", encoding="utf-8") as file:
            file.write(canonical_json(metrics) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return [json.loads(line) for line in _lines(self.dir / "metrics.jsonl")]

    def resume_metrics(self, step: int) -> None:
        """Call when training (re)starts after `step` (0: from scratch), so that metrics.jsonl is as if unbroken.

        Lines with a `step` above the given one are dropped; what an earlier, killed attempt logged up to
        `step` is put back. Lines without a `step` stay.
        """
        previous = self.dir / "metrics.previous.jsonl"
        now = [line for line in _lines(self.dir / "metrics.jsonl") if json.loads(line).get("step", 0) <= step]
        earlier = [line for line in _lines(previous) if 0 <= json.loads(line).get("step", -1) <= step]
        write_atomic(self.dir / "metrics.jsonl", "".join(f"{line}\n" for line in dict.fromkeys(now + earlier)))
        previous.unlink(missing_ok=True)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Append the wall time of the block, in seconds, to timing.jsonl (one line an attempt, also a failed one)."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.log_time(name, time.perf_counter() - started)

    def log_time(self, name: str, seconds: float, **facts: Any) -> None:
        with open(self.path("timing.jsonl"), "a", encoding="utf-8") as file:
            file.write(canonical_json({"name": name, "seconds": round(seconds, 4), **facts}) + "\n")

    def timing(self) -> dict[str, float]:
        """Total seconds by name, over all attempts."""
        total: dict[str, float] = {}
        for line in map(json.loads, _lines(self.dir / "timing.jsonl")):
            total[line["name"]] = total.get(line["name"], 0.0) + line["seconds"]
        return total

    def artefacts(self) -> list[str]:
        """Relative names of the files that are this run's outcome."""
        files = (p.relative_to(self.dir) for p in self.dir.rglob("*") if p.is_file())
        return sorted(f.as_posix() for f in files if f.parts[0] not in EXECUTION_FILES | {SCRATCH}
                      and f.suffix != ".tmp")

    def finish(self, *, not_deterministic: Sequence[str] = (), **facts: Any) -> Run:
        """Write DONE: names, sizes and hashes of all artefacts, and `facts`. The last act of a notebook.

        `not_deterministic` names the artefacts whose bytes may differ between equal runs.
        """
        (self.dir / "metrics.previous.jsonl").unlink(missing_ok=True)
        listing = {name: {"bytes": (self.dir / name).stat().st_size, "sha256": file_sha256(self.dir / name),
                          "deterministic": name not in not_deterministic} for name in self.artefacts()}
        self.facts = _plain(facts)
        content = {"stage": self.stage, "key": self.key, "facts": self.facts, "artefacts": listing}
        write_atomic(self.dir / "DONE", json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        return self


def file_sha256(path: Path | str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lines(path: Path) -> list[str]:
    """Whole lines of a file; a last one cut by a kill is dropped."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text.split("\n")[:-1]


def start_run(run_dir: Path | str = "", *, stage: str, params: Mapping[str, Any],
              inputs: Mapping[str, Run | str | Path | Sequence[Run | str | Path]] | None = None) -> Run:
    """Open a run folder: make it, write params.yaml and manifest.json.

    Args:
        run_dir: the folder; "" is results/interactive/<stage>/<key> of the project, for a person in JupyterLab.
        stage: the stage's name; in a batch the study's own name of the stage wins.
        params: all parameters of the notebook; `run_dir` and the names in `inputs` are left out of the key.
        inputs: parameter name -> the run (or list of runs) it names; each must be finished.

    Raises:
        UserError: an input run is missing, unfinished or damaged, or the folder holds a run with other parameters.
    """
    loaded = {name: [_as_run(r) for r in runs] if _is_list(runs) else _as_run(runs)
              for name, runs in (inputs or {}).items()}
    params = {k: v for k, v in _plain(params).items() if k not in loaded and k != "run_dir"}
    keys = {name: [r.key for r in runs] if _is_list(runs) else runs.key for name, runs in loaded.items()}
    names = {name: [str(r) for r in runs] if _is_list(runs) else str(runs) for name, runs in loaded.items()}
    key = run_key(stage, notebook_version(STAGE_NOTEBOOKS.get(stage, stage)), params, keys)
    folder = Path(run_dir) if str(run_dir) else project_root() / "results" / "interactive" / stage / key
    run = Run(folder, stage, key, params, names)
    if (folder / "cell.json").is_file():  # the batch says which stage and key this folder is
        cell = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
        run.stage, run.key = cell["stage"], cell["key"]
    if stage != "collect":  # a collection goes on with other sizes: its attempts know who made them
        _refuse_other(run)
    _prepare(run)
    _write_asked(run, loaded)
    return run


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _as_run(run: Run | str | Path) -> Run:
    return run if isinstance(run, Run) else load_run(run)


def _refuse_other(run: Run) -> None:
    """Raise UserError where the folder's run was asked something else: neither would be what its parameters say."""
    import yaml

    file = run.dir / "params.yaml"
    before = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {"key": run.key}
    if before.get("key") == run.key:
        return
    stored = {"stage": before.get("stage"), **before.get("params", {}), **before.get("inputs", {})}
    asked = {"stage": run.stage, **run.params, **run.inputs}
    other = [f"{n}: {asked.get(n)!r} asked, {stored.get(n)!r} stored" for n in sorted({*asked, *stored})
             if asked.get(n) != stored.get(n)] or ["another version of the stage"]
    more = f"; and {len(other) - 5} more" if len(other) > 5 else ""
    raise UserError(f"{str(run.dir)!r} holds a run with other parameters ({'; '.join(other[:5])}{more}): give another "
                    "folder, or delete this one.")


def _prepare(run: Run) -> None:
    """A finished folder starts over; an unfinished one keeps its files, its metrics put aside for `resume_metrics`."""
    run.dir.mkdir(parents=True, exist_ok=True)
    if run.is_done():
        (run.dir / "DONE").unlink()
        for name in [*run.artefacts(), "timing.jsonl"]:
            (run.dir / name).unlink(missing_ok=True)
        shutil.rmtree(run.dir / SCRATCH, ignore_errors=True)
    metrics, previous = run.dir / "metrics.jsonl", run.dir / "metrics.previous.jsonl"
    if metrics.is_file():
        kept = dict.fromkeys(_lines(previous) + _lines(metrics))
        write_atomic(previous, "".join(f"{line}\n" for line in kept))
        metrics.unlink()


def _write_asked(run: Run, inputs: Mapping[str, Run | list[Run]]) -> None:
    import yaml

    from mentor_kit.host import host_facts

    asked = {"stage": run.stage, "key": run.key, "params": run.params, "inputs": run.inputs}
    write_atomic(run.dir / "params.yaml", yaml.safe_dump(asked, sort_keys=True, allow_unicode=True))
    data = {name: [_input_facts(r) for r in (runs if _is_list(runs) else [runs])] for name, runs in inputs.items()}
    manifest = {"stage": run.stage, "key": run.key, "seed": run.params.get("seed"), "inputs": data, **host_facts()}
    write_atomic(run.dir / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def _input_facts(run: Run) -> dict[str, Any]:
    artefacts = json.loads((run.dir / "DONE").read_text(encoding="utf-8"))["artefacts"]
    return {"run": str(run), "sha256": {name: facts["sha256"] for name, facts in artefacts.items()}}


def load_run(path: Path | str = "", *, stage: str | None = None, verify: bool = False) -> Run:
    """Open a finished run.

    Args:
        path: its folder, relative to the working folder or to the project. "" takes the latest finished run of
            `stage`, one made in JupyterLab (results/interactive) before one made by a batch.
        stage: the stage the caller needs; named in the errors.
        verify: compare the hashes of the artefacts too, not only their sizes.

    Raises:
        UserError: no such folder, not finished, or an artefact is missing or changed; says how to make it.
    """
    folder = _latest(stage) if not str(path) else _find(path)
    how = _how_to_make(stage or folder.parent.name)
    if not folder.is_dir():
        raise UserError(f"There is no run at {str(path)!r}: {how}.")
    if not (folder / "DONE").is_file():
        raise UserError(f"The run {str(folder)!r} is not finished (it has no DONE file): {how}.")
    done = _read_done(folder, how)
    _check_artefacts(folder, done["artefacts"], verify, how)
    import yaml

    asked = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    return Run(folder, done["stage"], done["key"], asked["params"], asked["inputs"], done["facts"])


def _read_done(folder: Path, how: str) -> dict[str, Any]:
    try:
        return json.loads((folder / "DONE").read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{str(folder / 'DONE')!r} is damaged; delete it, then {how}.") from error


def _check_artefacts(folder: Path, listing: Mapping[str, Mapping[str, Any]], verify: bool, how: str) -> None:
    for name, facts in listing.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"The run {str(folder)!r} has lost its artefact {name!r}: {how}.")
        if path.stat().st_size != facts["bytes"] or (verify and file_sha256(path) != facts["sha256"]):
            raise UserError(f"{str(path)!r} is not the file its run wrote (size or hash differs): {how}.")


def _find(path: Path | str) -> Path:
    path = Path(path)
    return path if path.is_absolute() or path.is_dir() else project_root() / path


def _latest(stage: str | None) -> Path:
    root = project_root() / "results"
    done = [path.parent for path in root.glob(f"*/{stage or '*'}/*/DONE")]
    if not done:
        raise UserError(f"No finished run of stage {stage!r} under results/: {_how_to_make(stage or '')}.")
    return max(done, key=lambda p: (p.parent.parent.name == "interactive", (p / "DONE").stat().st_mtime_ns))


def _how_to_make(stage: str) -> str:
    notebook = STAGE_NOTEBOOKS.get(stage)
    return f"run `mentor-kit batch params/demo.yaml`{f' or notebook {notebook}' if notebook else ''} first"


def latest_study(results: Path | str = "") -> list[Path]:
    """Folders of the finished runs of the study that finished a run last (results/interactive is no study).

    Raises:
        UserError: there is no finished run.
    """
    root = Path(results) if str(results) else project_root() / "results"
    done = [p for p in root.glob("*/*/*/DONE") if p.parts[-4] != "interactive"]
    if not done:
        raise UserError(f"No finished study under {str(root)!r}: {_how_to_make('')}.")
    study = max(done, key=lambda p: p.stat().st_mtime_ns).parents[2]
    return sorted(p.parent for p in study.glob("*/*/DONE") if p.parts[-3] != "figures")
