"""BFCL's own checker, in an environment of its own: its pins conflict with ours, and it loads
untrusted answers.

The environment is a folder of five small packages (49 MB) that is made on first use under the cache
folder (`MENTOR_KIT_CACHE`, else ~/.cache/mentor_kit). The checker runs in a Python process that
sees the standard library and that folder only, with limits on CPU time and memory; questions and
verdicts are lines of JSON (`mentor_kit.bfcl.worker`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mentor_kit.core.problem import Problem
from mentor_kit.core.processes import inherited_variables
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.runs.machine import cache_folder

PINS = ("bfcl-eval==2026.3.23", "filelock==3.20.0", "tree_sitter==0.21.3",
        "tree_sitter_java==0.21.0",
        "tree_sitter_javascript==0.21.4", "mpmath==1.3.0")
WORKER = Path(__file__).with_name("worker.py")
SECONDS = 600


def environment_folder() -> Path:
    """Where the checker's packages lie, once they are installed."""
    name = hashlib.sha256(" ".join([*PINS, sys.version.split()[0]]).encode()).hexdigest()[:12]
    return cache_folder() / f"bfcl-{name}"


@cache
def environment() -> Path:
    """The folder with the checker's packages; made on first use, whole or not at all.

    Raises:
        UserError: the packages cannot be installed.
    """
    folder = environment_folder()
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        _install(Path(work) / "packages")
        try:
            os.replace(Path(work) / "packages", folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    return folder


def _install(target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target",
               str(target), *PINS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        shutil.rmtree(target, ignore_errors=True)
        raise UserError(f"BFCL's checker cannot be installed ({reason}); make a network or a "
                        "package index reachable once, or leave bfcl out of benchmarks.")


def worker_variables(scratch: str) -> dict[str, str]:
    """The whole environment of a worker: nothing that could hold a secret, and the same clock
    everywhere."""
    return inherited_variables() | {"BFCL_PROJECT_ROOT": scratch, "HOME": scratch, "TZ": "UTC"}


def ask_worker(operation: str, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The worker's answers to some lines, in order.

    Raises:
        UserError: the worker failed or took too long.
    """
    request = "".join(json.dumps(line) + "\n" for line in lines)
    # its working folder: the package writes lock files
    with tempfile.TemporaryDirectory() as scratch:
        try:
            done = subprocess.run([sys.executable, "-I", "-S", str(WORKER), str(environment()),
                                   operation],
                                  input=request, capture_output=True, text=True, timeout=SECONDS,
                                  check=False,
                                  env=worker_variables(scratch), cwd=scratch)
        except subprocess.TimeoutExpired:
            raise UserError(f"BFCL's checker took more than {SECONDS} s for {len(lines)} answers; "
                            "use a smaller batch_size.") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise UserError(f"BFCL's checker failed ({reason}); delete {str(environment())!r} and try "
                        "again.")
    return [json.loads(line) for line in done.stdout.splitlines()]


@cache
def read_entries(category: str) -> list[dict[str, Any]]:
    """The items of a category as the package has them, each with `revision`, the hash of their
    file."""
    return ask_worker("entries", [{"category": category}])


def decode_calls(turn: Turn) -> list[dict[str, Any]] | None:
    """A turn's calls in the checker's form `[{name: {argument: value}}]`; None where it cannot be
    decoded.

    As the leaderboard's decoder of Hermes calls: what is no JSON is passed over; JSON that is not a
    call with a name and an object of arguments spoils the whole turn.
    """
    calls = []
    for call in turn.calls:
        try:
            written = json.loads(call.text)
        except (ValueError, RecursionError):
            continue
        if not isinstance(written, dict) or not isinstance(written.get("name"), str) \
                or not isinstance(written.get("arguments"), dict):
            return None
        calls.append({written["name"]: written["arguments"]})
    return calls


def bfcl_verdicts(
    problems: Sequence[Problem], trajectories: Sequence[Trajectory]
) -> list[dict[str, Any]]:
    """The checker's verdict on each answer. One that was cut off or crashed is wrong, also where no
    call is asked."""
    lines = [{"category": p.meta["category"], "entry": p.meta["entry"],
              "calls": decode_calls(t.turns[0])}
             for p, t in zip(problems, trajectories, strict=True)]
    verdicts = ask_worker("check", lines)
    return [_facts(t, v) for t, v in zip(trajectories, verdicts, strict=True)]


def unfinished(trajectory: Trajectory) -> dict[str, Any] | None:
    """The facts of an answer that was cut off or crashed: it is wrong, whatever it says. None for
    all others."""
    if trajectory.finish not in ("length", "error"):
        return None
    return {"correct": False, "judged_by": "failure", "failure": trajectory.finish}


def _facts(trajectory: Trajectory, verdict: Mapping[str, Any]) -> dict[str, Any]:
    return unfinished(trajectory) or {"correct": verdict["valid"], "judged_by": verdict["by"],
                                      "failure": None}
