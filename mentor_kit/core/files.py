"""Files and folders that appear whole: written beside their place, forced to disk, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path


def project_root(start: Path | str | None = None) -> Path:
    """The nearest folder at or above `start` (default: the working folder) that holds notebooks/;
    else `start`."""
    here = Path(start or Path.cwd()).resolve()
    return next((folder for folder in (here, *here.parents) if (folder / "notebooks").is_dir()),
                here)


def find_path(path: Path | str) -> Path:
    """A file or folder that a parameter names: relative to the working folder or, where nothing
    lies there, to the project (in JupyterLab the working folder is that of the notebook)."""
    path = Path(path).expanduser()
    inside = project_root() / path
    return inside if inside.exists() and not path.exists() else path


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path; the file or folder written there takes the place of `path` at the
    end of the block.

    A reader sees the old content or the new, never a half, also after a crash of the machine. An
    exception in the block leaves the old content.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        raise
    _sync_one(path.parent)


def sync(path: Path | str) -> None:
    """Force a file, or a folder with all that it holds, to disk: a crash of the machine after this
    call does not lose it.

    Raises:
        OSError: the disk is full or broken.
    """
    path = Path(path)
    if path.is_dir():
        for inner in path.iterdir():
            sync(inner)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        # some storage cannot sync a folder; it keeps names in order by itself
        with suppress(OSError) if path.is_dir() else nullcontext():
            os.fsync(file)
    finally:
        os.close(file)
