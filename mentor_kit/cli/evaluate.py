"""`mentor-kit evaluate CHECKPOINT BENCHMARK...`: a student's folder, a hub id or a teacher on
declared benchmarks.

    mentor-kit evaluate results/demo/train/ab12cd34ef56/student arithmetic_stories:in_domain
    mentor-kit evaluate teacher:worked_solution gsm_symbolic
    mentor-kit evaluate teacher:chat_endpoint aime24 --teacher-option model:Qwen/Qwen3-32B \\
        --teacher-option base_url:...

The run's folder is named by a hash of everything that was asked, the checkpoint's weights included.
Started again it goes on where it was stopped; finished, it only prints its table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mentor_kit.collection.collect import attempt
from mentor_kit.collection.collection import TRAJECTORIES
from mentor_kit.core.files import find_path
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record, load_records
from mentor_kit.errors import UserError
from mentor_kit.evaluation.benchmarks.registry import benchmark_names, write_provenance
from mentor_kit.evaluation.config import EvaluateConfig
from mentor_kit.evaluation.report import interval_table
from mentor_kit.evaluation.stage import accuracy_summary
from mentor_kit.evaluation.students import sampling
from mentor_kit.evaluation.tasks import benchmark_tasks, evaluate_tasks, perturbed_tasks
from mentor_kit.runs.files import file_sha256
from mentor_kit.runs.locks import lock_folder
from mentor_kit.runs.open import init_run, load_run, project_root
from mentor_kit.runs.parameters import parse_options
from mentor_kit.runs.run import Run, notebook_version, run_key

TEACHER = "teacher:"
WEIGHTS = ("*.safetensors", "*.bin", "*.gguf", "config.json", "tokenizer.json",
           "chat_template.jinja")


def evaluate_target(target: str, config: EvaluateConfig, *, method: str = "",
                    teacher_options: Sequence[str] = (),
                    backend: str = "auto", out: Path | None = None) -> tuple[Run, list[Record]]:
    """Evaluate a checkpoint or a teacher on `config.benchmarks`. Everything asked for is looked up
    before the run's folder is made.

    Args:
        target: a student's folder, a hub id, or `teacher:NAME` (a name or package.module:name of a
            teacher).
        method: its row in tables; "" takes the folder's or the teacher's name.
        out: the run's folder; default results/interactive/evaluate/<key>.

    Raises:
        UserError: no benchmark named, a target, benchmark or option that cannot be used, or a
            folder in which another evaluation is at work or that holds a run with other parameters.
    """
    if not config.benchmarks:
        raise UserError(f"Name at least one benchmark: {', '.join(benchmark_names())}.")
    method = method or _method(target)
    asked = config.model_dump() | {"target": target_identity(target), "method": method,
                                   "backend": backend,
                                   "teacher_options": list(teacher_options)}
    key = run_key("evaluate", notebook_version("04_evaluation"), _without_inputs(asked), {})
    folder = out or project_root() / "results" / "interactive" / "evaluate" / key
    if (folder / "DONE").is_file() and load_run(folder).key == key:
        return load_run(folder), load_records(folder / TRAJECTORIES)
    solver = load_solver(target, method, teacher_options, backend, config.student_template)
    tasks, provenance = benchmark_tasks(config, solver, sampling(config))
    with lock_folder(folder, f"Another evaluation is at work in {str(folder)!r}: wait for it, or "
                             "give --out another folder."):
        run = init_run(folder, stage="evaluate", params=_without_inputs(asked))
        write_provenance(provenance, run)
        tasks = [replace(t, attempts=_worked_solutions(t.problems)) for t in tasks]
        tasks += perturbed_tasks(tasks, config.perturbations)
        records = evaluate_tasks(tasks, run, samples=config.samples, batch_size=config.batch_size,
                                 meta={"method": method, "seed": config.seed},
                                 description=f"evaluate {method}")
        run.finish(method=method, **accuracy_summary(records))
    return run, records


def _without_inputs(params: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in params.items()
            if k not in ("teacher_run", "student_run", "student_source", "splits")}


def _method(target: str) -> str:
    if target.startswith(TEACHER):
        return "teacher"
    path = Path(target)
    return path.parent.name if path.name == "student" else path.name


def target_identity(target: str) -> str:
    """What is evaluated, the same on any machine: a folder's name and the hash of its weights, else
    the name given."""
    folder = find_path(target)
    if not folder.is_dir():
        return target
    files = sorted({f for pattern in WEIGHTS for f in folder.glob(pattern)})
    digest = hashlib.sha256("".join(f"{f.name} {file_sha256(f)}\n"
                                    for f in files).encode()).hexdigest()
    return f"{folder.name}:sha256:{digest}"


def load_solver(target: str, method: str, teacher_options: Sequence[str], backend: str,
                template: str) -> Any:
    """The student or the teacher. A teacher samples as it is told to by its own options.

    Raises:
        UserError: it cannot be loaded.
    """
    if target.startswith(TEACHER):
        from mentor_kit.teachers import load_teacher

        return load_teacher(target.removeprefix(TEACHER),
                            **parse_options(teacher_options, "--teacher-option"))
    from mentor_kit.students.student import load_student

    return load_student(target, name=method, backend=backend, template=template)


def _worked_solutions(problems: Sequence[Problem]) -> list[Record]:
    """The offline teacher's attempts at the problems that carry a worked solution."""
    from mentor_kit.teachers import load_teacher

    teacher = load_teacher("worked_solution")
    return [attempt(p, teacher) for p in problems if {"worked_solution", "program"} & set(p.meta)]


def print_report(run: Run, records: Sequence[Record]) -> None:
    """The table with intervals, and where the run lies."""
    import pandas as pd

    with pd.option_context("display.width", 220, "display.max_columns", 40):
        print(interval_table(records).to_string(float_format=lambda v: f"{v:g}"))
    print(f"95% bootstrap intervals over items; every asked item counts. Run: {run.dir}")
