"""The process that runs the graders, seen from the process that asks it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from mentor_kit.core.processes import LineWorker, NotReady, inherited_variables
from mentor_kit.errors import UserError

# limits count CPU time; a worker that is kept from running may take this many times as long
PATIENCE = 5.0
PACKAGES = {"math_verify": "math-verify==0.9.0", "mathruler": "mathruler==0.1.0",
            "pylatexenc": "pylatexenc==2.11"}


def _command(folder: str) -> tuple[list[str], dict[str, str]]:
    """A Python that sees our packages, with a fixed hash seed: SymPy's choices follow set order."""
    paths = [str(Path(__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    variables = {"PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in paths if p),
                 "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mentor_kit.judging.grading_process"]
    return command, inherited_variables() | variables


GRADERS = LineWorker(_command)


def ask_graders(request: dict[str, Any], seconds: float) -> str:
    """Which grader says yes, else `none`, `refused` or `timeout` (see `grading_process.answer`).

    Raises:
        UserError: the process cannot start.
    """
    try:
        reply = GRADERS.ask(request | {"seconds": seconds}, PATIENCE * seconds)
    except NotReady as error:
        raise UserError(f"The grading worker cannot start ({error}); install "
                        f"{', '.join(PACKAGES.values())}.") from None
    return reply["by"] if reply else "timeout"
