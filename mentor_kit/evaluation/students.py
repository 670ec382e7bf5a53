"""The student that notebooks 02 and 04 ask: loaded from a training run or a folder, and sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mentor_kit.collection.collection import TRAJECTORIES, Collection
from mentor_kit.core.records import Record, save_records
from mentor_kit.evaluation.config import DesignConfig, EvaluateConfig
from mentor_kit.evaluation.evaluate import sample_groups
from mentor_kit.runs.open import load_run
from mentor_kit.runs.run import Run

if TYPE_CHECKING:
    from mentor_kit.students.rollout import Sampling
    from mentor_kit.students.student import Student

UNTRAINED = "base"  # the row of a pretrained student as it is; the paper calls it Vanilla


def input_runs(config: EvaluateConfig | DesignConfig) -> dict[str, Run]:
    """The runs this run is made from: the teacher's, and the student's (none for an untrained
    student)."""
    runs = {"teacher_run": load_run(config.teacher_run, stage="collect")}
    if config.student_run != "none":
        latest = "cold_start" if isinstance(config, DesignConfig) else "train"
        runs["student_run"] = load_run(config.student_run, stage=latest)
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


def sample_rollouts(
    config: DesignConfig, student: Student, collection: Collection, run: Run
) -> list[Record]:
    """Groups of sampled rollouts on training problems, judged; stored in the run."""
    from mentor_kit.students.rollout import Sampling

    teacher = collection.accepted("train")[:config.prompts]
    settings = Sampling(temperature=config.temperature, max_new_tokens=config.max_new_tokens,
                        seed=config.seed)
    rollouts = sample_groups(student, teacher, config.group_size, settings)
    save_records(run.path(TRAJECTORIES), rollouts)
    return rollouts


def sampling(config: EvaluateConfig) -> Sampling:
    """The sampling settings of an evaluation, stored with every trajectory."""
    from mentor_kit.students.rollout import Sampling

    return Sampling(temperature=config.temperature, top_p=config.top_p, top_k=config.top_k,
                    seed=config.seed, max_turns=config.max_turns,
                    max_new_tokens=config.max_new_tokens,
                    constrain_tool_names=config.constrain_tool_names)
