"""Where a student's weights come from: `transformers` anywhere, `unsloth` on a supported GPU,
`auto` picks.

Both give the same student: the same tokenizer, the same precision, and with LoRA the same adapters
from the same seed. Unsloth rewrites TRL's trainers when it is imported, so it must come first; that
is why this module imports neither transformers nor TRL before a backend is chosen
(`prepare_backend`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import sys
import warnings
from typing import Any

import torch
from safetensors import SafetensorError

from mentor_kit.errors import UserError
from mentor_kit.runs.machine import cache_folder
from mentor_kit.students import torch_setup  # noqa: F401 - for its effect
from mentor_kit.students.adapters import PROJECTIONS, lora_targets
from mentor_kit.students.loading import LoadConfig
from mentor_kit.students.source import check_tokenizer, check_weights, resolve_source

# why `auto` does not take Unsloth then
SEVERAL_PROCESSES = "several processes: plain TRL distributes"
BACKENDS = ("auto", "transformers", "unsloth")
OLDEST_GPU = (7, 0)  # compute capability, Unsloth's limit
BFLOAT16_GPU = (8, 0)  # computes in bfloat16; an older one, such as a T4, trains in float16
# what transformers raises for files that are no model, or damaged
UNREADABLE = (OSError, ValueError, NotImplementedError, RuntimeError, EOFError, KeyError,
              AttributeError, TypeError, pickle.UnpicklingError)
# read once, when Unsloth is imported
PACKING = ("UNSLOTH_GRPO_SEQ_PACKING", "UNSLOTH_GRPO_PREFIX_GROUPER")


def resolve_backend(backend: str) -> tuple[str, str]:
    """The backend that will be used, and why.

    Raises:
        UserError: unknown name, or `unsloth` asked for where it is not installed.
    """
    if backend not in BACKENDS:
        raise UserError(
            f"student_backend {backend!r} is unknown: use one of {', '.join(BACKENDS)}."
        )
    if backend == "unsloth" and not _installed("unsloth"):
        raise UserError("student_backend 'unsloth' needs the package unsloth: install the gpu "
                        "extra (pip install 'mentor-kit[gpu]'), or use 'transformers'.")
    if backend == "unsloth" and _lacks_bitsandbytes():
        raise UserError("student_backend 'unsloth' needs the package bitsandbytes on a GPU, for "
                        "16-bit students too: install the gpu extra (pip install "
                        "'mentor-kit[gpu]'), or use 'transformers'.")
    if backend != "auto":
        return backend, "asked for"
    against = _against_unsloth()
    return ("transformers", against) if against else ("unsloth",
                                                      "a supported GPU and unsloth are there")


def _against_unsloth() -> str:
    """Why `auto` does not take Unsloth; "" if nothing speaks against it."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    if torch.cuda.get_device_capability() < OLDEST_GPU:
        return f"{torch.cuda.get_device_name()} is too old for Unsloth"
    if not _installed("unsloth"):
        return "unsloth is not installed"
    if _lacks_bitsandbytes():
        return "bitsandbytes is not installed, and unsloth needs it"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return SEVERAL_PROCESSES
    if _trl_came_first():
        return "TRL is already imported in this process; restart the kernel to use unsloth"
    return ""


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _lacks_bitsandbytes() -> bool:
    """On a GPU Unsloth's loader imports it whatever is loaded."""
    return torch.cuda.is_available() and not _installed("bitsandbytes")


def _trl_came_first() -> bool:
    return "unsloth" not in sys.modules and any(name.startswith("trl.trainer")
                                                for name in sys.modules)


def backend_for(backend: str, loading: LoadConfig | None) -> tuple[str, str]:
    """The backend that loads a student, and why: `auto` evaluates with plain transformers, so that
    a student's numbers do not depend on what trained it or on what is installed."""
    if backend == "auto" and loading is None:
        return "transformers", "evaluation is the same everywhere"
    return resolve_backend(backend)


def prepare_backend(backend: str, *, grpo_packing: bool = False) -> tuple[str, str]:
    """Choose a backend and, if it is Unsloth, import it: call this before anything that imports
    TRL.

    Raises:
        UserError: as `resolve_backend`; TRL was imported first; or Unsloth was, with the other
            packing.
    """
    chosen, why = resolve_backend(backend)
    if chosen == "unsloth":
        _import_unsloth(grpo_packing)
    return chosen, why


