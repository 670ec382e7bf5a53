"""The values of a study's jobs, checked before the first kernel starts.

Types and names are checked when a study is read (`mentor_kit.batch.study`). Here each job's
parameters go through the configuration that its notebook will build (`mentor_kit.runs.parameters`),
so that an unknown reward, a missing key or sizes that do not divide are found at once, and not
hours later. Notebooks without a configuration are not checked.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from mentor_kit.batch.job import job_state
from mentor_kit.batch.plan import Job
from mentor_kit.batch.study import Study
from mentor_kit.collection.config import CollectConfig
from mentor_kit.core.plugins import load_object
from mentor_kit.errors import UserError
from mentor_kit.runs.parameters import StageConfig, configure, findings, parse_options, sentence
from mentor_kit.runs.run import NOTEBOOK_CONFIGS

COLLECT = "01_teacher_trajectories"
NEEDED_SPLITS = {"02_reward_design": ("train",), "03_rl_training": ("train", "validation")}

CONFIGS: dict[str, type[StageConfig]] = {
    notebook: load_object(config, "configuration") for notebook, config in NOTEBOOK_CONFIGS.items()}


def check_values(study: Study, jobs: Iterable[Job]) -> None:
    """Refuse what a notebook of these jobs would refuse.

    Raises:
        UserError: the first such value, with the place where the study sets it.
    """
    with _where_jobs_run(study.root):
        for job in jobs:
            if job.notebook.stem in CONFIGS:
                _check_config(study, job)
                _check_splits(study, job)


def try_collections(study: Study, retry_failed: bool = False) -> None:
    """Load the problems, and ask the teachers whether they answer, of the collections that are to
    run. Writes nothing.

    Raises:
        UserError: see `check_values` and `mentor_kit.collection.collect.plan_collection`.
    """
    from mentor_kit.collection.collect import plan_collection

    ended = ("done",) if retry_failed else ("done", "failed")
    jobs = [job for job in study.jobs if job.notebook.stem == COLLECT
             and job_state(job.run_dir)[0] not in ended]
    check_values(study, jobs)
    with _where_jobs_run(study.root):
        for job in jobs:
            plan_collection(configure(CollectConfig, **_own(job)), probe=False)


@contextmanager
def _where_jobs_run(root: Path) -> Iterator[None]:
    """Files and modules named in a study are found as a job finds them: from the project's
    folder."""
    path = list(sys.path)
    sys.path.insert(0, str(root))
    try:
        with chdir(root):
            yield
    finally:
        sys.path[:] = path


def _own(job: Job) -> dict[str, object]:
    """The job's parameters without the runs it takes: those do not exist yet."""
    return {name: value for name, value in job.params.items()
            if name not in ("run_dir", *job.inputs)}


def _place(study: Study, job: Job, parameters: Iterable[str]) -> str:
    """Where the study sets one of these for the job: a --set before the first file:line; else the
    job's stage."""
    places = [place for name in parameters if (place := study.where(job.stage, name))]
    asked_now = [place for place in places if place.startswith("--set")]
    return next(iter(asked_now + places), study.source.where("stages", job.stage))


def _check_config(study: Study, job: Job) -> None:
    found = findings(CONFIGS[job.notebook.stem], _own(job))
    if found:
        parameter, reason = found[0]
        place = _place(study, job, filter(None, [parameter, *re.findall(r"\w+", reason)]))
        if place.startswith("--set"):  # which says the value already
            reason = reason.removeprefix(f"{parameter}={job.params.get(parameter)!r}: ")
        raise UserError(sentence(f"{place}: {reason}"))


def _check_splits(study: Study, job: Job) -> None:
    """The splits that a job reads must be among those its teacher run is asked to collect."""
    teacher = job.inputs.get("teacher_run")
    if not isinstance(teacher, Job) or teacher.notebook.stem != COLLECT:
        return
    sizes = parse_options(teacher.params["split_sizes"], "split_sizes")
    needed = NEEDED_SPLITS.get(job.notebook.stem, ())
    if job.params.get("method") == "cold_start" and job.params.get("cold_start_level"):
        needed = ("pretrain", "validation")
    for split in (*needed, *job.params.get("splits", ())):
        if not sizes.get(split):
            asked = job.params.get("splits")
            place = _place(study, job, ["splits"]) if asked else _place(study, teacher,
                                                                         ["split_sizes"])
            raise UserError(f"{place}: {job} needs the split {split!r}, which {teacher} does not "
                            f"collect; add \"{split}:100\" to split_sizes, or take one of "
                            f"{', '.join(sizes)}.")
