"""The error a user is meant to read: it names the value, the reason and the fix; and the one for
a model."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any


class UserError(ValueError):
    """Bad input. The message is one clear line; the command line prints it and exits with code
    2."""


class ToolError(Exception):
    """A tool call that cannot be carried out; its message becomes the observation."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for a near miss, else the known names."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known) or 'none'}."


def check_options(made_by: Callable[..., Any], options: Iterable[str], what: str,
                  given: int = 0) -> None:
    """Raise UserError for the first option that is no parameter of a function, its first `given`
    ones aside."""
    taken = dict(list(inspect.signature(made_by).parameters.items())[given:])
    unknown = [name for name in options if name not in taken]
    if unknown and all(p.kind is not p.VAR_KEYWORD for p in taken.values()):
        raise UserError(f"{what} has no option {unknown[0]!r}{did_you_mean(unknown[0], taken)}")
