"""Whether what a parameter names exists: rewards, teachers, problem sources, toolboxes, splits, benchmarks.

The configurations (`mentor_kit.configs`) declare these checks on their fields, so a notebook and a batch refuse the
same values in the same words. Each looks up what will be used later; none loads data, a model or torch, or asks a
network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mentor_kit.errors import UserError


def known_reward(spec: str) -> str:
    """A reward's preset name, YAML path or package.module:name. Raises UserError as `load_reward` does."""
    from mentor_kit.rewards.reward import load_reward

    load_reward(spec)
    return spec


def is_reward(spec: str) -> bool:
    """Whether `load_reward` takes it."""
    try:
        return bool(known_reward(spec))
    except UserError:
        return False


def known_toolbox(spec: str) -> str:
    """A toolbox by name; "" is the problem source's own. Raises UserError as `load_toolbox` does."""
    from mentor_kit.toolbox import load_toolbox

    if spec:
        load_toolbox(spec)
    return spec


def known_teacher(spec: str) -> str:
    """A teacher by name or package.module:name. Raises UserError as `find_teacher` does."""
    from mentor_kit.teachers import find_teacher

    find_teacher(spec)
    return spec


def known_source(spec: str) -> str:
    """A problem source by name or package.module:name. Raises UserError as `find_source` does."""
    from mentor_kit.problems import find_source

    find_source(spec)
    return spec


def known_benchmark(spec: str) -> str:
    """A benchmark with its splits, toolbox and scorer, as `name`, `name:split,split` or a YAML's path.

    Raises:
        UserError: one of them is unknown.
    """
    from mentor_kit.evaluation.benchmarks import OWN, load_benchmark
    from mentor_kit.evaluation.benchmarks.scorers import load_scorer

    benchmark, splits = load_benchmark(spec)
    benchmark.chosen(splits)
    known_source(benchmark.problems)
    if benchmark.toolbox != OWN:
        known_toolbox(benchmark.toolbox)
    load_scorer(benchmark.scorer)
    return spec


def known_table(path: str) -> str:
    """A table's file, folder or hub id; "" is none. Raises UserError for a file that is not there."""
    from mentor_kit.problems.tables import check_path

    check_path(path)
    return path


def check_teacher_options(teacher: str, options: Mapping[str, Any]) -> None:
    """Make the teacher, which refuses options it does not take and a key that the environment lacks."""
    from mentor_kit.teachers import load_teacher

    load_teacher(teacher, **options)


def check_sizes(source: str, sizes: Mapping[str, Any]) -> None:
    """Raise UserError where a number of items is no whole number, nothing is asked for, or a split does not exist."""
    for split, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool):
            raise UserError(f"the size of split {split!r} is {size!r}, not a whole number; write {split}:100.")
    if not any(sizes.values()):
        raise UserError("There is no problem to ask: name at least one split and its size, such as train:100.")
    _make_nothing(source, sizes, {})


def check_source_options(source: str, sizes: Mapping[str, int], options: Mapping[str, Any]) -> None:
    """Raise UserError where a problem source does not take the options, lacks its file, or has not these splits."""
    from mentor_kit.problems import BUILT_IN, bind_source
    from mentor_kit.problems.tables import check_path

    bind_source(source, sizes, options)
    if source in BUILT_IN and "path" in options:
        check_path(str(options["path"]))
    _make_nothing(source, sizes, options)


def _make_nothing(source: str, sizes: Mapping[str, int], options: Mapping[str, Any]) -> None:
    """Ask a source that reads no file for no item: it then only checks what it is asked."""
    from mentor_kit.problems import GENERATED, find_source

    if source in GENERATED:
        find_source(source)(0, {split: min(size, 0) for split, size in sizes.items()}, **options)
