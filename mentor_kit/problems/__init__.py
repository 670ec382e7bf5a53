"""Problem sources. A source is a function `load(seed, sizes, **options) -> list[Problem]`.

`sizes` maps a split's name to its number of items. A source of your own is named
'package.module:name'.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mentor_kit.core.plugins import PROBLEM_SOURCES, find
from mentor_kit.core.problem import LEARNT_FROM, Problem
from mentor_kit.core.tables import check_path
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.errors import UserError, check_options

# made of no file: asked for no item, they only check what is asked; and the toolbox that their
# worked solutions call
GENERATED = {"gsm_symbolic": "arithmetic", "arithmetic_stories": "arithmetic",
             "registry": "registry", "registry_changes": "own"}


def load_problems(spec: str, seed: int, sizes: Mapping[str, int], **options: Any) -> list[Problem]:
    """The problems of a source, checked.

    Args:
        spec: a built-in name or 'package.module:name' of a source.
        seed: the same seed and sizes give the same problems on any machine.
        sizes: split name -> number of items.
        options: passed on to the source.

    Raises:
        UserError: for an unknown source, a repeated id, or a question that a split to learn from
            shares with another.
    """
    problems = bind_source(spec, sizes, options)(seed, sizes, **options)
    check_problems(problems)
    return problems


def find_source(spec: str) -> Callable[..., list[Problem]]:
    """A source by built-in name or 'package.module:name'. Raises UserError for an unknown one."""
    return find(PROBLEM_SOURCES, spec, "problem source")


def bind_source(
    spec: str, sizes: Mapping[str, int], options: Mapping[str, Any]
) -> Callable[..., list[Problem]]:
    """A source that takes these options. Raises UserError where it does not."""
    source = find_source(spec)
    check_options(source, options, f"Problem source {spec!r}", given=2)
    try:
        inspect.signature(source).bind(0, sizes, **options)
    except TypeError as error:
        raise UserError(f"Problem source {spec!r} does not take these options ({error}): see its "
                        "docstring.") from None
    return source


def normalise_question(question: str) -> str:
    """A question without case, punctuation of its ends and runs of blanks: what counts as the same
    question."""
    return " ".join(question.lower().split()).strip(" .?!")


def check_problems(problems: Iterable[Problem]) -> None:
    """Raise UserError where an id repeats, or where a split to learn from shares a question with
    another one (a leak)."""
    ids: set[str] = set()
    first: dict[str, Problem] = {}
    for problem in problems:
        if problem.id in ids:
            raise UserError(f"Problem id {problem.id!r} occurs twice: give every problem its own "
                            "id.")
        ids.add(problem.id)
        other = first.setdefault(normalise_question(problem.question), problem)
        splits = {other.split, problem.split}
        if len(splits) == 2 and splits & set(LEARNT_FROM):
            raise UserError(f"Problems {other.id!r} and {problem.id!r} of different splits ask the "
                            "same question: drop one of them.")


def check_sizes(source: str, sizes: Mapping[str, Any]) -> None:
    """Raise UserError where a number of items is no whole number, nothing is asked for, or a split
    does not exist."""
    for split, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool):
            raise UserError(f"the size of split {split!r} is {size!r}, not a whole number; write "
                            f"{split}:100.")
    if not any(sizes.values()):
        raise UserError("There is no problem to ask: name at least one split and its size, such as "
                        "train:100.")
    _make_nothing(source, sizes, {})


def check_worked_toolbox(source: str, toolbox: str) -> None:
    """Raise UserError where a toolbox has none of the tools that the source's worked solutions
    call."""
    if source not in GENERATED:
        return
    called = load_toolbox(GENERATED[source]).names
    if not set(called) & set(load_toolbox(toolbox).names):
        shown = ", ".join([*called[:3], "..."])
        raise UserError(f"it has none of the tools that the worked solutions of {source!r} call "
                        f"({shown}), so no attempt of this teacher could be right: leave it empty "
                        f"(which is {GENERATED[source]!r}), or ask a model (chat_endpoint, "
                        "local_model).")


def check_source_options(source: str, sizes: Mapping[str, int], options: Mapping[str, Any]) -> None:
    """Raise UserError where a problem source does not take the options, lacks its file, or has not
    these splits."""

    bind_source(source, sizes, options)
    if source in PROBLEM_SOURCES and "path" in options:
        check_path(str(options["path"]))
    _make_nothing(source, sizes, options)


def _make_nothing(source: str, sizes: Mapping[str, int], options: Mapping[str, Any]) -> None:
    """Ask a source that reads no file for no item: it then only checks what it is asked."""
    if source in GENERATED:
        find_source(source)(0, {split: min(size, 0) for split, size in sizes.items()}, **options)
