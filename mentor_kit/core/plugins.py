"""Names to objects: what the kit brings by short name, and anything importable as
`package.module:name`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from mentor_kit.core.files import project_root
from mentor_kit.errors import UserError

TOOLBOXES = {"arithmetic": "mentor_kit.toolboxes.arithmetic:ARITHMETIC",
             "own": "mentor_kit.core.environment:OWN_TOOLBOX",
             "python": "mentor_kit.toolboxes.python:PYTHON",
             "search": "mentor_kit.toolboxes.search:SEARCH",
             "registry": "mentor_kit.problems.registry.world:REGISTRY"}
# made from what follows the colon
TOOLBOX_KINDS = {"mcp": "mentor_kit.toolboxes.mcp:connect",
                 "perturbed": "mentor_kit.toolboxes.perturbed:perturb"}
PROBLEM_SOURCES = {"gsm_symbolic": "mentor_kit.problems.gsm_symbolic:load",
                   "arithmetic_stories": "mentor_kit.problems.stories.source:load",
                   "registry": "mentor_kit.problems.registry.source:load",
                   "registry_changes": "mentor_kit.problems.registry.changes:load",
                   "hub_math": "mentor_kit.problems.hub_math:load",
                   "mentor_data": "mentor_kit.problems.mentor_data:load",
                   "question_set": "mentor_kit.problems.question_set:load",
                   "multihop": "mentor_kit.problems.multihop:load",
                   "trajectory_file": "mentor_kit.teachers.trajectory_file:load",
                   "bfcl": "mentor_kit.bfcl.items:load",
                   "bfcl_dialogues": "mentor_kit.bfcl.dialogues:load"}
TEACHERS = {"worked_solution": "mentor_kit.teachers.worked_solution:WorkedSolutionTeacher",
            "quirky": "mentor_kit.teachers.quirky:QuirkyTeacher",
            "chat_endpoint": "mentor_kit.teachers.chat_endpoint:ChatEndpointTeacher",
            "local_model": "mentor_kit.teachers.local_model:LocalModelTeacher",
            "file": "mentor_kit.teachers.trajectory_file:FileTeacher",
            "released_tools": "mentor_kit.teachers.released_tools:ReleasedToolsTeacher"}
ENVIRONMENTS = {"bfcl_multi_turn": "mentor_kit.bfcl.multi_turn:MultiTurnEnvironment",
                "registry_changes": "mentor_kit.problems.registry.changes:RegistryDesk"}


def load_object(spec: str, what: str) -> Any:
    """Import `package.module:name`. Raises UserError that says what was looked for and where."""
    module, _, name = spec.partition(":")
    if not module or not name:
        raise UserError(f"{what} {spec!r} is neither a built-in name nor of the form "
                        "'package.module:name'.")
    try:
        return getattr(_import(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{what} {spec!r} cannot be imported ({error}); is the module on "
                        "PYTHONPATH?") from error


def _import(module: str) -> ModuleType:
    """A module; one that lies in the project's folder is found from its notebooks too."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        root = str(project_root())
        if error.name != module.partition(".")[0] or root in sys.path:
            raise
        sys.path.append(root)
        return import_module(module)


def find(registry: Mapping[str, str], spec: str, what: str) -> Any:
    """What `registry` or 'package.module:name' names.

    Raises:
        UserError: neither; says what was looked for.
    """
    if ":" not in spec and spec not in registry:
        raise UserError(f"Unknown {what} {spec!r}: use one of {sorted(registry)} or "
                        "'package.module:name'.")
    return load_object(registry.get(spec, spec), what)
