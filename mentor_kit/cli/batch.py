"""What `mentor-kit batch`, and `collect`, `train` and `evaluate` for a study, do."""

from __future__ import annotations

from pathlib import Path

import typer

from mentor_kit.errors import UserError

COLLECT = "01_teacher_trajectories"


def run_study(study: Path, results: Path | None, overrides: list[str] | None, workers: int | None,
              dry_run: bool, retry_failed: bool, time_limit: float | None, subset: str,
              only: list[str] | None = None, notebook: str = "", executor: str = "local",
              address: str | None = None) -> None:
    """Run a study, or its stages of one notebook, and end the process with the batch's exit
    code."""
    from mentor_kit.batch.run import run_batch
    from mentor_kit.batch.study import load_study

    loaded = load_study(study, overrides=overrides or (), results=results, subset=subset)
    stages = [name.strip() for names in only or () for name in names.split(",") if name.strip()]
    if notebook:
        stages = [name for name, stage in loaded.stages.items() if stage.notebook.stem == notebook]
        if not stages:
            raise UserError(f"{study}: no stage of this study runs notebook {notebook}; add one "
                            "under `stages:`.")
    if notebook == COLLECT and not dry_run:
        from mentor_kit.batch.preflight import try_collections

        try_collections(loaded, retry_failed)
    code = run_batch(loaded, workers=workers, only=stages, dry_run=dry_run,
                     retry_failed=retry_failed,
                     time_limit=time_limit, executor=executor, address=address)
    if notebook == COLLECT and not dry_run:
        from mentor_kit.batch.display import outcomes

        for text in outcomes(loaded.jobs):
            print(text)
    raise typer.Exit(code)
