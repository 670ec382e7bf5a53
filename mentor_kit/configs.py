"""What each notebook is asked to do: one frozen, validated configuration a notebook.

The first cell after a notebook's `parameters` cell builds one of these with `configure`; an unknown name, a wrong type
or an impossible value is refused there, in one line, before anything is computed. A batch builds the same ones for all
its cells before the first kernel starts (`mentor_kit.batch.preflight`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mentor_kit import checks
from mentor_kit.errors import UserError, did_you_mean

Reward = Annotated[str, AfterValidator(checks.known_reward)]
Teacher = Annotated[str, AfterValidator(checks.known_teacher)]
ProblemSource = Annotated[str, AfterValidator(checks.known_source)]
ToolboxName = Annotated[str, AfterValidator(checks.known_toolbox)]
Table = Annotated[str, AfterValidator(checks.known_table)]
Benchmark = Annotated[str, AfterValidator(checks.known_benchmark)]

Config = TypeVar("Config", bound="StageConfig")


class StageConfig(BaseModel):
    """Common to all stages. Runs are named by folder; "" means the latest finished run of that stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CollectConfig(StageConfig):
    """Notebook 01: problems of a source, and a teacher's attempt at each."""

    problems: ProblemSource = "gsm_symbolic"
    teacher: Teacher = "worked_solution"
    toolbox: ToolboxName = ""
    split_sizes: list[str] = ["train:2000", "validation:100", "in_domain:200"]
    problem_options: list[str] = []
    teacher_options: list[str] = []
    samples: int = Field(1, ge=1)
    selection: Literal["first", "shortest", "most_typical"] = "first"
    data_seed: int = Field(0, ge=0)

    @field_validator("split_sizes")
    @classmethod
    def _something_is_asked(cls, value: list[str], known: ValidationInfo) -> list[str]:
        checks.check_sizes(known.data.get("problems", ""), parse_options(value, "split_sizes"))
        return value

    @field_validator("problem_options")
    @classmethod
    def _source_takes_options(cls, value: list[str], known: ValidationInfo) -> list[str]:
        if {"problems", "split_sizes"} <= known.data.keys():
            sizes = parse_options(known.data["split_sizes"], "split_sizes")
            checks.check_source_options(known.data["problems"], sizes, parse_options(value, "problem_options"))
        return value

    @field_validator("teacher_options")
    @classmethod
    def _teacher_takes_options(cls, value: list[str], known: ValidationInfo) -> list[str]:
        if "teacher" in known.data:
            checks.check_teacher_options(known.data["teacher"], parse_options(value, "teacher_options"))
        return value


class StudentConfig(StageConfig):
    """A student that is asked: a training run's, or with `student_run="none"` an untrained one (folder or hub id)."""

    teacher_run: str = ""
    student_run: str = ""
    student_source: str = ""
    student_template: Literal["own", "kit"] = "own"

    @model_validator(mode="after")
    def _there_is_a_student(self) -> StudentConfig:
        if self.student_run == "none" and self.student_source in ("", "tiny"):
            raise ValueError(f"student_run='none' asks an untrained student, and student_source="
                             f"{self.student_source!r} is none: give a folder or a hub id, or leave this stage out")
        return self


class DesignConfig(StudentConfig):
    """Notebook 02: rewards on rollouts of a student that is about to be trained."""

    presets: list[Reward] = ["sparse", "mentor", "any_overlap", "no_tool_match", "set_f1"]
    prompts: int = Field(32, ge=1)
    group_size: int = Field(8, ge=2)
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(256, ge=1)
    seed: int = Field(0, ge=0)


