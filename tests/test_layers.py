"""Who may import whom: a room imports only rooms on lower floors, and no file is in a circle of
imports.

Every import counts: at the top of a file, inside a function, and for types only. A new file goes
into the room whose neighbours it needs; a new room gets a line in FLOORS, one floor above the
highest room that it imports.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mentor_kit"
# A room may import rooms of lower floors only, and itself; never a neighbour on its own floor.
FLOORS = [
    ["errors"],
    ["core"],
    ["runs"],
    ["judging", "problems", "bfcl", "toolboxes"],
    ["students", "metrics"],
    ["teachers", "rewards"],
    ["collection"],
    ["analysis"],
    ["evaluation"],
    ["training"],
    ["batch"],
    ["cli"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FACE = {"__init__", "__main__"}  # of the package: may name anything
# Rooms that torch, transformers and TRL are kept out of, so that scoring, batches and figures start
# at once.
WITHOUT_TORCH = ("core", "runs", "judging", "problems", "bfcl", "toolboxes", "metrics", "rewards",
                 "collection",
                 "analysis", "batch", "cli")
HEAVY = {"torch", "transformers", "trl", "peft", "accelerate", "unsloth"}


@cache
def modules() -> dict[str, Path]:
    """Dotted name below the package -> file."""
    names = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = file
    return names


def room(module: str) -> str:
    return module.split(".")[0]


@cache
def imports(module: str) -> frozenset[tuple[str, int]]:
    """(dotted name below the package, line) of every import of the package's own modules."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: write imports in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            own = name.removeprefix("mentor_kit.")
            if own == name:
                continue
            target = next((n for n in (own, own.rpartition(".")[0]) if n in modules()), None)
            assert target, f"{module}: imports {name}, which is not there"
            found.add((target, node.lineno))
    return frozenset(found)


def test_every_room_has_a_floor_and_the_root_keeps_three_files():
    rooms = {room(m) for m in modules()} - FACE
    assert rooms == set(FLOOR), "a new room needs a line in FLOORS"
    assert {f.name for f in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}


@pytest.mark.parametrize("module", sorted(m for m in modules() if room(m) not in FACE))
def test_imports_go_down(module):
    here = FLOOR[room(module)]
    climbing = [f"{target} (line {line})" for target, line in sorted(imports(module))
                if room(target) != room(module) and FLOOR[room(target)] >= here]
    assert not climbing, (
        f"{module} is on floor {here} ({room(module)}) and imports {', '.join(climbing)}"
    )


def test_no_file_is_in_a_circle_of_imports():
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above[above.index(module):], module])
        if module not in done:
            for target, _ in sorted(imports(module)):
                visit(target, (*above, module))
            done.add(module)

    for module in modules():
        visit(module, ())


@pytest.mark.parametrize("module", sorted(m for m in modules() if room(m) in WITHOUT_TORCH))
def test_rooms_without_torch_do_not_load_it_when_they_are_imported(module):
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    loaded = {name.split(".")[0] for node in tree.body for name in _names(node)}
    assert not loaded & HEAVY


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) else []
