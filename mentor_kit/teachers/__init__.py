"""Teachers: `solve(problem, sample)` gives an Attempt, a trajectory that was accepted or the reason why not."""

from __future__ import annotations

from typing import Any

from mentor_kit.errors import UserError
from mentor_kit.toolbox import load_object

BUILT_IN = {"worked_solution": "mentor_kit.teachers.worked_solution:WorkedSolutionTeacher"}


def load_teacher(spec: str, **options: Any) -> Any:
    """A teacher by built-in name or as 'package.module:name' of its class.

    Raises:
        UserError: for an unknown name, or options that the teacher does not take.
    """
    if ":" not in spec and spec not in BUILT_IN:
        raise UserError(f"Unknown teacher {spec!r}: use one of {sorted(BUILT_IN)} or 'package.module:name'.")
    make = load_object(BUILT_IN.get(spec, spec), "teacher")
    try:
        return make(**options)
    except TypeError as error:
        raise UserError(f"Teacher {spec!r} does not take these options ({error}); see its docstring.") from error
