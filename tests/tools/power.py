"""A power cut in software: every process of a study is killed, and what it had not forced to disk
is cut or emptied at random, as a file system may leave it.

`record(folder)` gives the environment in which Python notes each file that is forced to disk
(`os.fsync`) and how long it was; forked processes inherit it. `cut(...)` then damages files.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

HOOK = """
import os
_fsync, _log = os.fsync, os.environ["POWER_LOG"]
def fsync(file):
    _fsync(file)
    found = os.fstat(file if isinstance(file, int) else file.fileno())
    line = f"{found.st_dev} {found.st_ino} {found.st_size}\\n"
    log = os.open(_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, line.encode())
    os.close(log)
os.fsync = fsync
"""


def record(folder: Path) -> dict[str, str]:
    """Environment of a study whose forced writes are noted in `folder`."""
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "POWER_LOG": str(folder / "log")}


def cut(results: Path, folder: Path, chance: random.Random) -> list[str]:
    """Cut each file of `results` that grew after it was last forced to disk, or never was: to a
    random length that was not safe, to what was safe, or not at all; some that never were are
    removed. Returns what was damaged."""
    safe: dict[tuple[int, int], int] = {}
    log = folder / "log"
    for line in log.read_text().splitlines() if log.is_file() else []:
        device, inode, size = map(int, line.split())
        safe[device, inode] = size
    damaged = []
    for path in sorted(p for p in results.rglob("*") if p.is_file()):
        found = path.stat()
        kept = min(safe.get((found.st_dev, found.st_ino), 0), found.st_size)
        if kept == found.st_size:
            continue
        length = chance.choice([kept, chance.randint(kept, found.st_size), found.st_size])
        name = f"{path.relative_to(results)} {found.st_size}"
        if (found.st_dev, found.st_ino) not in safe and chance.random() < 0.25:
            path.unlink()
            damaged.append(f"{name} removed")
        elif length < found.st_size:
            os.truncate(path, length)
            damaged.append(f"{name}->{length}")
    return damaged
