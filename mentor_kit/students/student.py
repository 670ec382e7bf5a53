"""A student: a model, its tokenizer and the prompt it is asked with. Loads, saves, asks, rolls out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.utils import get_json_schema
from trl.chat_template_utils import add_response_schema, qwen3_template

from mentor_kit.errors import UserError
from mentor_kit.problem import Problem
from mentor_kit.store import Record
from mentor_kit.students.tiny import chat_template
from mentor_kit.toolbox import Toolbox, load_toolbox
from mentor_kit.trajectory import ASSISTANT, EOS, Trajectory

if TYPE_CHECKING:
    from mentor_kit.students.rollout import Sampling

INSTRUCTION = "Put the final answer in \\boxed{}."  # the released prompt: the question, then this instruction


@dataclass
class Student:
    """Model and tokenizer with the toolbox they are prompted with.

    Args:
        model: a transformers causal language model.
        tokenizer: its tokenizer; ChatML with end token `<|im_end|>` (Qwen, SmolLM2, the embedded student).
        toolbox: the tools rendered into every prompt.
        name: shown in tables and stored as the producer of its trajectories.
    """

    model: Any
    tokenizer: Any
    toolbox: Toolbox
    name: str = "student"

    def __post_init__(self) -> None:
        prepare_tokenizer(self.tokenizer)
        self.model.generation_config.pad_token_id = self.tokenizer.pad_token_id
        self.model.generation_config.eos_token_id = self.tokenizer.eos_token_id

    @cached_property
    def tool_schemas(self) -> list[dict[str, Any]]:
        """The schemas exactly as TRL derives them from our functions, so all prompts are the same."""
        return [get_json_schema(f) for f in self.toolbox.as_functions()]

    def prompt_ids(self, question: str) -> list[int]:
        """Token ids of the prompt, up to and including the assistant header."""
        return self.tokenizer.apply_chat_template(prompt_messages(question), tools=self.tool_schemas,
                                                  add_generation_prompt=True, tokenize=True, return_dict=False)

    def encode(self, question: str, trajectory: Trajectory) -> dict[str, list[int]]:
        """Prompt and trajectory as `input_ids`, and `assistant_masks`: 1 on what the assistant wrote.

        Encoded turn by turn, so the ids are those that a rollout joins; tool results get 0.
        """
        ids = self.prompt_ids(question)
        mask = [0] * len(ids)
        for turn in trajectory.turns:
            ended = turn.finish in ("eos", "tool_cap")
            for text, flag in ((turn.text + (EOS if ended else ""), 1), (turn.environment, 0)):
                piece = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
                ids += piece
                mask += [flag] * len(piece)
        return {"input_ids": ids, "assistant_masks": mask}

    def rollout(self, problems: Sequence[Problem], sampling: Sampling | None = None, **options: Any) -> list[Trajectory]:
        """Answer problems with tools; see `mentor_kit.students.rollout.rollout`."""
        from mentor_kit.students.rollout import Sampling, rollout

        return rollout(self, problems, sampling or Sampling(), **options)

    def ask(self, question: str | Problem, **options: Any) -> Record:
        """Answer one question greedily. In Jupyter the returned record draws itself; a Problem is judged too."""
        from mentor_kit.evaluation.evaluate import verdict_facts

        asked = question if isinstance(question, Problem) else \
            Problem("asked", question, ("?",), "asked", "asked", self.toolbox.name)
        trajectory = self.rollout([asked], **options)[0]
        return Record(asked, trajectory.with_meta(**verdict_facts(asked, trajectory))
                      if isinstance(question, Problem) else trajectory)

    def describe(self) -> str:
        """One line: name, architecture, size, vocabulary, device."""
        model = self.model
        size = sum(p.numel() for p in model.parameters())
        return (f"{self.name}: {type(model).__name__}, {size:,} parameters, {len(self.tokenizer):,} tokens, "
                f"on {model.device}, toolbox {self.toolbox.name} ({len(self.toolbox.names)} tools)")

    def save(self, folder: Path | str, card: str | None = None) -> Path:
        """Write a folder that `transformers` loads, with a model card. Atomic: a temporary folder, then rename."""
        folder = Path(folder)
        temporary = folder.with_name(folder.name + ".tmp")
        self.model.config.use_cache = True  # trainers leave it off; whoever loads the folder wants to generate
        self.model.save_pretrained(temporary)
        self.tokenizer.save_pretrained(temporary)
        (temporary / "README.md").write_text(card or model_card(self.name), encoding="utf-8")
        if folder.exists():
            raise UserError(f"{str(folder)!r} exists already: a saved student is never overwritten; delete it first.")
        os.replace(temporary, folder)
        return folder


def prompt_messages(question: str) -> list[dict[str, str]]:
    """The prompt of training and evaluation alike: the question and the instruction of the released code."""
    return [{"role": "user", "content": f"{question}\n{INSTRUCTION}"}]


def prepare_tokenizer(tokenizer: Any) -> None:
    """Check that a tokenizer speaks ChatML and Hermes, and let TRL parse its tool calls.

    Raises:
        UserError: when TRL cannot parse the template's tool calls, or turns do not end with `<|im_end|>`.
    """
    if tokenizer.chat_template is None:
        raise UserError("The student's tokenizer has no chat template: give it one with tool calls, e.g. "
                        "tokenizer.chat_template = mentor_kit.students.tiny.chat_template().")
    if tokenizer.eos_token != EOS:
        raise UserError(f"The student's end token is {tokenizer.eos_token!r}; the kit's trajectories are ChatML and need "
                        f"{EOS!r}: use a ChatML student (Qwen2.5, Qwen3, SmolLM2) or give this one our template.")
    if tokenizer.chat_template.strip() == chat_template().strip():
        tokenizer.response_template = qwen3_template  # same Hermes markup; TRL knows templates by exact text only
    elif getattr(tokenizer, "response_template", None) is None:
        try:
            add_response_schema(tokenizer)
        except ValueError as error:
            raise UserError(f"TRL cannot parse tool calls of this student's chat template ({error}). Set "
                            "tokenizer.response_template yourself or use our template.") from error
    header = tokenizer.apply_chat_template(prompt_messages("?"), add_generation_prompt=True, tokenize=False)
    if not header.endswith(ASSISTANT):
        raise UserError(f"The student's chat template opens an assistant turn with {header[-40:]!r}; expected ChatML "
                        f"{ASSISTANT!r}.")


def load_student(folder: Path | str, toolbox: str | Toolbox = "arithmetic", *, name: str = "",
                 backend: str = "transformers", **options: Any) -> Student:
    """Load a student from a local folder or a hub id.

    Args:
        backend: `transformers`, `unsloth` or `auto` (see `mentor_kit.students.backends`).

    Raises:
        UserError: folder without model or tokenizer, or an id that cannot be reached.
    """
    from mentor_kit.students.backends import load_model

    box = load_toolbox(toolbox) if isinstance(toolbox, str) else toolbox
    model, tokenizer = load_model(str(folder), backend, **options)
    return Student(model, tokenizer, box, name or Path(folder).name)


def model_card(name: str, facts: Mapping[str, Any] | None = None) -> str:
    """A short model card (YAML header, what it is, how to load it, the facts of its training)."""
    lines = "".join(f"- {k}: {v}\n" for k, v in (facts or {}).items())
    return ("---\nlibrary_name: transformers\npipeline_tag: text-generation\nlicense: apache-2.0\n"
            "tags: [tool-use, mentor, grpo]\n---\n"
            f"# {name}\n\nA student trained with MENTOR kit (method: arXiv 2510.18383).\n\n{lines}\n"
            "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n"
            "model = AutoModelForCausalLM.from_pretrained(\".\")\n"
            "tokenizer = AutoTokenizer.from_pretrained(\".\")\n```\n")