def _import_unsloth(grpo_packing: bool) -> None:
    wanted = "1" if grpo_packing else "0"
    if _trl_came_first():
        raise UserError("student_backend 'unsloth' must be imported before TRL, and TRL is already "
                        "imported in this kernel: restart the kernel and run from the top, or use "
                        "student_backend='transformers'.")
    if "unsloth" in sys.modules and os.environ.get(PACKING[0]) != wanted:
        raise UserError(f"grpo_packing={grpo_packing} differs from what Unsloth was imported with "
                        "in this kernel: restart the kernel and run from the top.")
    os.environ.update(dict.fromkeys(PACKING, wanted))
    # it would download a file to be counted
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    # else the working folder
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache_folder() / "unsloth"))
    with contextlib.redirect_stdout(sys.stderr):  # its banner is no result of a cell
        importlib.import_module("unsloth")


def load_model(source: str, backend: str = "transformers",
               loading: LoadConfig | None = None) -> tuple[Any, Any]:
    """Model and tokenizer from a local folder or a hub id.

    Args:
        loading: how it will be trained; None loads it for inference, in the precision it was saved
            in.

    Raises:
        UserError: the folder lacks a model or tokenizer, the id cannot be reached, or the backend
            cannot do this.
    """
    source = resolve_source(source)
    chosen, _ = prepare_backend(backend_for(backend, loading)[0],
                                grpo_packing=loading is not None and loading.grpo_packing)
    try:
        tokenizer = _load_tokenizer(source)
        check_tokenizer(source, tokenizer)
        load = _load_unsloth if chosen == "unsloth" else _load_transformers
        return load(source, loading), tokenizer
    except UserError:
        raise
    except (*UNREADABLE, SafetensorError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(f"student {source!r} cannot be loaded ({reason}): a file of it is damaged "
                        "or of another model; copy the whole folder again.") from error


def _load_tokenizer(source: str) -> Any:
    """The same for both backends: Unsloth's loader would change padding and length."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source, padding_side="left")


def training_dtype(loading: LoadConfig) -> torch.dtype:
    """16 bit for frozen weights on a GPU; float32 for what an optimizer steps (a step of 1e-6
    vanishes in bfloat16) and on a CPU."""
    frozen = loading.finetuning == "lora" and torch.cuda.is_available()
    return half_precision() if frozen else torch.float32


def computing_precision(loading: LoadConfig, cuda: bool) -> torch.dtype | None:
    """The 16 bit in which passes compute; None is float32.

    Raises:
        UserError: this GPU, or this CPU, does not compute in bfloat16.
    """
    if loading.precision == "auto":
        return half_precision() if cuda else None
    if loading.precision == "bfloat16" and cuda and half_precision() != torch.bfloat16:
        raise UserError("precision='bfloat16': this GPU computes in float16 (it is older than "
                        "Ampere): set precision=auto.")
    if loading.precision == "bfloat16" and not cuda and not bfloat16_cpu():
        raise UserError("precision='bfloat16': PyTorch does not use AVX-512 on this CPU, without "
                        "which it would be slow and some of its passes fail: set precision=auto.")
    return torch.bfloat16 if loading.precision == "bfloat16" else None


def bfloat16_cpu() -> bool:
    """Whether this CPU, as PyTorch uses it, computes in bfloat16."""
    return "AVX512" in torch.backends.cpu.get_cpu_capability()


def half_precision() -> torch.dtype:
    """What the GPU computes with in 16 bit: bfloat16, or float16 before Ampere."""
    modern = torch.cuda.get_device_capability() >= BFLOAT16_GPU
    return torch.bfloat16 if modern else torch.float16


def device() -> str:
    """Where students live: the process's own GPU, or the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _load_transformers(source: str, loading: LoadConfig | None) -> Any:
    if loading is None:
        return _read_weights(source, dtype="auto").to(device())
    if loading.fast_inference:
        raise UserError("fast_inference=True is Unsloth's: set student_backend=unsloth, or "
                        "fast_inference=False.")
    options = {"quantization_config": _four_bit(source)} if loading.load_in_4bit else {}
    model = _read_weights(source, dtype=training_dtype(loading), **options)
    if not loading.load_in_4bit:
        model = model.to(device())
    return _with_adapters(model, loading) if loading.finetuning == "lora" else model


def _read_weights(source: str, **options: Any) -> Any:
    """A model of transformers, all of whose weights are the source's."""
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        source, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    check_weights(source, model, report)
    return model


def _four_bit(source: str) -> Any:
    from transformers import BitsAndBytesConfig

    _check_bitsandbytes(source)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                              bnb_4bit_use_double_quant=True,
                              bnb_4bit_compute_dtype=half_precision())


