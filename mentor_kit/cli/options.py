"""Options that several commands take alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StudyFile = Annotated[Path, typer.Argument(help="the study, such as params/demo.yaml")]
Results = Annotated[Path | None, typer.Option(help="folder of all studies' results (default: the "
                                                   "project's results/)")]
Set = Annotated[list[str] | None,
                typer.Option("--set",
                             help="name=value, stage.name=value or seeds=[0,1]; repeatable")]
Workers = Annotated[int | None, typer.Option(help="jobs at a time (default: 2, on one core 1; on "
                                                  "Ray what fits)")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only list what would run")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="run failed jobs again")]
Subset = Annotated[str, typer.Option(help="run only a part that the study names under `subsets:`")]
TimeLimit = Annotated[float | None, typer.Option(help="seconds after which a job is stopped and "
                                                      "counts as failed")]
