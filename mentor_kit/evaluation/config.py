"""What notebooks 02 and 04 are asked to do: both ask a student."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from mentor_kit.core.tables import check_path
from mentor_kit.evaluation.benchmarks.registry import check_benchmark, check_each_once
from mentor_kit.rewards.reward import load_reward
from mentor_kit.runs.parameters import StageConfig, checked
from mentor_kit.students.source import check_source
from mentor_kit.toolboxes.perturbed import read_perturbation

Reward = Annotated[str, AfterValidator(checked(load_reward))]
Benchmark = Annotated[str, AfterValidator(checked(check_benchmark))]
Perturbation = Annotated[str, AfterValidator(checked(read_perturbation))]


class StudentConfig(StageConfig):
    """A student that is asked: a training run's, or with `student_run="none"` an untrained one
    (folder or hub id)."""

    teacher_run: str = Field("", description='a run of notebook 01; "" is the latest')
    student_run: str = Field(
        "", description='a run of notebook 03; "" is the latest ("none": the untrained '
                        'student_source)')
    student_source: str = Field(
        "", description='folder or hub id of an untrained student, where student_run is "none"')
    student_template: Literal["own", "kit"] = Field(
        "own", description="its own chat template | the kit's")

    @model_validator(mode="after")
    def _check_student(self) -> StudentConfig:
        if self.student_run == "none" and self.student_source in ("", "tiny"):
            raise ValueError("student_run='none' asks an untrained student, and student_source="
                             f"{self.student_source!r} is none: give a folder or a hub id, or "
                             "leave this stage out")
        if self.student_run == "none":
            check_source(self.student_source)
        return self


class DesignConfig(StudentConfig):
    """Notebook 02: rewards on rollouts of a student that is about to be trained."""

    presets: list[Reward] = Field(
        ["sparse", "mentor", "any_overlap", "no_tool_match", "set_f1"],
        description="rewards: presets, YAML paths or package.module:name")
    prompts: int = Field(32, ge=1, description="problems sampled")
    group_size: int = Field(8, ge=2, description="rollouts per problem")
    temperature: float = Field(1.0, gt=0, description="of the rollouts")
    max_turns: int = Field(5, ge=1, description="assistant turns")
    max_new_tokens: int = Field(
        256, ge=1, description="tokens of a completion, tool results included")
    seed: int = Field(0, ge=0, description="of the rollouts")


class EvaluateConfig(StudentConfig):
    """Notebook 04: a student on every evaluation split and on any declared benchmark, scored."""

    splits: list[str] = Field([], description="[] is all but pretrain, train and validation")
    benchmarks: list[Benchmark] = Field(
        [], description="declared benchmarks too, such as arithmetic_stories or bfcl:simple_python")
    benchmark_items: int = Field(0, ge=0, description="most items of a benchmark split; 0 is all")
    perturbations: list[Perturbation] = Field(
        [], description="ask every split again with harder tools, such as renamed or "
                        "distracting+failing")
    samples: int = Field(
        1, ge=1, description="answers to each problem; more than one needs a temperature")
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="of sampling")
    top_k: int = Field(0, ge=0, description="of sampling; 0 is off")
    max_turns: int = Field(5, ge=1, description="assistant turns")
    max_new_tokens: int = Field(
        256, ge=1, description="tokens of a completion, tool results included")
    batch_size: int = Field(128, ge=1, description="rollouts generated at once")
    constrain_tool_names: bool = Field(
        False, description="a control: only names of existing tools can be decoded")
    seed: int = Field(0, ge=0, description="of sampling")
    passages: Annotated[str, AfterValidator(checked(check_path))] = Field(
        "", description="passage file of the search tool")
    retriever: Literal["bm25", "dense"] = Field("bm25", description="bm25 | dense")
    judge: Literal["released", "strict"] = Field(
        "released", description="released (the paper's code) | strict (both sides read whole)")

    @field_validator("benchmarks")
    @classmethod
    def _check_benchmarks(cls, specs: list[str]) -> list[str]:
        check_each_once(specs)
        return specs

    @model_validator(mode="after")
    def _check_samples(self) -> EvaluateConfig:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples={self.samples} with temperature 0 would repeat one answer; "
                             "set temperature, e.g. 0.6")
        return self
