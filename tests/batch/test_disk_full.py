"""A disk that is full: the cause is named, other jobs go on, and the same command ends the study
once there is room."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tiny_project import make_project

ROOM = "300k"


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def batch(study, results):
    command = [sys.executable, "-m", "mentor_kit", "batch", str(study), "--results", str(results),
               "--workers", "1"]
    return subprocess.run(command, cwd=study.parents[1], capture_output=True, text=True,
                          check=False)


@pytest.mark.parametrize("left", [0, 1, 5])
def test_a_full_disk_is_named_and_room_is_all_that_is_missing(tmp_path, small_disk, left):
    """`left`: pages of 4 kB that are free when the batch starts."""
    study = make_project(tmp_path / "project")
    filler = small_disk.parent / "results" / ".filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
        file.truncate(file.tell() - 4096 * left)
    full = batch(study, small_disk)
    assert full.returncode in (1, 2), full.stderr
    assert "Traceback" not in full.stdout + full.stderr
    assert "o space left on" in full.stdout + full.stderr
    filler.unlink()
    done = batch(study, small_disk)
    assert (done.returncode, done.stderr) == (0, "") and "6 of 6 jobs are done" in done.stdout
