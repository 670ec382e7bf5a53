"""`mentor-kit train PARAMS.yaml`: one training, as notebook 03 does it, from a flat file of its
parameters.

    mentor-kit train my_run.yaml --run-dir results/mine/train/first --set seed=1
    accelerate launch --config_file params/accelerate/ddp.yaml -m mentor_kit train my_run.yaml \\
        --set num_processes=4

Started again it continues where it was stopped; finished, it only says so. This is also what the
processes of a notebook with `num_processes` above 1 run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mentor_kit.collection.collection import load_collection
from mentor_kit.errors import UserError
from mentor_kit.runs.locks import lock_folder
from mentor_kit.runs.open import init_run, load_run, project_root
from mentor_kit.runs.parameters import configure
from mentor_kit.runs.run import Run, notebook_version, run_key
from mentor_kit.training import processes, stage
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.launch import note_failure

NOTEBOOK = "03_rl_training"


def train_file(params: Mapping[str, Any], run_dir: Path | None = None, *,
               part_of_notebook: bool = False) -> Run:
    """Train as `params` say: notebook 03's parameters, all optional.

    Args:
        run_dir: the run's folder; default: `run_dir` of the parameters, else
            results/interactive/<stage>/<key>.
        part_of_notebook: one of the processes a notebook started: it draws, finishes and prints the
            run itself.

    Raises:
        UserError: a parameter, input run or student that cannot be used, a folder in which another
            training is at work or that holds a run with other parameters, or a training that
            collapsed.
    """
    processes.begin()
    params = dict(params)
    folder = Path(run_dir or params.pop("run_dir", "") or "")
    try:
        asked = _asked(params, folder)
        with (
            nullcontext() if part_of_notebook or not processes.is_first() else _alone(asked.folder)
        ):
            run = _open(asked)
            if not run.is_done():
                _train(run, asked, finish=not part_of_notebook)
    except Exception as error:
        if part_of_notebook:
            note_failure(folder, error)
        raise
    if processes.is_first() and not part_of_notebook:
        print(f"{json.dumps(run.facts)}\nRun: {run.dir}")
    return run


@dataclass(frozen=True)
class _Asked:
    """What is to be trained, checked: nothing is written yet."""

    config: TrainConfig
    inputs: dict[str, Run]
    folder: Path
    key: str


def _asked(params: dict[str, Any], folder: Path) -> _Asked:
    params.pop("run_dir", None)
    config = configure(TrainConfig, **params)
    if processes.count() not in (1, config.num_processes):
        raise UserError(f"num_processes={config.num_processes}, but {processes.count()} processes "
                        "were launched: give both the same number.")
    inputs = stage.inputs(config, load_run(config.teacher_run, stage="collect"))
    name = stage.stage_name(config)
    own = {k: v for k, v in config.model_dump().items() if k not in inputs}
    key = run_key(name, notebook_version(NOTEBOOK), own, {k: r.key for k, r in inputs.items()})
    folder = (
        folder if str(folder) != "." else project_root() / "results" / "interactive" / name / key
    )
    return _Asked(config, inputs, folder, key)


def _alone(folder: Path) -> IO[str]:
    """Keep other trainings out of the folder; where a notebook trains, its batch job does that."""
    return lock_folder(folder, f"Another training is at work in {str(folder)!r}: wait for it, or "
                               "give --run-dir another folder.")


def _open(asked: _Asked) -> Run:
    """The run, started by the first process and seen by the others; a finished one of the same key
    as it is."""
    if (asked.folder / "DONE").is_file() and load_run(asked.folder).key == asked.key:
        return load_run(asked.folder)
    opened = init_run(asked.folder, stage=stage.stage_name(asked.config),
                       params=asked.config.model_dump(),
                       inputs=asked.inputs) if processes.is_first() else None
    stage_and_key = processes.share((opened.stage, opened.key) if opened else None)
    return opened or processes.SilentRun(asked.folder, *stage_and_key)


def _train(run: Run, asked: _Asked, *, finish: bool) -> None:
    config, inputs = asked.config, asked.inputs
    data = stage.load_training_data(load_collection(inputs["teacher_run"]), config)
    student = stage.make_student(config, data, inputs.get("start_run"))
    budget = stage.train(config, student, data, run, inputs)
    if finish and processes.is_first():
        from mentor_kit.analysis import figures

        figures.show(figures.run_curves(run), run, "training_curves")
        run.finish(method=config.method, **budget)
