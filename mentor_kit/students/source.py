"""Where a student comes from, a folder or a hub id, and whether what lies there is all one model.

`check_source` reads names and first bytes, without torch, so that a study is refused before its
first kernel. `check_weights` and `check_tokenizer` look at what was loaded: transformers fills
weights that a folder lacks with random numbers, and a tokenizer without its file writes nothing but
special tokens.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mentor_kit.core.files import find_path
from mentor_kit.errors import UserError

POINTER = b"version https://git-lfs"
DATA_FILES = ("*.safetensors", "*.bin", "*.json", "*.model", "merges.txt", "vocab.txt", "*.jinja")
PROBE = 'Ann has 12 apples and eats 3.5: "x"?'
SHOWN = 4  # names that a message lists


def local_folder(source: Path | str) -> Path | None:
    """The folder that `source` names, relative to the working folder or to the project; None where
    there is none, and a hub id is meant."""
    path = find_path(source)
    return path if path.is_dir() else None


def resolve_source(source: str) -> str:
    """The folder's path, or the hub id; what can be checked before loading is checked.

    Raises:
        UserError: see `check_source`; or the hub does not give it.
    """
    check_source(source)
    folder = local_folder(source)
    if folder is None:
        check_hub(source)
    return str(folder or source)


def check_source(source: Path | str) -> None:
    """Refuse what can be seen to be no student without asking the hub.

    Raises:
        UserError: a path without a folder; a folder that lacks a model or a tokenizer, that holds
            adapters beside the model, or a file of 0 bytes or one that git-lfs did not fetch.
    """
    folder = local_folder(source)
    if folder is not None:
        _check_folder(folder)
    elif str(source).startswith(("/", "~", ".")) or str(source).count("/") > 1:
        raise UserError(f"student {str(source)!r}: there is no such folder; give one that "
                        "Student.save or save_pretrained wrote, or a hub id (owner/name).")


def check_hub(source: str) -> None:
    """One question to the hub, unless the model is cached: the loaders would retry for minutes."""
    from httpx import HTTPError
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if not isinstance(try_to_load_from_cache(source, "config.json"), str):
            HfApi().model_info(source, timeout=10)
    except (OSError, ValueError, HTTPError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"student {source!r} is no folder here, and the hub does not give it ({reason}). "
            "Without a network: save model and tokenizer into a folder on another machine "
            "(save_pretrained, or the hub's download command), copy it here and give the folder's "
            "path as student_source.") from error


def _check_folder(folder: Path) -> None:
    name = str(folder)
    has_model = (folder / "config.json").is_file()
    if not has_model and (folder / "student").is_dir():
        raise UserError(f"{name!r} is a run's folder and holds no model itself; did you mean "
                        f"{str(folder / 'student')!r}?")
    if (folder / "adapter_config.json").is_file():
        raise UserError(f"student folder {name!r} holds adapters "
                        f"{'beside its model' if has_model else 'and no model'} "
                        "(adapter_config.json): merge them into their model (peft's "
                        "merge_and_unload, then save_pretrained with the tokenizer), or move the "
                        "adapter's files elsewhere.")
    for file, what in (("config.json", "model"), ("tokenizer_config.json", "tokenizer")):
        if not (folder / file).is_file():
            raise UserError(f"student folder {name!r} holds no {what} ({file} is missing): save "
                            "both with Student.save(folder), or model.save_pretrained and "
                            "tokenizer.save_pretrained.")
    for path in sorted(p for pattern in DATA_FILES for p in folder.glob(pattern)):
        with open(path, "rb") as file:
            start = file.read(len(POINTER))
        if start == POINTER:
            raise UserError(f"student file {str(path)!r} is a pointer of git-lfs, not the file "
                            "itself: run `git lfs pull` in its folder, or download it again.")
        if not start:
            raise UserError(f"student file {str(path)!r} has 0 bytes: copy it again.")


def check_weights(source: str, model: Any, report: Mapping[str, Iterable[Any]]) -> None:
    """Refuse a model whose weights are not all the source's.

    Args:
        report: transformers' loading report: names under `missing_keys` and `unexpected_keys`,
            (name, stored shape, shape) under `mismatched_keys`.

    Raises:
        UserError: weights that the source lacks or has in another shape, weights of a layer that
            the model does not read, or weights that are not finite numbers; the message names them.
    """
    shapes = [f"{name} {list(stored)}, not {list(wanted)}" for name, stored, wanted
              in sorted(report["mismatched_keys"])]
    if shapes:
        raise UserError(f"student {source!r} has {len(shapes)} weights of another shape than its "
                        f"config.json says: {_listed(shapes)}. Copy config.json and weights from "
                        "one place.")
    missing = sorted(map(str, report["missing_keys"]))
    if missing:
        unread = sorted(map(str, report["unexpected_keys"]))
        theirs = f"; it has {_listed(unread)}, which the model does not know" if unread else ""
        raise UserError(f"student {source!r} lacks {len(missing)} of its model's weights, which "
                        f"would be random: {_listed(missing)}{theirs}. Save the whole model again: "
                        "save_pretrained of the plain one, adapters merged, without the wrapper of "
                        "torch.compile or of a trainer.")
    unread = sorted(name for name in map(str, report["unexpected_keys"]) if _is_inside(name, model))
    if unread:
        raise UserError(f"student {source!r} has {len(unread)} weights that its model does not "
                        f"read: {_listed(unread)}. Its config.json describes another model; copy "
                        "config.json and weights from one place.")
    from torch import isfinite

    if int(os.environ.get("RANK", "0")):  # the first process reads them, where they are sharded
        return
    wrong = [name for name, weight in model.named_parameters()
             if weight.is_floating_point() and not weight.is_meta and not isfinite(weight).all()]
    if wrong:
        raise UserError(f"student {source!r} has weights that are not finite numbers (nan or "
                        f"infinity): {_listed(wrong)}. Its training went wrong, or the file is "
                        "damaged: take an earlier checkpoint.")


def _is_inside(name: str, model: Any) -> bool:
    """Whether a weight lies in a layer stack or a single layer of the model, and not beside them
    (as a value head or a vision tower does)."""
    from torch.nn import ModuleList

    if name.endswith("inv_freq"):  # older checkpoints store what is computed
        return False
    module = model
    for part in name.split("."):
        inner = getattr(module, part, None)
        if isinstance(inner, ModuleList):
            return True
        if inner is None:
            return module is not model and not list(module.children())
        module = inner
    return False


def check_tokenizer(source: str, tokenizer: Any) -> None:
    """Refuse a tokenizer that does not give text back.

    Raises:
        UserError: letters, digits or signs are lost.
    """
    ids = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    text = tokenizer.decode(ids)
    if "".join(text.split()) != "".join(PROBE.split()):
        raise UserError(f"student {source!r}: its tokenizer gives {text[:60]!r} back for "
                        f"{PROBE!r}; its vocabulary is missing (tokenizer.json, or vocab.json and "
                        "merges.txt): copy the whole folder, or save the tokenizer again.")


def check_vocabulary(tokenizer: Any, model: Any) -> None:
    """Refuse a tokenizer with ids that the model has no embedding for: they crash in the middle of
    a batch.

    Raises:
        UserError: names such tokens.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = sorted(token for token, number in tokenizer.get_vocab().items() if number >= rows)
    if beyond:
        raise UserError(f"The student's tokenizer has {len(beyond)} tokens beyond the {rows} that "
                        f"its model embeds: {_listed(beyond)}. Take the tokenizer that the model "
                        "was trained with, or enlarge the model (model.resize_token_embeddings("
                        "len(tokenizer))) and save both.")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
