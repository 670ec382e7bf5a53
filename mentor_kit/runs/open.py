"""Start a run's folder, or open one that is finished."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mentor_kit.core.files import find_path, project_root
from mentor_kit.errors import UserError
from mentor_kit.runs.files import (
    canonical_json,
    file_sha256,
    plain,
    read_json,
    read_jsonl,
    write_atomic,
)
from mentor_kit.runs.machine import host_facts
from mentor_kit.runs.run import SCRATCH, STAGE_NOTEBOOKS, Run, notebook_version, run_key


def init_run(run_dir: Path | str = "", *, stage: str, params: Mapping[str, Any],
              inputs: Mapping[str, Run | str | Path | Sequence[Run | str | Path]]
              | None = None) -> Run:
    """Open a run folder: make it, write params.yaml and manifest.json.

    Args:
        run_dir: the folder; "" is results/interactive/<stage>/<key> of the project, for a person in
            JupyterLab.
        stage: the stage's name; in a batch the study's own name of the stage wins.
        params: all parameters of the notebook; `run_dir` and the names in `inputs` are left out of
            the key.
        inputs: parameter name -> the run (or list of runs) it names; each must be finished.

    Raises:
        UserError: an input run is missing, unfinished or damaged, or the folder holds a run with
            other parameters.
    """
    loaded = {name: [_as_run(r) for r in runs] if _is_list(runs) else _as_run(runs)
              for name, runs in (inputs or {}).items()}
    params = {k: v for k, v in plain(params).items() if k not in loaded and k != "run_dir"}
    keys = {name: [r.key for r in runs] if _is_list(runs) else runs.key for name,
            runs in loaded.items()}
    names = {name: [str(r) for r in runs] if _is_list(runs) else str(runs) for name,
             runs in loaded.items()}
    key = run_key(stage, notebook_version(STAGE_NOTEBOOKS.get(stage, stage)), params, keys)
    folder = (Path(run_dir) if str(run_dir)
              else project_root() / "results" / "interactive" / stage / key)
    run = Run(folder, stage, key, params, names)
    if job := read_json(folder / "cell.json"):  # the batch says which stage and key this is
        run.stage, run.key = job["stage"], job["key"]
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
    """Raise UserError where the folder's run was asked something else: neither would be what its
    parameters say."""
    file = run.dir / "params.yaml"
    before = _read_asked(run.dir) if file.is_file() else {"key": run.key}
    if before is None and run.dir.name != run.key:
        raise UserError(f"{str(file)!r} is damaged, so nobody knows whose run {str(run.dir)!r} "
                        "holds: delete this folder, or give another one.")
    if before is None or before.get("key") == run.key:  # else the folder's name says it
        return
    stored = {"stage": before.get("stage"), **before.get("params", {}), **before.get("inputs", {})}
    asked = {"stage": run.stage, **run.params, **run.inputs}
    other = [f"{n}: {asked.get(n)!r} asked, {stored.get(n)!r} stored"
             for n in sorted({*asked, *stored})
             if asked.get(n) != stored.get(n)] or ["another version of the stage"]
    more = f"; and {len(other) - 5} more" if len(other) > 5 else ""
    raise UserError(f"{str(run.dir)!r} holds a run with other parameters "
                    f"({'; '.join(other[:5])}{more}): give another folder, or delete this one.")


def _read_asked(folder: Path) -> dict[str, Any] | None:
    """What params.yaml holds; None where it is damaged."""
    try:
        asked = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    whole = isinstance(asked, dict) and {"stage", "key", "params", "inputs"} <= asked.keys()
    return asked if whole else None


def _prepare(run: Run) -> None:
    """A finished folder starts over; an unfinished one keeps its files, its metrics put aside for
    `resume_metrics`."""
    run.dir.mkdir(parents=True, exist_ok=True)
    if run.is_done():
        (run.dir / "DONE").unlink()
        for name in [*run.artefacts(), "timing.jsonl"]:
            (run.dir / name).unlink(missing_ok=True)
        shutil.rmtree(run.dir / SCRATCH, ignore_errors=True)
    metrics, previous = run.dir / "metrics.jsonl", run.dir / "metrics.previous.jsonl"
    if metrics.is_file():
        kept = dict.fromkeys(map(canonical_json, read_jsonl(previous) + read_jsonl(metrics)))
        write_atomic(previous, "".join(f"{line}\n" for line in kept))
        metrics.unlink()


def _write_asked(run: Run, inputs: Mapping[str, Run | list[Run]]) -> None:
    asked = {"stage": run.stage, "key": run.key, "params": run.params, "inputs": run.inputs}
    write_atomic(run.dir / "params.yaml", yaml.safe_dump(asked, sort_keys=True, allow_unicode=True))
    data = {name: [_input_facts(r) for r in (runs if _is_list(runs) else [runs])] for name,
            runs in inputs.items()}
    manifest = {"stage": run.stage, "key": run.key, "seed": run.params.get("seed"), "inputs": data,
                **host_facts()}
    write_atomic(run.dir / "manifest.json",
                 json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def _input_facts(run: Run) -> dict[str, Any]:
    artefacts = json.loads((run.dir / "DONE").read_text(encoding="utf-8"))["artefacts"]
    return {"run": str(run), "sha256": {name: facts["sha256"] for name, facts in artefacts.items()}}


def load_run(path: Path | str = "", *, stage: str | None = None, verify: bool = False) -> Run:
    """Open a finished run.

    Args:
        path: its folder, relative to the working folder or to the project. "" takes the latest
            finished run of `stage`, one made in JupyterLab (results/interactive) before one made by
            a batch.
        stage: the stage the caller needs; named in the errors.
        verify: compare the hashes of the artefacts too, not only their sizes.

    Raises:
        UserError: no such folder, not finished, or an artefact is missing or changed; says how to
            make it.
    """
    folder = find_path(path) if str(path) else latest_run(stage)
    if folder is None:
        raise UserError(f"No finished run of stage {stage!r} under results/: "
                        f"{_how_to_make(stage or '')}.")
    how = _how_to_make(stage or folder.parent.name)
    if not folder.is_dir():
        raise UserError(f"There is no run at {str(path)!r}: {how}.")
    if not (folder / "DONE").is_file():
        raise UserError(f"The run {str(folder)!r} is not finished (it has no DONE file): {how}.")
    done = _read_done(folder, how)
    _check_artefacts(folder, done["artefacts"], verify, how)
    asked = _read_asked(folder)
    if asked is None:
        raise UserError(f"{str(folder / 'params.yaml')!r} is damaged; delete the run's folder, "
                        f"then {how}.")
    return Run(folder, done["stage"], done["key"], asked["params"], asked["inputs"], done["facts"])


def _read_done(folder: Path, how: str) -> dict[str, Any]:
    done = read_json(folder / "DONE") or {}
    if not {"stage", "key", "facts", "artefacts"} <= done.keys():
        raise UserError(f"{str(folder / 'DONE')!r} is damaged; delete it, then {how}.")
    return done


def _check_artefacts(folder: Path, listing: Mapping[str, Mapping[str, Any]], verify: bool,
                     how: str) -> None:
    for name, facts in listing.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"The run {str(folder)!r} has lost its artefact {name!r}: {how}.")
        if path.stat().st_size != facts["bytes"] or (verify
                                                     and file_sha256(path) != facts["sha256"]):
            raise UserError(f"{str(path)!r} is not the file its run wrote (size or hash differs): "
                            f"{how}.")


def latest_run(stage: str | None = None) -> Path | None:
    """The folder of the latest finished run of a stage, one made in JupyterLab before one made by a
    batch; None where there is none."""
    root = project_root() / "results"
    done = [path.parent for path in root.glob(f"*/{stage or '*'}/*/DONE")]
    return max(done, default=None, key=lambda p: (p.parent.parent.name == "interactive",
                                                  (p / "DONE").stat().st_mtime_ns))


def _how_to_make(stage: str) -> str:
    notebook = STAGE_NOTEBOOKS.get(stage)
    other = f" or notebook {notebook}" if notebook else ""
    return f"run `mentor-kit batch params/demo.yaml`{other} first"


def latest_study(results: Path | str = "") -> list[Path]:
    """Folders of the finished runs of the study that finished a run last (results/interactive is no
    study).

    Raises:
        UserError: there is no finished run.
    """
    root = Path(results) if str(results) else project_root() / "results"
    done = [p for p in root.glob("*/*/*/DONE") if p.parts[-4] != "interactive"]
    if not done:
        raise UserError(f"No finished study under {str(root)!r}: {_how_to_make('')}.")
    study = max(done, key=lambda p: p.stat().st_mtime_ns).parents[2]
    return sorted(p.parent for p in study.glob("*/*/DONE") if p.parts[-3] != "figures")
