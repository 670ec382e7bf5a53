"""A student: a model, its tokenizer and the prompt it is asked with. Loads, saves, asks, rolls
out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import GenerationConfig
from transformers.utils import get_json_schema
from transformers.utils import logging as transformers_logging

from mentor_kit.core.chat_markup import EOS
from mentor_kit.core.files import atomic_path
from mentor_kit.core.problem import Problem, prompt_messages
from mentor_kit.core.records import Record
from mentor_kit.core.toolbox import Toolbox, load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.judging.verdicts import judge_trajectory
from mentor_kit.students import torch_setup  # noqa: F401 - for its effect
from mentor_kit.students.adapters import (
    has_adapters,
    left_out,
    save_adapter,
    save_merged,
    trained_parameters,
)
from mentor_kit.students.formats import call_format
from mentor_kit.students.loading import LoadConfig
from mentor_kit.students.native_format import MASK_TAG, OURS, plain_template
from mentor_kit.students.rollout import prompt_ids, rollout
from mentor_kit.students.sampling import Sampling
from mentor_kit.students.source import check_vocabulary
from mentor_kit.students.tiny import IM_START, PAD, chat_template

transformers_logging.disable_progress_bar()  # theirs would bury ours
transformers_logging.set_verbosity_error()

# tokens that families keep for padding
PADS = (PAD, "<|finetune_right_pad_id|>", "<pad>", "<|pad|>")


@dataclass(frozen=True)
class Origin:
    """Where a student's weights came from.

    Args:
        source: a hub id, a folder, or "scratch".
        backend: `transformers` or `unsloth`; `why` says what decided.
        loading: how it was loaded for training; None for inference and for a student from scratch.
    """

    source: str = "scratch"
    backend: str = "transformers"
    why: str = "the student was made here"
    loading: LoadConfig | None = None


@dataclass
class Student:
    """Model and tokenizer with the toolbox they are prompted with.

    Args:
        model: a transformers causal language model.
        tokenizer: its tokenizer, whose chat template renders tools (see
            `mentor_kit.students.formats`).
        toolbox: the tools rendered into every prompt.
        name: shown in tables and stored as the producer of its trajectories.
        origin: where it came from and how it was loaded.
    """

    model: Any
    tokenizer: Any
    toolbox: Toolbox
    name: str = "student"
    origin: Origin = Origin()

    def __post_init__(self) -> None:
        prepare_tokenizer(self.tokenizer)
        check_vocabulary(self.tokenizer, self.model)
        ends = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        stops = ends if isinstance(ends, list) else [] if ends is None else [ends]
        self.format = call_format(self.tokenizer, self.tool_schemas, stops)
        # a checkpoint's own (repetition penalty, suppressed tokens, ...) would change what a
        # Sampling asks for
        self.model.generation_config = GenerationConfig(
            pad_token_id=self.tokenizer.pad_token_id, eos_token_id=list(self.format.stops))

    @property
    def positions(self) -> int:
        """The most tokens that the model can read: prompt and completion."""
        return getattr(self.model.config, "max_position_embeddings", None) or sys.maxsize

    @cached_property
    def tool_schemas(self) -> list[dict[str, Any]]:
        """The schemas exactly as TRL derives them from our functions, so all prompts are the
        same."""
        return [f if isinstance(f, dict) else get_json_schema(f)
                for f in self.toolbox.as_functions()]

    def prompt_ids(self, question: str) -> list[int]:
        """Token ids of the prompt, up to and including the assistant header."""
        return self.format.prompt_ids(prompt_messages(question), self.tool_schemas)

    def encode(self, question: str | Problem, trajectory: Trajectory,
               prompt: Sequence[int] | None = None) -> dict[str, list[int]]:
        """Prompt and trajectory as `input_ids`, and `assistant_masks`: 1 on what the assistant
        wrote. A Problem may bring its own messages and tools.

        Encoded turn by turn, so the ids are those that a rollout joins; tool results get 0.

        Args:
            prompt: the question's `prompt_ids`, where they are known.
        """
        if prompt is None:
            prompt = self.prompt_ids(question) if isinstance(question, str) else \
                prompt_ids(self, question)
        ids, mask = list(prompt), [0] * len(prompt)
        for piece, written in self.format.pieces(trajectory):
            ids += piece
            mask += [written] * len(piece)
        return {"input_ids": ids, "assistant_masks": mask}

    def rollout(self, problems: Sequence[Problem], sampling: Sampling | None = None,
                **options: Any) -> list[Trajectory]:
        """Answer problems with tools; see `mentor_kit.students.rollout.rollout`."""
        return rollout(self, problems, sampling or Sampling(), **options)

    def ask(self, question: str | Problem, **options: Any) -> Record:
        """Answer one question greedily. In Jupyter the returned record draws itself; a Problem is
        judged too."""
        asked = question if isinstance(question, Problem) else \
            Problem("asked", question, ("?",), "asked", "asked", self.toolbox.name)
        trajectory = self.rollout([asked], **options)[0]
        return Record(asked, trajectory.with_meta(**judge_trajectory(asked, trajectory))
                      if isinstance(question, Problem) else trajectory)

    def describe(self) -> str:
        """One line: name, architecture, size, vocabulary, device."""
        model = self.model
        size = sum(p.numel() for p in model.parameters())
        base = model.get_base_model() if has_adapters(model) else model
        adapters = ""
        if has_adapters(model):
            rest = left_out(model)
            adapters = (f" with LoRA ({trained_parameters(model):,} trained"
                        + (f"; not on {', '.join(rest)}" if rest else "") + ")")
        return (f"{self.name}: {type(base).__name__}{adapters}, {size:,} parameters, "
                f"{len(self.tokenizer):,} tokens, on {model.device}, by {self.origin.backend} "
                f"({self.origin.why}), toolbox {self.toolbox.name} ({len(self.toolbox.names)} "
                "tools)")

    def save(self, folder: Path | str, card: str | None = None) -> Path:
        """Write a folder that `transformers` loads, with a model card, whole or not at all.

        A student with LoRA is saved merged; its adapters alone lie in `adapter/`, for peft.
        """
        folder = Path(folder)
        if folder.exists():
            raise UserError(f"{str(folder)!r} exists already: a saved student is never "
                            "overwritten; delete it first.")
        # trainers leave it off; whoever loads the folder wants to generate
        self.model.config.use_cache = True
        self.tokenizer.padding_side = "left"  # Unsloth's trainers turn it
        with atomic_path(folder) as temporary:
            if has_adapters(self.model):
                save_merged(self.model, temporary)
                save_adapter(self.model, temporary / "adapter", self.origin.source)
            else:
                self.model.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
            (temporary / "chat_template.jinja").write_text(
                plain_template(self.tokenizer.chat_template), encoding="utf-8")
            (temporary / "README.md").write_text(card or model_card(self.name), encoding="utf-8")
        return folder


def give_template(tokenizer: Any) -> None:
    """Prompt with our ChatML + Hermes template, whatever the tokenizer brought (SmolLM2's own
    renders no tools).

    Raises:
        UserError: a vocabulary without ChatML's tokens.
    """
    missing = [t for t in (IM_START, EOS) if t not in tokenizer.get_vocab()]
    if missing:
        raise UserError("student_template=kit needs a ChatML vocabulary, and this one lacks "
                        f"{missing[0]!r}: use a ChatML student (Qwen2.5, Qwen3, SmolLM2).")
    tokenizer.chat_template, tokenizer.eos_token = chat_template(), EOS


def prepare_tokenizer(tokenizer: Any) -> None:
    """Let a tokenizer's tool calls be parsed, and tell its padding from an end of turn.

    Raises:
        UserError: neither the tokenizer nor TRL says how to parse them, or nothing is there to pad
            with.
    """
    from trl.chat_template_utils import add_response_schema, qwen3_template

    if tokenizer.chat_template is None:
        raise UserError(f"The student's tokenizer has no chat template; tools need one. {OURS}")
    if tokenizer.pad_token in (None, tokenizer.eos_token):
        pad = next((p for p in PADS if p in tokenizer.get_vocab()), None)
        if pad in (None, tokenizer.eos_token):
            raise UserError(f"The student pads with {tokenizer.pad_token!r} and has no {PAD!r}: "
                            "its ends of turn cannot be told from padding; set another "
                            "tokenizer.pad_token and save the folder.")
        tokenizer.pad_token = pad
    if _bare(tokenizer.chat_template) == _bare(chat_template()):
        # same Hermes markup; TRL knows templates by exact text only
        tokenizer.response_template = qwen3_template
        tokenizer.chat_template = chat_template()
    elif getattr(tokenizer, "response_template", None) is None:
        try:
            add_response_schema(tokenizer)
        except ValueError as error:
            raise UserError("TRL does not know this student's chat template, so it cannot parse "
                            f"its tool calls ({' '.join(str(error).split())[:120]}). {OURS} Or "
                            "save its tokenizer with a response_template of its own.") from error


def _bare(template: str) -> str:
    """A template without white space, and without the tag of training's masks."""
    return "".join(MASK_TAG.sub("", template).split())


