"""A finished run for others: served, pushed to the hub, or exported for llama.cpp.

    mentor-kit serve results/demo/train/ab12cd34ef56
    mentor-kit push results/demo/train/ab12cd34ef56 owner/name --dry-run
    mentor-kit export results/demo/train/ab12cd34ef56 --gguf student.gguf
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from mentor_kit.core.files import find_path
from mentor_kit.errors import UserError
from mentor_kit.runs.files import read_json
from mentor_kit.runs.open import load_run
from mentor_kit.runs.parameters import configure
from mentor_kit.runs.run import Run
from mentor_kit.students.source import check_source

STUDENT = "student"
SERVING = ("fastapi", "uvicorn", "python_multipart", "openai")  # what `transformers serve` needs
CONVERTER = "convert_hf_to_gguf.py"
INSTEAD = ("Serve this one by `mentor-kit serve`, or export a student trained from SmolLM2, Qwen "
           "or Llama (params/smollm2-cpu.yaml).")
LLAMA_CPP = "https://github.com/ggml-org/llama.cpp"


def student_folder(source: str) -> Path:
    """The student of a finished training run, or a student's own folder.

    Raises:
        UserError: no such folder, a run that is not finished or stored no student, or a folder that
            is not a student's.
    """
    folder = find_path(source)
    if (folder / "params.yaml").is_file() or not folder.is_dir():
        run = load_run(source)
        folder = run.dir / STUDENT
        if not folder.is_dir():
            raise UserError(f"The run {run} of stage {run.stage!r} stored no student: give a run "
                            "of notebook 03 (stage train or cold_start).")
    check_source(folder)
    return folder.resolve()


def serve(source: str, host: str, port: int, engine: str, parser: str = "") -> None:
    """Replace this process by an OpenAI-compatible server of a student, tools included.

    Raises:
        UserError: not a student, an unknown engine, packages that it needs are missing, or calls
            that vLLM would not read.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = student_folder(source)
    Path(HF_HUB_CACHE).mkdir(parents=True, exist_ok=True)  # /v1/models fails without it
    command = serve_command(folder, host, port, engine, parser)
    print(f"serving {folder} at http://{host}:{port}/v1 by {command[2].partition('.')[0]}; its "
          f"model name is {folder}; Ctrl-C ends it", flush=True)
    os.execv(command[0], command)


def serve_command(folder: Path, host: str, port: int, engine: str, parser: str = "") -> list[str]:
    """The server's command: vLLM where it is installed and there is a GPU, else transformers.

    Args:
        parser: vLLM's name of the student's call format; "" is `hermes` where that is right.
    """
    if engine not in ("auto", "transformers", "vllm"):
        raise UserError(f"--engine {engine}: use auto, transformers or vllm.")
    has_vllm = importlib.util.find_spec("vllm") is not None
    if engine == "vllm" and not has_vllm:
        raise UserError("--engine vllm needs the package vllm (and a GPU): install it, or use "
                        "--engine transformers.")
    at = ["--host", host, "--port", str(port)]
    if engine == "vllm" or (engine == "auto" and has_vllm and shutil.which("nvidia-smi")):
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder),
                "--enable-auto-tool-choice", "--tool-call-parser", parser or _hermes(folder), *at]
    missing = [name for name in SERVING if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"`transformers serve` needs {', '.join(missing)}: pip install "
                        "'mentor-kit[real-server]'.")
    return [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), *at]


def _hermes(folder: Path) -> str:
    from transformers import AutoTokenizer

    from mentor_kit.students.formats import writes_hermes

    if not writes_hermes(AutoTokenizer.from_pretrained(folder)):
        raise UserError(f"{str(folder)!r} does not write its calls in the Hermes form, so vLLM "
                        "would not read them: name vLLM's parser for it, such as --parser "
                        "llama3_json (vllm serve --help lists them).")
    return "hermes"


