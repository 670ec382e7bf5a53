"""Teachers: `solve(problem, sample)` gives an Attempt, a trajectory that was accepted or the reason
why not.

Three kinds of teacher, by how they are asked: see `mentor_kit.collection.dispatch`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mentor_kit.core.plugins import TEACHERS, find
from mentor_kit.errors import UserError, check_options


def load_teacher(spec: str, **options: Any) -> Any:
    """A teacher by built-in name or as 'package.module:name' of its class.

    Raises:
        UserError: for an unknown name, or options that the teacher does not take.
    """
    make = find_teacher(spec)
    check_options(make, options, f"Teacher {spec!r}")
    try:
        return make(**options)
    except TypeError as error:
        raise UserError(f"Teacher {spec!r} does not take these options ({error}); see its "
                        "docstring.") from error


def find_teacher(spec: str) -> Callable[..., Any]:
    """A teacher's class by built-in name or 'package.module:name'. Raises UserError for an unknown
    one."""
    return find(TEACHERS, spec, "teacher")
