"""What a study's text may hold: its sections, axes, stages and names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mentor_kit.batch.params import SHAPES, Parameter
from mentor_kit.batch.study_file import SourceMap
from mentor_kit.batch.subsets import check_subsets
from mentor_kit.errors import UserError, did_you_mean
from mentor_kit.runs.parameters import MAX_SEED

INTERACTIVE = "interactive"
MAX_NAME = 100  # characters; a folder's name has its limit
TOP = {"name": str, "stages": dict, "fixed": dict, "grid": dict, "seeds": list, "subsets": dict}


def check_shape(data: dict[str, Any], source: SourceMap) -> None:
    """Refuse sections and stages of another shape than a study has; those left out get their empty
    default."""
    for name in data:
        if name not in TOP:
            raise UserError(f"{source.where(name)}: a study has no {name!r}"
                            + did_you_mean(name, {*TOP, "extends", "use"}))
    for name, kind in TOP.items():
        data.setdefault(name, {"fixed": {}, "grid": {}, "seeds": [0], "subsets": {}}.get(name))
        if not isinstance(data[name], kind):
            raise UserError(f"{source.where(name)}: `{name}:` = {data[name]!r} must be "
                            f"{SHAPES[kind]}.")
    _check_name(data["name"], source.where("name"))
    for axis, values in {**{f"grid.{k}": v for k, v in data["grid"].items()},
                         "seeds": data["seeds"]}.items():
        check_axis(axis, values, source)
    for name, entry in data["stages"].items():
        _check_stage_shape(name, entry, source)
    check_subsets(data, source)


def _check_name(name: str, where: str) -> None:
    if name == INTERACTIVE:
        raise UserError(f"{where}: name {INTERACTIVE!r} is the folder of runs made by hand; give "
                        "the study another name.")
    is_plain = re.sub("[-_.]", "", name).isalnum() and not name.startswith(".")
    if not is_plain or len(name) > MAX_NAME:
        raise UserError(f"{where}: name {name!r} names a folder; use letters, digits, -, _ and ., "
                        f"at most {MAX_NAME} of them.")


def check_axis(axis: str, values: Any, source: SourceMap) -> None:
    """Refuse an axis that is not a list of different values."""
    where = source.where(*axis.split("."))
    if not isinstance(values, list) or not values:
        raise UserError(f"{where}: {axis} = {values!r} is empty or not a list; give at least one "
                        "value: [value].")
    for value in values:
        if axis == "seeds" and isinstance(value, int) and not 0 <= value <= MAX_SEED:
            raise UserError(f"{where}: seed {value} is not between 0 and {MAX_SEED}; give another "
                            "whole number.")
        if values.count(value) > 1:
            raise UserError(f"{where}: {axis} lists {value!r} twice, which would make duplicate "
                            "jobs; delete one.")


def _check_stage_shape(name: str, entry: Any, source: SourceMap) -> None:
    kinds = {"notebook": str, "needs": dict, "set": dict, "grid": list, "resources": dict}
    if not isinstance(entry, dict) or "notebook" not in entry:
        raise UserError(f"{source.where('stages', name)}: stage {name!r} needs at least "
                        f"{{notebook: NAME}}.")
    for key, value in entry.items():
        where = source.where("stages", name, key)
        if key not in kinds:
            raise UserError(f"{where}: a stage has no {key!r}{did_you_mean(key, kinds)}")
        if not isinstance(value, kinds[key]):
            raise UserError(f"{where}: `{key}:` = {value!r} of stage {name!r} must be "
                            f"{SHAPES[kinds[key]]}.")


def check_names(data: Mapping[str, Any], source: SourceMap,
                declared: Mapping[str, Mapping[str, Parameter]]) -> None:
    """Refuse parameters that no notebook declares, that the batch sets, or that no stage uses."""
    everything = {name for parameters in declared.values() for name in parameters}
    own = {"run_dir"} | {p for entry in data["stages"].values() for p in entry.get("needs", {})}
    for section in ("fixed", "grid"):
        for name in data[section]:
            if name in own or name == "seed":
                raise UserError(f"{source.where(section, name)}: {name!r} is set by the batch"
                                f"{' from `seeds:`' if name == 'seed' else ''}; delete it here.")
            if name not in everything:
                where = source.where(section, name)
                is_own = where.startswith((f"{source.file}:", "--set"))
                raise UserError(f"{where}: no notebook of this study declares {name!r}"
                                + (did_you_mean(name, everything - own) if is_own else
                                   f"; it is inherited: remove it by `{section}: {{{name}: null}}` "
                                   f"in {source.file}."))
    used = {axis for entry in data["stages"].values() for axis in entry.get("grid", [])}
    for axis in data["grid"]:
        if axis not in used:
            raise UserError(f"{source.where('grid', axis)}: no stage is run over {axis!r}; add "
                            f"`grid: [{axis}]` to one.")