def _check_bitsandbytes(source: str) -> None:
    """Without it Unsloth would load 16-bit weights and only print so."""
    if not _installed("bitsandbytes"):
        raise UserError(f"load_in_4bit=True for {source!r} needs the package bitsandbytes: install "
                        "the gpu extra (pip install 'mentor-kit[gpu]'), or set load_in_4bit=False.")


def _with_adapters(model: Any, loading: LoadConfig) -> Any:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if loading.load_in_4bit:
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=loading.gradient_checkpointing
        )
    torch.manual_seed(loading.seed)
    options = _lora_options(loading) | lora_targets(model)
    with warnings.catch_warnings():  # peft scales experts' ranks under names that it then renames
        warnings.filterwarnings("ignore", ".*pattern keys did not match.*", RuntimeWarning)
        return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))


def _lora_options(loading: LoadConfig) -> dict[str, Any]:
    """All that defines the adapters, for both backends; with transformers the targets are the
    architecture's own (`lora_targets`)."""
    return {"r": loading.lora_rank, "lora_alpha": loading.alpha, "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": list(PROJECTIONS)}


def _load_unsloth(source: str, loading: LoadConfig | None) -> Any:
    """By `FastLanguageModel`; its prints go to stderr."""
    from unsloth import FastLanguageModel

    asked, options = loading or LoadConfig(), _unsloth_options(source, loading)
    _read_weights(source, device_map="meta")  # names alone: Unsloth reports none that are missing
    with contextlib.redirect_stdout(sys.stderr):
        model, _ = FastLanguageModel.from_pretrained(source, **options)
        if asked.finetuning == "lora":
            model = FastLanguageModel.get_peft_model(
                model, random_state=asked.seed, max_seq_length=asked.max_seq_length,
                use_gradient_checkpointing=options["use_gradient_checkpointing"],
                **_lora_options(asked))
    return model


def _unsloth_options(source: str, loading: LoadConfig | None) -> dict[str, Any]:
    """The weights that were named, not the vendor's copy of them or its own 4-bit one; their
    positions unchanged; all of them on the GPU (where memory is tight Unsloth would leave the
    embeddings, which say where a student is, outside)."""
    from transformers import AutoConfig

    asked, config = loading or LoadConfig(), AutoConfig.from_pretrained(source)
    if asked.load_in_4bit:
        _check_bitsandbytes(source)
    options = {"max_seq_length": asked.max_seq_length, "load_in_4bit": asked.load_in_4bit,
               "use_exact_model_name": True,
               "offload_embedding": False}
    if loading is None:
        return options | {"dtype": config.dtype,
                          "max_seq_length": min(asked.max_seq_length, _positions(config))}
    if loading.finetuning == "lora" and asked.max_seq_length > _positions(config):
        raise UserError(f"max_seq_length={asked.max_seq_length} is above the {_positions(config)} "
                        f"positions of {source!r}, and Unsloth would stretch them: set "
                        f"max_seq_length={_positions(config)} or less, or "
                        "student_backend=transformers.")
    options |= {"dtype": training_dtype(loading), "full_finetuning": loading.finetuning == "full",
                "use_gradient_checkpointing": "unsloth" if loading.gradient_checkpointing
                else False}
    return options | ({"fast_inference": True, "max_lora_rank": asked.lora_rank}
                      if asked.fast_inference else {})


def _positions(config: Any) -> int:
    return getattr(config, "max_position_embeddings", None) or sys.maxsize
