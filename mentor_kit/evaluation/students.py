"""The student that notebooks 02 and 04 ask: loaded from a training run or a folder, and sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mentor_kit.collection.collection import TRAJECTORIES, Collection, load_collection
from mentor_kit.core.records import Record, save_records
from mentor_kit.evaluation.config import DesignConfig, EvaluateConfig
from mentor_kit.evaluation.evaluate import sample_groups
from mentor_kit.judging.verdicts import judge_trajectory
from mentor_kit.rewards.behaviours import behaviours
from mentor_kit.runs.open import latest_run, load_run
from mentor_kit.runs.run import Run

if TYPE_CHECKING:
    from mentor_kit.students.rollout import Sampling
    from mentor_kit.students.student import Student

UNTRAINED = "base"  # the row of a pretrained student as it is; the paper calls it Vanilla


def input_runs(config: EvaluateConfig | DesignConfig) -> dict[str, Run]:
    """The runs this run is made from: the teacher's, and the student's (none for an untrained
    student, and none in notebook 02 where there is no cold start yet)."""
    runs, design = {"teacher_run": load_run(config.teacher_run, stage="collect")}, \
        isinstance(config, DesignConfig)
    nobody_yet = design and not config.student_run and latest_run("cold_start") is None
    if config.student_run != "none" and not nobody_yet:
        runs["student_run"] = load_run(config.student_run,
                                       stage="cold_start" if design else "train")
    return runs


def method_label(trained_method: str, constrained: bool) -> str:
    """The row of this run in tables: the training method, `_constrained` where decoding was
    constrained (a control)."""
    return f"{trained_method}_constrained" if constrained else trained_method


def load_evaluated_student(config: EvaluateConfig | DesignConfig, trained: Run | None,
                           collection: Collection,
                           constrained: bool = False) -> tuple[Student, str]:
    """The student of a training run, or the untrained one; and the row it is in tables (see
    `method_label`)."""
    from mentor_kit.students.student import load_student

    source, template = config.student_source, config.student_template
    method = method_label(trained.params["method"] if trained else UNTRAINED, constrained)
    if trained:
        source, template = trained.path("student"), "own"
    toolbox = collection.records[0].problem.toolbox
    return load_student(source, toolbox, name=method, backend="auto", template=template), method


def design_rollouts(config: DesignConfig, inputs: Mapping[str, Run], run: Run) -> list[Record]:
    """Groups of judged rollouts on training problems, stored in the run: the student's, or where
    there is no cold start yet the handwritten behaviours, as one group."""
    if "student_run" not in inputs and config.student_run != "none":
        print("There is no cold start yet: these are the handwritten behaviours. Run notebook 03 "
              "with method='cold_start', then this notebook again, to see a student's rollouts.")
        rollouts = [_judged(record, sample) for sample, (_, record) in enumerate(behaviours())]
    else:
        from mentor_kit.students.rollout import Sampling

        collection = load_collection(inputs["teacher_run"])
        student, _ = load_evaluated_student(config, inputs.get("student_run"), collection)
        settings = Sampling(temperature=config.temperature, seed=config.seed,
                            max_turns=config.max_turns,
                            max_new_tokens=config.max_new_tokens)
        rollouts = sample_groups(student, collection.accepted("train")[:config.prompts],
                                 config.group_size, settings)
    save_records(run.path(TRAJECTORIES), rollouts)
    return rollouts


def _judged(record: Record, sample: int) -> Record:
    facts = judge_trajectory(record.problem, record.trajectory)
    return replace(record, trajectory=replace(record.trajectory.with_meta(**facts), sample=sample))


def sampling(config: EvaluateConfig) -> Sampling:
    """The sampling settings of an evaluation, stored with every trajectory."""
    from mentor_kit.students.rollout import Sampling

    return Sampling(temperature=config.temperature, top_p=config.top_p, top_k=config.top_k,
                    seed=config.seed, max_turns=config.max_turns,
                    max_new_tokens=config.max_new_tokens,
                    constrain_tool_names=config.constrain_tool_names)
