"""What notebook 01 is asked to do: problems of a source, a teacher, how often it is asked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.problems import (
    check_sizes,
    check_source_options,
    check_worked_toolbox,
    find_source,
)
from mentor_kit.runs.parameters import StageConfig, checked, parse_options
from mentor_kit.teachers import find_teacher, load_teacher

WORKED = ("worked_solution", "quirky")  # teachers that make a worked solution's calls


class CollectConfig(StageConfig):
    """Notebook 01: problems of a source, and a teacher's attempt at each."""

    problems: Annotated[str, AfterValidator(checked(find_source))] = Field(
        "gsm_symbolic", description="a source: gsm_symbolic | registry | registry_changes | "
                                    "bfcl_dialogues | arithmetic_stories | hub_math | mentor_data "
                                    "| trajectory_file | package.module:name")
    teacher: Annotated[str, AfterValidator(checked(find_teacher))] = Field(
        "worked_solution", description="worked_solution | quirky | chat_endpoint | local_model | "
                                       "file | released_tools | package.module:name")
    toolbox: Annotated[str, AfterValidator(checked(load_toolbox))] = Field(
        "", description='"" is the source\'s own | package.module:name')
    split_sizes: list[str] = Field(["train:2000", "validation:100", "in_domain:200"],
                                   description="problems of each split")
    problem_options: list[str] = Field([], description="name:value, passed to the source")
    teacher_options: list[str] = Field(
        [], description="name:value, passed to the teacher, such as base_url:http://host/v1 "
                        "or path:theirs.jsonl")
    samples: int = Field(1, ge=1, description="how often each problem is asked")
    selection: Literal["first", "shortest", "most_typical"] = Field(
        "first", description="which right sample is the reference: first | shortest | most_typical")
    data_seed: int = Field(0, ge=0, description="same seed, same problems, on any machine")

    @field_validator("toolbox")
    @classmethod
    def _check_toolbox(cls, spec: str, known: ValidationInfo) -> str:
        if spec and known.data.get("teacher") in WORKED:
            check_worked_toolbox(known.data.get("problems", ""), spec)
        return spec

    @field_validator("split_sizes")
    @classmethod
    def _check_sizes(cls, value: list[str], known: ValidationInfo) -> list[str]:
        check_sizes(known.data.get("problems", ""), parse_options(value, "split_sizes"))
        return value

    @field_validator("problem_options")
    @classmethod
    def _check_source_options(cls, value: list[str], known: ValidationInfo) -> list[str]:
        if {"problems", "split_sizes"} <= known.data.keys():
            sizes = parse_options(known.data["split_sizes"], "split_sizes")
            check_source_options(known.data["problems"], sizes,
                                 parse_options(value, "problem_options"))
        return value

    @field_validator("teacher_options")
    @classmethod
    def _check_teacher_options(cls, value: list[str], known: ValidationInfo) -> list[str]:
        # making it refuses options it does not take and a key that is not there
        if "teacher" in known.data:
            load_teacher(known.data["teacher"], **parse_options(value, "teacher_options"))
        return value
