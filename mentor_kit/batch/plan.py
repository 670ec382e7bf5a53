"""The jobs of a study: every stage times its axes times the input runs that match."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from mentor_kit.batch.params import LIST, Parameter, check_value
from mentor_kit.batch.resources import Resources
from mentor_kit.batch.study_file import SourceMap
from mentor_kit.errors import UserError
from mentor_kit.runs.run import notebook_version, run_key


@dataclass(frozen=True)
class Stage:
    """`inputs`: parameter -> names of the stages whose runs it takes."""

    name: str
    notebook: Path
    declared: Mapping[str, Parameter]
    inputs: Mapping[str, tuple[str, ...]]
    axes: tuple[str, ...]
    values: Mapping[str, Any]
    resources: Resources = field(default_factory=Resources)

    def gathers(self, parameter: str) -> bool:
        return bool(LIST.match(self.declared[parameter].kind))


@dataclass(frozen=True, eq=False)
class Job:
    """One papermill execution. `axes` are the grid values and seed it stands for, its inputs'
    included."""

    stage: str
    notebook: Path
    key: str
    run_dir: Path
    params: Mapping[str, Any]
    axes: Mapping[str, Any]
    inputs: Mapping[str, Job | list[Job]] = field(repr=False)
    given: Mapping[str, Any] = field(repr=False)

    def needed(self) -> list[Job]:
        return [job for value in self.inputs.values()
                for job in (value if isinstance(value, list) else [value])]

    def __str__(self) -> str:
        of = "".join(f" of {v.stage}" for p, v in self.inputs.items() if isinstance(v, Job)
                     and p.startswith("student"))
        return " ".join([self.stage + of,
                         *(f"{name}={value}" for name, value in self.axes.items())])


def expand(stages: Mapping[str, Stage], data: Mapping[str, Any], root: Path, folder: Path,
            source: SourceMap) -> tuple[Job, ...]:
    """All jobs, each after those it needs.

    Raises:
        UserError: a stage that makes no job, or the same job twice.
    """
    made: dict[str, list[Job]] = {}
    for stage in stages.values():
        made[stage.name] = [_job(stage, axes, inputs, root, folder) for axes,
                            inputs in _assignments(stage, data, made)]
        keys = [job.key for job in made[stage.name]]
        if not keys:
            raise UserError(f"{source.where('stages', stage.name)}: stage {stage.name!r} makes no "
                            "job: no runs of the stages it needs match; check its `needs`, `grid` "
                            "and `set`.")
        if len(set(keys)) < len(keys):
            raise UserError(f"{source.where('stages', stage.name)}: stage {stage.name!r} makes the "
                            "same job twice; its grid and inputs must tell its jobs apart.")
    return tuple(job for jobs in made.values() for job in jobs)


def with_needed(jobs: Iterable[Job], chosen: Iterable[Job]) -> tuple[Job, ...]:
    """The chosen ones of `jobs` and all that they need, in the order of `jobs` (each after those
    it needs)."""
    jobs, taken = list(jobs), set(chosen)
    for job in reversed(jobs):
        if job in taken:
            taken.update(job.needed())
    return tuple(job for job in jobs if job in taken)


def _assignments(stage: Stage, data: Mapping[str, Any],
                 made: Mapping[str, list[Job]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every (axes, inputs) of a stage: its own axes times the input runs that agree with them and
    each other."""
    values = [data["seeds"] if axis == "seed" else data["grid"][axis] for axis in stage.axes]
    for point in product(*values):
        found = [(dict(zip(stage.axes, point, strict=True)), {})]
        for parameter, names in sorted(stage.inputs.items(),
                                       key=lambda item: stage.gathers(item[0])):
            runs = [job for name in names for job in made[name]]
            found = [more for axes, inputs in found
                     for more in _match(stage, parameter, runs, axes, inputs)]
        yield from found


def _match(stage: Stage, parameter: str, runs: list[Job], axes: dict[str, Any],
           inputs: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    agreeing = [job for job in runs if all(axes.get(a, v) == v for a, v in job.axes.items())]
    if stage.gathers(parameter):
        return [(axes, {**inputs, parameter: agreeing})]
    return [({**job.axes, **axes}, {**inputs, parameter: job}) for job in agreeing]


def _job(stage: Stage, axes: dict[str, Any], inputs: dict[str, Any], root: Path,
          folder: Path) -> Job:
    own = {a: check_value(stage.declared[a], axes[a], stage.name) for a in stage.axes}
    given = {**stage.values, **own}
    taken = {"run_dir", *inputs}
    params = {**{n: p.default for n, p in stage.declared.items()}, **given}
    params = {n: v for n, v in params.items() if n not in taken}
    keys = {p: [job.key for job in v] if isinstance(v, list) else v.key for p, v in inputs.items()}
    key = run_key(stage.name, notebook_version(stage.notebook.stem), params, keys)
    run_dir = folder / stage.name / key
    changed = {n: v for n, v in given.items() if n not in taken and v != stage.declared[n].default}
    links = {p: [relative(job.run_dir, root) for job in v] if isinstance(v, list)
             else relative(v.run_dir, root)
             for p, v in inputs.items()}
    return Job(stage.name, stage.notebook, key, run_dir, params, dict(sorted(axes.items())),
                inputs,
                {**changed, **links, "run_dir": relative(run_dir, root)})


def relative(path: Path, root: Path) -> str:
    """The path as a notebook is given it: relative to the project where it lies inside."""
    path, root = path.resolve(), root.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