def load_student(folder: Path | str, toolbox: str | Toolbox = "arithmetic", *, name: str = "",
                 backend: str = "transformers", loading: LoadConfig | None = None,
                 template: str = "own") -> Student:
    """Load a student from a local folder or a hub id.

    Args:
        backend: `transformers`, `unsloth` or `auto` (see `mentor_kit.students.backends`).
        loading: how it will be trained (all parameters, LoRA, 4-bit); None loads it for inference.
        template: its `own` chat template, or the `kit`'s.

    Raises:
        UserError: folder without model or tokenizer, or an id that cannot be reached.
    """
    from mentor_kit.students.backends import backend_for, load_model

    box = load_toolbox(toolbox) if isinstance(toolbox, str) else toolbox
    chosen, why = backend_for(backend, loading)
    model, tokenizer = load_model(str(folder), chosen, loading)
    if template == "kit":
        give_template(tokenizer)
    return Student(model, tokenizer, box, name or Path(folder).name,
                   Origin(str(folder), chosen, why, loading))


def model_card(name: str, facts: Mapping[str, Any] | None = None) -> str:
    """A short model card (YAML header, what it is, how to load it, the facts of its training)."""
    lines = "".join(f"- {k}: {v}\n" for k, v in (facts or {}).items())
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [tool-use, mentor, grpo]
---
# {name}

A student trained with MENTOR kit (method: arXiv 2510.18383). Its licence is that of the model it
was trained from; one that the kit made from scratch is Apache-2.0.

{lines}
```python
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = "."  # or the model's name on the hub
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
```
"""