class TrainConfig(StageConfig):
    """Notebook 03: the cold start, SFT, or GRPO with a reward. See `mentor_kit.training.config` for each setting."""

    teacher_run: str = ""
    start_run: str = ""
    method: str = "mentor"
    reward: str = ""
    seed: int = Field(0, ge=0)
    student_source: str = "tiny"
    student_backend: Literal["auto", "transformers", "unsloth"] = "auto"
    student_hidden: int = Field(128, ge=8)
    student_layers: int = Field(3, ge=1)
    vocab_size: int = Field(2048, ge=400)
    references: int = Field(0, ge=0)
    student_template: Literal["own", "kit"] = "own"
    finetuning: Literal["auto", "full", "lora"] = "auto"
    lora_rank: int = Field(32, ge=1)
    lora_alpha: int = Field(0, ge=0)
    load_in_4bit: bool = False
    gradient_checkpointing: bool = False
    max_seq_length: int = Field(4096, ge=64)
    fast_inference: bool = False
    grpo_packing: bool = False
    validation_items: int = Field(64, ge=1)
    validate_every: int = Field(10, ge=0)
    save_every: int = Field(10, ge=0)
    report_to: str = "none"
    steps: int = Field(40, ge=1)
    cold_start_steps: int = Field(400, ge=1)
    cold_start_accuracy: float = Field(0.2, ge=0, le=1)
    cold_start_cooldown: int = Field(50, ge=0)
    cold_start_batch: int = Field(32, ge=1)
    cold_start_learning_rate: float = Field(3e-3, gt=0)
    cold_start_muon_learning_rate: float = Field(2e-2, gt=0)
    habit_probability: float = Field(0.6, ge=0, le=1)
    sft_batch: int = Field(128, ge=1)
    sft_micro_batch: int = Field(0, ge=0)
    sft_learning_rate: float = Field(1e-3, gt=0)
    prompts_per_step: int = Field(16, ge=1)
    group_size: int = Field(8, ge=2)
    updates_per_batch: int = Field(1, ge=1)
    num_iterations: int = Field(1, ge=1)
    micro_batch: int = Field(32, ge=1)
    learning_rate: float = Field(2e-4, gt=0)
    temperature: float = Field(1.0, gt=0)
    top_k: int = Field(0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_turns: int = Field(5, ge=1)
    max_new_tokens: int = Field(256, ge=1)
    kl_beta: float = Field(0.0, ge=0)
    entropy_coef: float = Field(0.0, ge=0)
    epsilon: float = Field(0.2, gt=0)
    delta: float = Field(3.0, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    warmup_steps: int = Field(0, ge=0)
    loss_type: Literal["dapo", "grpo", "bnpo", "dr_grpo", "cispo", "sapo"] = "dapo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    advantage: Literal["grpo", "gdpo"] = "grpo"
    keep: Literal["last", "best"] = "last"
    collapse_patience: int = Field(20, ge=0)
    num_processes: int = Field(1, ge=1)
    accelerate_config: str = ""
    vllm_server: str = ""

    @model_validator(mode="after")
    def _method_can_be_trained(self) -> TrainConfig:
        from mentor_kit.training.config import loading_of, settings_of

        settings_of(self)
        loading_of(self, embedded=self.student_source == "tiny")
        try:
            if self.kind == "grpo":
                checks.known_reward(self.reward_spec)
        except UserError as error:
            raise ValueError(f"{'reward' if self.reward else 'method'}={self.reward_spec!r}: {error}") from None
        if self.kind == "grpo" and self.reward not in ("", self.method) and checks.is_reward(self.method):
            raise ValueError(f"reward={self.reward!r}: method={self.method!r} already names a reward; leave reward out, "
                             "or give the method a name of its own (method: fewer_calls, reward: my_rewards:fewer_calls)")
        return self

    @property
    def kind(self) -> Literal["cold_start", "sft", "grpo"]:
        return self.method if self.method in ("cold_start", "sft") else "grpo"

    @property
    def reward_spec(self) -> str:
        return self.reward or self.method


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
    passages: Table = ""
    retriever: Literal["bm25", "dense"] = "bm25"

    @model_validator(mode="after")
    def _samples_must_differ(self) -> EvaluateConfig:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples={self.samples} with temperature 0 would repeat one answer; set temperature, "
                             "e.g. 0.6")
        return self


class FiguresConfig(StageConfig):
    """Notebook 05: figures and tables from stored runs."""

    runs: list[str] = []


CONFIGS: dict[str, type[StageConfig]] = {
    "01_teacher_trajectories": CollectConfig, "02_reward_design": DesignConfig, "03_rl_training": TrainConfig,
    "04_evaluation": EvaluateConfig, "05_paper_figures": FiguresConfig}


def configure(cls: type[Config], **parameters: Any) -> Config:
    """Build a configuration, or raise a UserError that names each bad parameter and why.

    YAML reads `1e-6` as text; numbers written as text are accepted.
    """
    try:
        return cls(**parameters)
    except ValidationError as error:
        raise UserError(sentence("; ".join(reason for _, reason in _reasons(cls, error)))) from None


def findings(cls: type[StageConfig], parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What `configure` would refuse: (parameter, reason), the parameter "" where several do not fit together."""
    try:
        cls(**parameters)
    except ValidationError as error:
        return _reasons(cls, error)
    return []


def sentence(text: str) -> str:
    """The text with its full stop."""
    return text if text.endswith((".", "?")) else f"{text}."


def _reasons(cls: type[StageConfig], error: ValidationError) -> list[tuple[str, str]]:
    """pydantic's findings in our words: which parameter, which value, why."""
    return [(str(e["loc"][0]) if e["loc"] else "", _reason(cls, e)) for e in error.errors()]


def _reason(cls: type[StageConfig], error: Mapping[str, Any]) -> str:
    message = error["msg"].removeprefix("Value error, ").rstrip(".")
    if not error["loc"]:
        return message
    if error["type"] == "extra_forbidden":
        message = f"there is no such parameter{did_you_mean(str(error['loc'][0]), cls.model_fields)}"
    if error["type"] == "list_type":
        message = "it must be a list: [value]; with papermill's command line use -y"
    return f"{'.'.join(map(str, error['loc']))}={error['input']!r}: {message}"


def given(cls: type[StageConfig], names: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of `cls` among a notebook's names (its `globals()`)."""
    return {field: names[field] for field in cls.model_fields if field in names}


def parse_options(options: Sequence[str], what: str) -> dict[str, Any]:
    """`["max_calls:3", "reasoning:short"]` as keyword arguments; values are read as YAML scalars.

    Raises:
        UserError: for an entry without a colon, one given twice, or a value that is not YAML.
    """
    parsed: dict[str, Any] = {}
    for option in options:
        name, colon, value = option.partition(":")
        name = name.strip()
        if not colon or not name.isidentifier():
            raise UserError(f"{what}: {option!r} is not of the form name:value.")
        if name in parsed:
            raise UserError(f"{what}: {name!r} is given twice; delete one.")
        parsed[name] = _read(value, option, what)
    return parsed


def _read(value: str, option: str, what: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"{what}: the value of {option!r} is not YAML; put it in quotes.") from None


def parse_settings(settings: Sequence[str], what: str) -> dict[str, Any]:
    """`["samples=4", "temperature=0.6"]` as keyword arguments; values are read as YAML.

    Raises:
        UserError: for an entry without an equals sign.
    """
    wrong = next((s for s in settings if "=" not in s), None)
    if wrong is not None:
        raise UserError(f"{what}: {wrong!r} is not of the form name=value.")
    return {name.strip(): _read(value, name, what) for name, _, value in (s.partition("=") for s in settings)}
