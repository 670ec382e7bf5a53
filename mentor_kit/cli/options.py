"""What the commands share: the group they belong to, and options that several take alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

INTERRUPTED = 130  # exit code of what Ctrl-C stopped

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


class Commands(TyperGroup):
    """The commands, each of which says on Ctrl-C how to go on (typer itself ends without a
    word)."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("stopped; run the same command again to continue", err=True)
            raise typer.Exit(INTERRUPTED) from None


commands = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False,
                       pretty_exceptions_enable=False, rich_markup_mode="markdown",
                   context_settings={"help_option_names": ["--help", "-h"]},
                   help="Distil tool use from a teacher into a small language model by "
                        "reinforcement learning.")
