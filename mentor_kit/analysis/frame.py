"""Tidy frames of finished runs: one row a run, a training step, an evaluated item.

A run is a finished folder results/<study>/<stage>/<key>/ (see `mentor_kit.runs.run`). Read are its
parameters, `metrics.jsonl` (curves), `budget.json` and `timing.jsonl` (what a training run used),
and `trajectories.parquet` of evaluations. Stages are known by the beginning of their name:
`train...`, `evaluate...`, `figures`. A parameter that a run does not have itself is that of the
runs it was made from. Everything is sorted, so the same runs give the same frames wherever they
lie. What a study varies beside method and seed is in columns of its own
(`mentor_kit.analysis.conditions`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mentor_kit.analysis.conditions import (
    CONDITIONS,
    at_main,
    run_conditions,
    without_teacher,
)
from mentor_kit.core.problem import known_tools
from mentor_kit.core.records import load_records
from mentor_kit.errors import UserError
from mentor_kit.metrics.trajectories import record_metrics, tool_names
from mentor_kit.runs.files import read_jsonl
from mentor_kit.runs.open import load_run, project_root
from mentor_kit.runs.run import Run

TRAIN, EVALUATE, FIGURES, INTERACTIVE = "train", "evaluate", "figures", "interactive"
ALIASES = {"completions/mean_length": "response_length"}  # TRL's names -> ours
IDENTITY = ["study", "stage", "key", "method", "seed", *CONDITIONS]


@dataclass(frozen=True)
class Results:
    """The frames of some runs, to be read: `training` and `main_items` are made of them once.

    Args:
        runs: study, stage, key, method, seed, conditions, params (dict), folder.
        curves: rows of `metrics.jsonl` that have a `step`, of all stages but evaluation, with the
            identity columns.
        items: one row an evaluated item: identity, split, problem_id, sample, tools, teacher_tools
            (tuples of names, unknown ones as `<unknown>`; None without a reference),
            teacher_correct (the share of the teacher's attempts that the judge calls right; None
            where it was not asked) and `record_metrics`.
        budgets: one row a training run: identity and the contents of `budget.json`.
        wall_times: one row a run and timed name: identity, name, seconds. Not reproducible: keep
            out of figures.
        unfinished: how many run folders were left out because they have no `DONE`.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    items: pd.DataFrame
    budgets: pd.DataFrame
    wall_times: pd.DataFrame
    unfinished: int = 0

    @property
    def studies(self) -> list[str]:
        return sorted(self.runs["study"].unique())

    @cached_property
    def training(self) -> pd.DataFrame:
        """Curves of the training stages under the main conditions."""
        return at_main(self.curves[self.curves["stage"].str.startswith(TRAIN)])

    @cached_property
    def main_items(self) -> pd.DataFrame:
        """Evaluated items under the main conditions (see `conditions.main_cell`)."""
        return at_main(self.items)

    @property
    def teacher_counts(self) -> Counter[str]:
        """Tool counts of the references, each evaluated problem once."""
        once = self.items.dropna(subset="teacher_tools").drop_duplicates(["study", "split",
                                                                          "problem_id"])
        return Counter(name for names in once["teacher_tools"] for name in names)

    def of_study(self, study: str) -> Results:
        frames = {n: getattr(self, n) for n in ("runs", "curves", "items", "budgets", "wall_times")}
        return replace(self,
                       **{n: f[f["study"] == study].reset_index(drop=True) for n,
                          f in frames.items()})


def load_results(where: Path | str | Iterable[Path | str]) -> Results:
    """Read a results folder (or a study's, a stage's, a run's), or several of them.

    Raises:
        UserError: nothing there, no finished run, a damaged file, or two runs of the same method,
            seed and data size that would be averaged as if they were different seeds.
    """
    finished, unfinished = find_runs([where] if isinstance(where, Path | str) else where)
    load = cache(load_run)
    runs = [_identity(folder, load) for folder in finished]
    runs = sorted(runs,
                  key=lambda r: (r["study"], r["stage"], r["method"], str(r["seed"]), r["key"]))
    results = Results(pd.DataFrame(runs, columns=[*IDENTITY, "params", "folder"]),
                      _stack(runs, _curve_rows, ["step"]), _stack(runs, _item_rows, ITEM_COLUMNS),
                      _stack(runs, _budget_rows, []),
                      _stack(runs, _timing_rows, ["name", "seconds"]), unfinished)
    same = ["method", "seed", *CONDITIONS]
    _refuse_doubles(results.curves[results.curves["stage"].str.startswith(TRAIN)], [*same, "step"])
    _refuse_doubles(results.items, [*same, "split", "problem_id", "sample"])
    return replace(results, curves=without_teacher(results.curves),
                   items=without_teacher(results.items))


