"""A study: one YAML file that says which notebooks run, with which parameters, in which order.

    name: mine                    # its results go to results/mine/
    extends: demo-gsm.yaml        # optional: a study this is merged over (deep; lists replace)
    use: [students/tiny.yaml]     # optional: fragments, flat parameters put under `fixed`
    fixed: {problems: gsm_symbolic}          # each goes to the notebooks that declare it
    grid: {method: [sft, sparse, mentor]}    # axes; a stage names those it is run over
    seeds: [0, 1]                 # a stage whose notebook declares `seed` runs once for each
    subsets:                      # optional: parts of the study, run by `--subset quick`
      quick: {seeds: [0], grid: {method: [mentor]}, stages: [evaluate]}   # each is optional
    stages:
      collect:    {notebook: 01_teacher_trajectories}
      cold_start: {notebook: 03_rl_training, needs: {teacher_run: collect},
                   set: {method: cold_start}}
      train:      {notebook: 03_rl_training, needs: {teacher_run: collect, start_run: cold_start},
                   grid: [method]}
      evaluate:   {notebook: 04_evaluation,
                   needs: {teacher_run: collect, student_run: [cold_start, train]}}
      figures:    {notebook: 05_paper_figures, needs: {runs: all}}

`needs` maps a parameter of the notebook to the stage (or stages) whose run folder it receives. A
scalar parameter gets one job for each matching run, a list parameter gets all matching runs in one
job. Runs match when they agree in the axes they share, the seed included. `all` is every stage
that does not itself wait for this one.
A stage may say what each of its jobs is given: `resources: {gpus: 1, cpus: 4, memory_gb: 16}`; by
default no GPU and one CPU; `gpus: num_processes` takes the stage's value of that parameter. A job
sees exactly the GPUs its stage asks for, each of which is its own, so one whose stage asks for none
sees none, also where there are some: the same job gives the same bytes on a laptop and on a GPU
machine, and cannot fill the memory of a GPU that another job was given. Resources are no part of a
run's key. A value in a stage's `set` wins over `seeds`, `grid` and `fixed`, and those over the
notebook's default.

Null removes what is inherited by `extends`: `stages: {design: null}`, `grid: {method: null}`,
`fixed: {steps: null}`.

A subset's jobs are those of its seeds and grid values, in the stages it names and those they need.
They have the keys they have in the whole study, so neither repeats what the other did; only a stage
that gathers runs (figures) is a run of its own, of the subset's runs.

Everything is checked before the first kernel starts: names and types here, values in
`mentor_kit.batch.preflight`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from mentor_kit.batch.params import Parameter, check_value, declared_parameters, from_text
from mentor_kit.batch.plan import Job, Stage, expand, with_needed
from mentor_kit.batch.resources import read_resources
from mentor_kit.batch.study_checks import check_axis, check_names, check_shape
from mentor_kit.batch.study_file import SourceMap, load_study_file
from mentor_kit.batch.subsets import take_subset
from mentor_kit.core.files import project_root
from mentor_kit.errors import UserError, did_you_mean
from mentor_kit.runs.files import read_json, write_atomic


@dataclass(frozen=True)
class Study:
    """A checked study, or a subset of one. `jobs` are in an order in which each comes after those
    it needs."""

    name: str
    file: Path
    root: Path
    results: Path
    stages: Mapping[str, Stage]
    jobs: tuple[Job, ...]
    source: SourceMap = field(repr=False)

    @property
    def folder(self) -> Path:
        return self.results / self.name

    def where(self, stage: str, parameter: str) -> str | None:
        """file:line of the value that a stage's notebook gets for a parameter; None where the study
        sets none."""
        paths = [("stages", stage, "set", parameter), ("fixed", parameter)]
        if parameter in self.stages[stage].axes:
            paths.insert(1, ("seeds",) if parameter == "seed" else ("grid", parameter))
        return next((self.source.places[path] for path in paths if path in self.source.places),
                    None)

    def reserve(self) -> None:
        """Mark results/<name> as this study's.

        Raises:
            UserError: the folder holds something else or another study's results.
        """
        owner = self.folder / "study.json"
        mine = {"name": self.name, "file": self.file.name}
        if not owner.is_file() and self.folder.is_dir() and any(p.name != ".lock"
                                                                for p in self.folder.iterdir()):
            raise UserError(f"{str(self.folder)!r} is not empty and holds no study; give --results "
                            f"another folder or change `name: {self.name}` in {self.file}.")
        other = read_json(owner)  # a damaged file is written anew
        if other and other != mine:
            raise UserError(f"{str(self.folder)!r} belongs to the study {other.get('file')}, not "
                            f"to {self.file.name}; change `name: {self.name}` in {self.file} or "
                            "give --results another folder.")
        write_atomic(owner, json.dumps(mine) + "\n")


def load_study(file: Path | str, *, overrides: Iterable[str] = (),
               results: Path | str | None = None,
               subset: str = "") -> Study:
    """Read, merge, check and expand a study.

    Args:
        file: a YAML directly under params/ (see the module's text).
        overrides: `name=value` for a fixed value or a grid axis (then a list), `stage.name=value`
            for one stage, `seeds=[0, 1]`.
        results: the folder of all studies' results; by default results/ of the project.
        subset: a name under `subsets:`; "" is the whole study.

    Raises:
        UserError: anything that does not fit, with file, line and fix.
    """
    data, source = load_study_file(Path(file))
    check_shape(data, source)
    root = _project_of(Path(file))
    stages_declared = {name: _declared(root, name, entry, source) for name,
                       entry in data["stages"].items()}
    for override in overrides:
        _apply_override(data, source, override, stages_declared)
    check_names(data, source, stages_declared)
    chosen = take_subset(data, source, subset) if subset else []
    stages = {name: _stage(name, entry, data, source, root, stages_declared[name])
              for name, entry in data["stages"].items()}
    stages = _ordered(stages, source)
    folder = Path(results) if results is not None else root / "results"
    jobs = expand(stages, data, root, folder / data["name"], source)
    if chosen:
        jobs = with_needed(jobs, [job for job in jobs if job.stage in chosen])
    return Study(data["name"], Path(file), root, folder, stages, jobs, source)


def _project_of(file: Path) -> Path:
    root = project_root(file.parent)
    if not (root / "notebooks").is_dir():
        raise UserError(f"{file}: this file is in no project, as no folder above it holds "
                        "notebooks/; put the study under params/ of a project.")
    return root


def _declared(
    root: Path, name: str, entry: Mapping[str, Any], source: SourceMap
) -> dict[str, Parameter]:
    path = root / "notebooks" / f"{entry['notebook']}.ipynb"
    if not path.is_file():
        known = [p.stem for p in (root / "notebooks").glob("*.ipynb")]
        raise UserError(f"{source.where('stages', name, 'notebook')}: there is no notebook "
                        f"{entry['notebook']!r}"
                        + did_you_mean(entry["notebook"], known))
    return declared_parameters(path)


def _apply_override(data: dict[str, Any], source: SourceMap, override: str,
                    declared: Mapping[str, Mapping[str, Parameter]]) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"--set {override}: write --set name=value.")
    stage, dot, parameter = name.rpartition(".")
    if dot and stage not in data["stages"]:
        raise UserError(f"--set {override}: there is no stage "
                        f"{stage!r}{did_you_mean(stage, data['stages'])}")
    if name == "seeds" or name in data["grid"]:
        path = ("seeds",) if name == "seeds" else ("grid", name)
        value = from_text(text, ())
        value = value if isinstance(value, list) else [value]
    else:
        path = ("stages", stage, "set", parameter) if dot else ("fixed", name)
        value = from_text(text,
                          {d[parameter].kind for s, d in declared.items() if parameter in d
                           and stage in ("", s)})
    place = data
    for step in path[:-1]:
        place = place.setdefault(step, {})
    place[path[-1]] = value
    source.put(path, f"--set {override}")
    if path[0] != "fixed" and not dot:
        check_axis(".".join(path), value, source)


def _stage(name: str, entry: Mapping[str, Any], data: Mapping[str, Any], source: SourceMap,
           root: Path,
           declared: Mapping[str, Parameter]) -> Stage:
    at = f"{entry['notebook']}.ipynb"
    for section in ("needs", "set", "grid"):
        for parameter in entry.get(section, ()):
            where = source.where("stages", name, section, parameter)
            if parameter not in declared:
                raise UserError(f"{where}: {at} declares no "
                                f"{parameter!r}{did_you_mean(parameter, declared)}")
            if section == "grid" and parameter not in data["grid"]:
                raise UserError(f"{where}: stage {name!r} is run over {parameter!r}, which is no "
                                "axis of `grid:`; list its values there, or give the stage `grid: "
                                "[]`.")
    if "run_dir" not in declared:
        raise UserError(f"{at}: the parameters cell must declare `run_dir: str = \"\"`, the folder "
                        "it writes.")
    values = {p: check_value(declared[p], v, source.where("fixed", p)) for p,
              v in data["fixed"].items() if p in declared}
    values |= {p: check_value(declared[p], v, source.where("stages", name, "set", p))
               for p, v in entry.get("set", {}).items()}
    fixed_here = set(entry.get("set", {}))
    axes = [a for a in entry.get("grid", [])] + (["seed"] if "seed" in declared
                                                 and "seed" not in fixed_here else [])
    for axis in axes:
        if axis in fixed_here:
            raise UserError(f"{source.where('stages', name, 'set', axis)}: stage {name!r} both "
                            f"sets {axis!r} and runs over it, which would make duplicate jobs; "
                            "delete one.")
        for value in data["grid"].get(axis, data["seeds"] if axis == "seed" else []):
            check_value(declared[axis], value, source.where("seeds") if axis == "seed"
                        else source.where("grid", axis))
    inputs = {p: _stage_names(name, p, needed, data, source) for p,
              needed in entry.get("needs", {}).items()}
    needs = {key: values.get(asked, declared[asked].default) if isinstance(asked, str)
             and asked in declared else asked
             for key, asked in entry.get("resources", {}).items()}
    resources = read_resources(needs, lambda key: source.where("stages", name, "resources", key))
    return Stage(name, root / "notebooks" / at, declared, inputs, tuple(axes), values, resources)


def _stage_names(name: str, parameter: str, needed: Any, data: Mapping[str, Any],
                 source: SourceMap) -> tuple[str, ...]:
    if needed == "all":
        waiting = {name}
        while more := {s for s, e in data["stages"].items() if s not in waiting
                       and _names(e) & waiting}:
            waiting |= more
        return tuple(s for s in data["stages"] if s not in waiting)
    names = tuple(needed) if isinstance(needed, list) else (needed,)
    for stage in names:
        if stage not in data["stages"]:
            raise UserError(f"{source.where('stages', name, 'needs', parameter)}: there is no "
                            f"stage {stage!r}"
                            + did_you_mean(str(stage), data["stages"]))
    return names


def _names(entry: Mapping[str, Any]) -> set[str]:
    return {s for needed in entry.get("needs", {}).values()
            for s in (needed if isinstance(needed, list) else [needed])}


def _ordered(stages: Mapping[str, Stage], source: SourceMap) -> dict[str, Stage]:
    graph = {name: [n for names in stage.inputs.values() for n in names] for name,
             stage in stages.items()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " needs ".join(reversed(error.args[1]))
        raise UserError(f"{source.where('stages')}: the stages wait for each other in a circle "
                        f"({circle}); remove one of these needs.") from error
    return {name: stages[name] for name in order}
