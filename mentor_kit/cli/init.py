"""`mentor-kit init`: the notebooks and the studies, in a folder of the user's own."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import mentor_kit
from mentor_kit.errors import UserError

PACKAGE = Path(mentor_kit.__file__).parent
FOLDERS = ("notebooks", "params")


def carried() -> Path:
    """The folder that holds notebooks/ and params/: in the installed package, or the checkout of
    an editable install."""
    return next((root for root in (PACKAGE / "project", PACKAGE.parent)
                 if all((root / name).is_dir() for name in FOLDERS)), PACKAGE / "project")


def write_project(target: Path) -> list[Path]:
    """Copy notebooks/ and params/ into `target`, which is made where missing.

    Returns:
        The files written; those that were there already, with the same content, are not among
        them.

    Raises:
        UserError: a file is there with other content (nothing is written then), `target` is a
            file, or this install carries no notebooks.
    """
    root = carried()
    sources = [path for name in FOLDERS for path in sorted((root / name).rglob("*"))
               if path.is_file() and not any(part.startswith((".", "__"))
                                             for part in path.relative_to(root).parts)]
    if not sources:
        raise UserError(f"This install of mentor-kit holds no notebooks ({root} has none): "
                        "install it from its wheel, or work in a clone of its repository.")
    if target.exists() and not target.is_dir():
        raise UserError(f"{str(target)!r} is a file: name a folder, which is made where missing.")
    places = {source: target / source.relative_to(root) for source in sources}
    changed = [place for source, place in places.items()
               if place.exists() and not filecmp.cmp(source, place, shallow=False)]
    if changed:
        raise UserError(f"{str(changed[0])!r} is there already and differs from ours"
                        f"{f', as do {len(changed) - 1} more files' if changed[1:] else ''}: "
                        "nothing was written. Name another folder, or put these files aside.")
    missing = {source: place for source, place in places.items() if not place.exists()}
    for source, place in missing.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
    return list(missing.values())
