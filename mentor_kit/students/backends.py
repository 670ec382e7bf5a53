"""Where a student's weights come from: `transformers` anywhere, `unsloth` on a supported GPU, `auto` picks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mentor_kit.errors import UserError

BACKENDS = ("auto", "transformers", "unsloth")


def resolve_backend(backend: str) -> tuple[str, str]:
    """The backend that will be used, and why.

    Raises:
        UserError: unknown name, or `unsloth` asked for where it is not installed.
    """
    installed = importlib.util.find_spec("unsloth") is not None
    if backend not in BACKENDS:
        raise UserError(f"student_backend {backend!r} is unknown: use one of {', '.join(BACKENDS)}.")
    if backend == "unsloth" and not installed:
        raise UserError("student_backend 'unsloth' needs the package unsloth: install the gpu extra "
                        "(pip install -e '.[gpu]'), or use 'transformers'.")
    if backend != "auto":
        return backend, "asked for"
    if installed and torch.cuda.is_available():
        return "unsloth", "a CUDA device and unsloth are there"
    return "transformers", "no CUDA device" if not torch.cuda.is_available() else "unsloth is not installed"


def load_model(source: str, backend: str = "transformers", **options: Any) -> tuple[Any, Any]:
    """Model and tokenizer from a local folder or a hub id.

    Raises:
        UserError: the folder lacks a model or tokenizer, or the id cannot be reached.
    """
    _check_folder(source)
    chosen, _ = resolve_backend(backend)
    try:
        return _load_unsloth(source, **options) if chosen == "unsloth" else _load_transformers(source, **options)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"student {source!r} cannot be loaded ({reason}); give a local folder with model and tokenizer, "
                        "or a hub id that is reachable or cached.") from error


def _check_folder(source: str) -> None:
    folder = Path(source)
    if not folder.is_dir():
        return
    for name, what in (("config.json", "model"), ("tokenizer_config.json", "tokenizer")):
        if not (folder / name).is_file():
            raise UserError(f"student folder {source!r} holds no {what} ({name} is missing): save both with "
                            "Student.save(folder), or model.save_pretrained and tokenizer.save_pretrained.")


def _load_transformers(source: str, *, dtype: str = "auto", **_: Any) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    return model.to("cuda") if torch.cuda.is_available() else model, tokenizer


def _load_unsloth(source: str, *, max_seq_length: int = 2048, load_in_4bit: bool = False, lora_rank: int = 32,
                  full_finetuning: bool = False, fast_inference: bool = False, seed: int = 0) -> tuple[Any, Any]:
    """16-bit LoRA by default (the vendor's recipe for Qwen3: rank 32, alpha 64, all seven projections)."""
    from unsloth import FastLanguageModel

    model, tokenizer = FastLanguageModel.from_pretrained(
        source, max_seq_length=max_seq_length, load_in_4bit=load_in_4bit, full_finetuning=full_finetuning,
        fast_inference=fast_inference)
    if not full_finetuning:
        model = FastLanguageModel.get_peft_model(
            model, r=lora_rank, lora_alpha=2 * lora_rank, random_state=seed, use_gradient_checkpointing="unsloth",
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
    return model, tokenizer