def find_runs(where: Iterable[Path | str]) -> tuple[list[Path], int]:
    """Finished run folders below some folders, and the number of unfinished ones.

    Runs of the figures stage do not count, nor do a person's own runs (results/interactive) unless
    that folder, or one in it, is named.
    """
    folders: set[Path] = set()
    for root in (p if p.is_dir() else project_root() / p for p in map(Path, where)):
        if not root.is_dir():
            raise UserError(f"No results folder at {str(root)!r}: run `mentor-kit batch` first or "
                            "name another.")
        found = (p.parent for p in root.rglob("params.yaml"))
        folders |= {f.resolve() for f in found if INTERACTIVE not in f.relative_to(root).parts}
    folders = {f for f in folders if f.parent.name != FIGURES}
    finished = sorted(f for f in folders if (f / "DONE").exists())
    if not finished:
        places = ", ".join(map(str, where))
        raise UserError(f"No finished run below {places!r}: run `mentor-kit batch` and wait for "
                        "its end.")
    return finished, len(folders) - len(finished)


def _identity(folder: Path, load: Callable[[Path], Run]) -> dict[str, Any]:
    run = load(folder)
    return {"study": folder.parent.parent.name, "stage": folder.parent.name, "key": folder.name,
            "method": str(_parameter(run, "method", "", load)),
            "seed": _parameter(run, "seed", 0, load),
            **run_conditions(run, load), "params": run.params, "folder": folder}


def _parameter(run: Run, name: str, default: Any, load: Callable[[Path], Run] = load_run) -> Any:
    """A parameter of a run, else of the runs (stage/key of the same study) that it was made
    from."""
    if name in run.params:
        return run.params[name]
    inputs = (i for value in run.inputs.values()
              for i in (value if isinstance(value, list) else [value]))
    folders = (run.dir.parent.parent / i for i in inputs)
    found = (_parameter(load(f), name, None, load) for f in folders if (f / "DONE").exists())
    return next((value for value in found if value is not None), default)


def _stack(runs: list[dict[str, Any]], rows_of: Any, columns: list[str]) -> pd.DataFrame:
    """One frame of the rows of all runs, identity columns first, other columns as they come."""
    rows = [{c: run[c] for c in IDENTITY} | row for run in runs for row in rows_of(run)]
    names = dict.fromkeys([*IDENTITY, *columns, *(name for row in rows for name in row)])
    return pd.DataFrame(rows, columns=list(names))


def _curve_rows(run: dict[str, Any]) -> list[dict[str, Any]]:
    if run["stage"].startswith(EVALUATE):
        return []
    rows = [row for row in read_jsonl(run["folder"] / "metrics.jsonl") if "step" in row]
    return [{ALIASES.get(name, name): value for name, value in row.items()} for row in rows]


def _budget_rows(run: dict[str, Any]) -> list[dict[str, Any]]:
    path = run["folder"] / "budget.json"
    return ([json.loads(path.read_text(encoding="utf-8"))] if run["stage"].startswith(TRAIN)
            and path.exists() else [])


def _timing_rows(run: dict[str, Any]) -> list[dict[str, Any]]:
    total: Counter[str] = Counter()
    for line in read_jsonl(run["folder"] / "timing.jsonl"):
        total[line["name"]] += line["seconds"]
    return [{"name": name, "seconds": seconds} for name, seconds in sorted(total.items())]


ITEM_COLUMNS = ["split", "problem_id", "sample", "tools", "teacher_tools", "teacher_correct",
                "correct", "boxed",
                "set_match", "sequence_similarity", "similarity", "n_calls", "n_executed", "n_ok",
                "n_failed",
                "n_unknown", "n_malformed", "unknown_tool", "turns", "finish", "failure",
                "repeats_teacher_exactly"]


def _item_rows(run: dict[str, Any]) -> Iterable[dict[str, Any]]:
    if not run["stage"].startswith(EVALUATE):
        return
    for r in load_records(run["folder"] / "trajectories.parquet"):
        known = known_tools(r.problem)
        method = r.trajectory.meta.get("method", run["method"])
        yield {"method": method, "split": r.problem.split, "problem_id": r.problem.id,
               "sample": r.trajectory.sample,
               "tools": tool_names(r.trajectory, known),
               "teacher_correct": r.trajectory.meta.get("teacher_correct"),
               "teacher_tools": tool_names(r.reference,
                                           known) if r.reference else None} | record_metrics(r,
                                                                                             known)


def run_frame(run: Run) -> pd.DataFrame:
    """The curves of one run, finished or not: its `metrics.jsonl` with method, seed and step."""
    identity = {"method": str(_parameter(run, "method", run.stage)),
                "seed": _parameter(run, "seed", 0)}
    rows = _curve_rows({"stage": run.stage, "folder": run.dir})
    return pd.DataFrame([identity | row for row in rows], columns=list(dict.fromkeys(
        [*identity, "step", *(name for row in rows for name in row)])))


def _refuse_doubles(frame: pd.DataFrame, columns: list[str]) -> None:
    """One run may log a step in several rows, but no two runs may have the same rows."""
    each_run_once = frame.drop_duplicates(["study", "key", *columns])
    doubled = each_run_once[each_run_once.duplicated(["study", *columns], keep=False)]
    if len(doubled):
        row = doubled.iloc[0]
        alike = (doubled["study"] == row["study"]) & (doubled["method"] == row["method"])
        keys = ", ".join(sorted(doubled.loc[alike, "key"].unique())[:3])
        raise UserError(f"Method {row['method']!r}, seed {row['seed']} of study {row['study']!r} "
                        f"is there twice (runs {keys}): name the run folders to use, or delete the "
                        "stale ones.")
