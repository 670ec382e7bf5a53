"""What each notebook is asked to do: one frozen, validated configuration a notebook.

The first cell after a notebook's `parameters` cell builds one of these:

    config = TrainConfig.from_notebook(globals())

A wrong type or an impossible value is refused there, in one line, before anything is computed. A
batch builds the same ones for all its jobs before the first kernel starts
(`mentor_kit.batch.preflight`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mentor_kit.errors import UserError, did_you_mean

Config = TypeVar("Config", bound="StageConfig")
MAX_SEED = 2**32 - 1  # of numpy's and torch's generators
MAX_COUNT = 10**9  # no stage counts further


class StageConfig(BaseModel):
    """Common to all stages. Runs are named by folder; "" means the latest finished run of that
    stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        for name, value in self:
            most = MAX_SEED if name.endswith("seed") else MAX_COUNT
            if type(value) is int and value > most:
                raise ValueError(f"{name}={value} is above {most}: give a smaller number")
        return self

    @classmethod
    def from_notebook(cls, names: Mapping[str, Any]) -> Self:
        """The configuration that the parameters among a notebook's names, its `globals()`, give.

        Raises:
            UserError: a bad parameter; the message names each one and why.
        """
        return configure(cls, **{field: names[field] for field in cls.model_fields
                                 if field in names})


def checked(look_up: Callable[[str], Any]) -> Callable[[str], str]:
    """A check of a field that names something: `look_up` finds it or raises UserError. "" names
    nothing."""

    def check(spec: str) -> str:
        if spec:
            look_up(spec)
        return spec

    return check


def configure(cls: type[Config], **parameters: Any) -> Config:
    """Build a configuration, or raise a UserError that names each bad parameter and why.

    YAML reads `1e-6` as text; numbers written as text are accepted.
    """
    try:
        return cls(**parameters)
    except ValidationError as error:
        raise UserError(sentence("; ".join(reason for _, reason in _reasons(cls, error)))) from None


def findings(cls: type[StageConfig], parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What `configure` would refuse: (parameter, reason), the parameter "" where several do not fit
    together."""
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
        message = (
            f"there is no such parameter{did_you_mean(str(error['loc'][0]), cls.model_fields)}"
        )
    if error["type"] == "list_type":
        message = "it must be a list: [value]; with papermill's command line use -y"
    return f"{'.'.join(map(str, error['loc']))}={error['input']!r}: {message}"


def parse_options(options: Sequence[str], what: str) -> dict[str, Any]:
    """`["max_calls:3", "reasoning:short"]` as keyword arguments.

    A value is a number, true, false, null, a quoted text, a [list] or a {mapping} as YAML reads
    it; any other value is the text itself, colons and # included.

    Raises:
        UserError: for an entry without a colon, one given twice, or a quote or bracket that does
            not close.
    """
    parsed: dict[str, Any] = {}
    for option in options:
        name, colon, value = option.partition(":")
        name = name.strip()
        if not colon or not name.isidentifier():
            raise UserError(f"{what}: {option!r} is not of the form name:value.")
        if name in parsed:
            raise UserError(f"{what}: {name!r} is given twice; delete one.")
        parsed[name] = _option(value.strip(), option, what)
    return parsed


def _option(value: str, option: str, what: str) -> Any:
    if value.startswith(("[", "{", "'", '"')):
        return _read(value, option, what)
    try:
        found = yaml.safe_load(value)
    except yaml.YAMLError:
        return value
    # YAML reads 1:30 as a number of seconds
    is_plain = found is None or (isinstance(found, bool | int | float) and ":" not in value)
    return found if is_plain else value


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
    return {name.strip(): _read(value, name, what) for name, _,
            value in (s.partition("=") for s in settings)}