def push(source: str, repo: str, *, private: bool, dry_run: bool) -> str:
    """Upload a student, or the data set of a collection, with its card. Returns what was done.

    Without a token, or with `dry_run`, it only lists what would be uploaded.

    Raises:
        UserError: a run that holds neither, a name that is not owner/name, or a hub that refuses.
    """
    from httpx import HTTPError
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError
    from rich import filesize

    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UserError(f"{repo!r} is not a name on the hub: write owner/name.")
    with TemporaryDirectory() as made:
        kind, folder = _to_push(source, Path(made) / "dataset")
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        size = sum(p.stat().st_size for p in files)
        what = f"{kind} {repo}: {len(files)} files, {filesize.decimal(size)}"
        if dry_run or not get_token():
            listing = "".join(f"\n  {p.relative_to(folder).as_posix()}" for p in files)
            why = "--dry-run" if dry_run else "no token: `hf auth login`, or set HF_TOKEN"
            return f"would push {what} ({why}){listing}"
        try:
            api = HfApi()
            address = api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo, repo_type=kind, folder_path=folder)
        except (HfHubHTTPError, HTTPError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"The hub did not take {repo} ({reason}): check the name, the token's "
                            "rights and the network.") from error
    return f"pushed {what}: {address}"


def _to_push(source: str, made: Path) -> tuple[str, Path]:
    """("model" or "dataset", its folder); a data set is written to `made`."""
    folder = find_path(source)
    run = load_run(source) if (folder / "params.yaml").is_file() else None
    if run is None or run.stage != "collect":
        return "model", student_folder(source)
    return "dataset", _data_set(run, made)


def _data_set(run: Run, folder: Path) -> Path:
    from mentor_kit.collection.collection import load_collection
    from mentor_kit.collection.config import CollectConfig
    from mentor_kit.collection.export import export_mentor_data

    return export_mentor_data(load_collection(run), folder, configure(CollectConfig, **run.params))


def export_gguf(source: str, target: Path) -> Path:
    """Convert a student by llama.cpp's own converter.

    Raises:
        UserError: not a student, no converter here, an existing target, or an architecture or
            tokenizer that the converter does not know. Nothing is written then.
    """
    folder = student_folder(source)
    if target.exists():
        raise UserError(f"{str(target)!r} exists already: give another name, or delete it.")
    _check_tokenizer(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([sys.executable, str(find_converter()), str(folder), "--outfile",
                           str(target)], capture_output=True, text=True, check=False)
    if done.returncode or not target.is_file():
        target.unlink(missing_ok=True)
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        reason = lines[-1][:200]
        if missing := re.search(r"No module named '(\w+)", reason):
            raise UserError(f"llama.cpp's converter needs the package {missing[1]}: pip install "
                            f"{missing[1]}.")
        if "get_vocab_base_pre" in reason:
            raise UserError(f"llama.cpp does not know the tokenizer of {str(folder)!r}: it knows "
                            "those of Qwen, SmolLM2, Llama and other models of its table. "
                            f"{INSTEAD}")
        raise UserError(f"llama.cpp's converter did not convert {str(folder)!r}: {reason}")
    return target


def _check_tokenizer(folder: Path) -> None:
    """llama.cpp splits texts by a table of known tokenizers, and guesses a tokenizer's kind from
    its settings.

    Raises:
        UserError: the embedded student's tokenizer, or one that would be taken for another kind
            without a word.
    """
    from mentor_kit.students.tiny import PIECES

    tokenizer = read_json(folder / "tokenizer.json") or {}
    splits = json.dumps(tokenizer.get("pre_tokenizer"))
    if json.dumps(PIECES) in splits:
        raise UserError(f"{str(folder)!r} is an embedded student: its tokenizer was made of its "
                        f"study's own questions, and llama.cpp does not know it. {INSTEAD}")
    if "ByteLevel" in splits and tokenizer["model"].get("byte_fallback"):
        raise UserError(f"{str(folder / 'tokenizer.json')!r} has byte_fallback true, and its "
                        "tokens are bytes already: llama.cpp's converter would take it for "
                        "another kind and write a file that reads texts wrongly. Set "
                        "byte_fallback to false there (it changes nothing else), then export.")


def find_converter() -> Path:
    """llama.cpp's converter: in the folder LLAMA_CPP, or on PATH."""
    asked = os.environ.get("LLAMA_CPP")
    found = Path(asked) / CONVERTER if asked else Path(shutil.which(CONVERTER) or CONVERTER)
    if not found.is_file():
        raise UserError(f"Exporting a GGUF file needs llama.cpp's {CONVERTER}: git clone "
                        f"{LLAMA_CPP}, pip install gguf sentencepiece, and set LLAMA_CPP to that "
                        "folder.")
    return found
