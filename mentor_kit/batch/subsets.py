"""Named subsets of a study: some of its seeds, grid values and stages, with the run keys of the
whole study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mentor_kit.batch.params import SHAPES
from mentor_kit.batch.study_file import SourceMap
from mentor_kit.errors import UserError, did_you_mean

KINDS = {"seeds": list, "grid": dict, "stages": list}


def check_subsets(data: Mapping[str, Any], source: SourceMap) -> None:
    """Raise UserError where a subset names what the study has not."""
    for name in data["subsets"]:
        _check_shape(name, data["subsets"][name], source)
        _check_values(name, data, source)


def take_subset(data: dict[str, Any], source: SourceMap, name: str) -> list[str]:
    """Leave the subset's seeds and grid values in `data`. Returns the stages it names, [] for all.

    Raises:
        UserError: no such subset, or (after overrides) one that names what the study has not.
    """
    if name not in data["subsets"]:
        raise UserError(
            f"--subset {name}: the study has no such subset{did_you_mean(name, data['subsets'])}"
        )
    _check_values(name, data, source)
    subset = data["subsets"][name]
    for axis, values in subset.get("grid", {}).items():
        data["grid"][axis] = [value for value in data["grid"][axis] if value in values]
    data["seeds"] = [seed for seed in data["seeds"] if seed in subset.get("seeds", data["seeds"])]
    return subset.get("stages", [])


def _check_shape(name: str, subset: Any, source: SourceMap) -> None:
    where = source.where("subsets", name)
    if not isinstance(subset, dict) or not subset:
        raise UserError(f"{where}: subset {name!r} must name some of seeds, grid and stages, found "
                        f"{subset!r}; write {{seeds: [0]}}.")
    for key, value in subset.items():
        where = source.where("subsets", name, key)
        if key not in KINDS:
            raise UserError(f"{where}: a subset has no {key!r}{did_you_mean(key, KINDS)}")
        if not isinstance(value, KINDS[key]) or not value:
            raise UserError(f"{where}: `{key}:` = {value!r} of subset {name!r} is empty or not "
                            f"{SHAPES[KINDS[key]]}.")


def _check_values(name: str, data: Mapping[str, Any], source: SourceMap) -> None:
    subset = data["subsets"][name]
    for axis in subset.get("grid", {}):
        if axis not in data["grid"]:
            raise UserError(
                f"{source.where('subsets', name, 'grid', axis)}: {axis!r} is no axis of `grid:`"
                + did_you_mean(axis, data["grid"])
            )
    asked = {("grid", axis): (values, data["grid"][axis]) for axis,
             values in subset.get("grid", {}).items()}
    asked |= {(key,): (subset[key], list(data[key])) for key in ("seeds", "stages")
              if key in subset}
    for path, (values, known) in asked.items():
        where = source.where("subsets", name, *path)
        if not isinstance(values, list) or not values:
            raise UserError(f"{where}: {'.'.join(path)} = {values!r} of subset {name!r} is empty "
                            "or not a list; give at least one value: [value].")
        for value in values:
            if value not in known:
                raise UserError(
                    f"{where}: subset {name!r} takes {value!r}, which is not in the study's "
                    f"{'.'.join(path)}; it has {', '.join(map(str, known))}."
                )
