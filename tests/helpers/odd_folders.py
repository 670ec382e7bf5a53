"""Folders of tiny transformers models, whole or damaged on purpose, for tests of what a student is
loaded from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from small_student import teacher_records, untrained

TOKENIZER = untrained(teacher_records(4)).tokenizer
SIZES = {"vocab_size": len(TOKENIZER), "hidden_size": 32, "num_hidden_layers": 1,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
         "intermediate_size": 32, "initializer_range": 0.3, "pad_token_id": 0}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
# architectures whose matrices have names of their own, or are stored as one parameter
ODD = {"Qwen3Moe": EXPERTS, "Mixtral": {"num_local_experts": 4},
       "GptOss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64},
       "Phi3": {}}
WEIGHTS = "model.safetensors"


def model_folder(folder: Path, name: str = "Qwen2", **config: Any) -> Path:
    """A tiny model of an architecture, with the kit's tokenizer."""
    sizes = {**SIZES, **config}
    if name in ("Qwen2", "Phi3"):  # these know no head_dim
        sizes.pop("head_dim")
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        getattr(transformers, f"{name}Config")(**sizes))
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def change_weights(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    stored = change(load_file(folder / WEIGHTS))
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, folder / WEIGHTS,
              metadata={"format": "pt"})
    return folder


def rename_weights(folder: Path, rename: Callable[[str], str]) -> Path:
    return change_weights(folder, lambda weights: {rename(n): w for n, w in weights.items()})


def change_config(folder: Path, **values: Any) -> Path:
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(config))
    return folder
