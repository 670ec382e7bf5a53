"""What notebooks 02 and 04 are asked to do: both ask a student."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from mentor_kit.core.tables import check_path
from mentor_kit.evaluation.benchmarks.registry import check_benchmark, check_each_once
from mentor_kit.rewards.reward import load_reward
from mentor_kit.runs.parameters import StageConfig, checked

Reward = Annotated[str, AfterValidator(checked(load_reward))]
Benchmark = Annotated[str, AfterValidator(checked(check_benchmark))]


class StudentConfig(StageConfig):
    """A student that is asked: a training run's, or with `student_run="none"` an untrained one
    (folder or hub id)."""

    teacher_run: str = ""
    student_run: str = ""
    student_source: str = ""
    student_template: Literal["own", "kit"] = "own"

    @model_validator(mode="after")
    def _check_student(self) -> StudentConfig:
        if self.student_run == "none" and self.student_source in ("", "tiny"):
            raise ValueError("student_run='none' asks an untrained student, and student_source="
                             f"{self.student_source!r} is none: give a folder or a hub id, or "
                             "leave this stage out")
        return self


class DesignConfig(StudentConfig):
    """Notebook 02: rewards on rollouts of a student that is about to be trained."""

    presets: list[Reward] = ["sparse", "mentor", "any_overlap", "no_tool_match", "set_f1"]
    prompts: int = Field(32, ge=1)
    group_size: int = Field(8, ge=2)
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(256, ge=1)
    seed: int = Field(0, ge=0)


class EvaluateConfig(StudentConfig):
    """Notebook 04: a student on every evaluation split and on any declared benchmark, scored."""

    splits: list[str] = []
    benchmarks: list[Benchmark] = []
    benchmark_items: int = Field(0, ge=0)
    samples: int = Field(1, ge=1)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    max_turns: int = Field(5, ge=1)
    max_new_tokens: int = Field(256, ge=1)
    batch_size: int = Field(128, ge=1)
    constrain_tool_names: bool = False
    seed: int = Field(0, ge=0)
    passages: Annotated[str, AfterValidator(checked(check_path))] = ""
    retriever: Literal["bm25", "dense"] = "bm25"
    judge: Literal["released", "strict"] = "released"

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
