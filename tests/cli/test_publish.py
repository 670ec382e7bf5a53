"""What others get of a finished run: an endpoint, a push, a GGUF file."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from small_student import by_heart, new_run, teacher_records

from mentor_kit.cli import publish
from mentor_kit.collection.collection import TRAJECTORIES
from mentor_kit.collection.config import CollectConfig
from mentor_kit.core.problem import prompt_messages
from mentor_kit.core.records import save_records
from mentor_kit.errors import UserError
from mentor_kit.runs.open import init_run

MISSING = [name for name in publish.SERVING if find_spec(name) is None]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = new_run(tmp_path_factory.mktemp("trained") / "run")
    by_heart().save(run.path("student"))
    return run.finish()


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    run = init_run(tmp_path_factory.mktemp("collected") / "run", stage="collect",
                   params=CollectConfig().model_dump())
    save_records(run.path(TRAJECTORIES), teacher_records(3))
    return run.finish()


def test_a_push_without_a_token_lists_what_it_would_upload(trained, collected, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    said = publish.push(str(trained.dir), "me/student", private=True, dry_run=False)
    assert said.startswith("would push model me/student: 7 files, ") and "no token: " in said
    assert {"README.md", "model.safetensors", "chat_template.jinja"} <= set(said.split())
    said = publish.push(str(collected.dir), "me/data", private=True, dry_run=True)
    assert said.startswith("would push dataset me/data: ") and "(--dry-run)" in said
    assert {"README.md", "train.parquet"} <= set(said.split())


def test_what_cannot_be_published_is_refused(trained, collected, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="write owner/name"):
        publish.push(str(trained.dir), "student", private=True, dry_run=True)
    with pytest.raises(UserError, match="stored no student"):
        publish.student_folder(str(collected.dir))
    with pytest.raises(UserError, match="There is no run at"):
        publish.student_folder(str(tmp_path / "nothing"))
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    with pytest.raises(UserError, match="use auto, transformers or vllm"):
        publish.serve_command(tmp_path, "127.0.0.1", 1, "other")


@pytest.fixture
def pretrained(tmp_path):
    """A folder whose tokenizer splits texts as many models do."""
    folder = by_heart().save(tmp_path / "pretrained")
    change_tokenizer(folder, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                              "use_regex": True})
    return folder


def change_tokenizer(folder, pre_tokenizer=None, **model):
    file = folder / "tokenizer.json"
    found = json.loads(file.read_text())
    found["pre_tokenizer"] = pre_tokenizer or found["pre_tokenizer"]
    found["model"] |= model
    file.write_text(json.dumps(found))


def test_a_gguf_file_is_made_by_the_converter(pretrained, tmp_path, monkeypatch):
    """A script stands for llama.cpp's converter: it gets the student's folder and the file."""
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    with pytest.raises(UserError, match="git clone https.*gguf sentencepiece.*LLAMA_CPP"):
        publish.export_gguf(str(pretrained), tmp_path / "x.gguf")
    (tmp_path / publish.CONVERTER).write_text(
        "import pathlib, sys\nassert (pathlib.Path(sys.argv[1]) / 'config.json').is_file()\n"
        "pathlib.Path(sys.argv[3]).write_bytes(b'GGUF')\n")
    file = tmp_path / "new" / "x.gguf"
    assert publish.export_gguf(str(pretrained), file).read_bytes() == b"GGUF"
    with pytest.raises(UserError, match="exists already"):
        publish.export_gguf(str(pretrained), file)


@pytest.mark.parametrize(("script", "reason"), [
    ("raise SystemExit('odd shape')", "did not convert.*odd shape"),
    ("import no_such_package", "needs the package no_such_package: pip install no_such_package"),
    ("raise NotImplementedError('not recognized - update get_vocab_base_pre()')",
     "does not know the tokenizer.*Serve this one by `mentor-kit serve`"),
])
def test_what_the_converter_refuses_is_one_line_and_leaves_no_file(pretrained, tmp_path,
                                                                   monkeypatch, script, reason):
    half = "import pathlib, sys\npathlib.Path(sys.argv[3]).write_bytes(b'half')\n"
    (tmp_path / publish.CONVERTER).write_text(half + script)
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    with pytest.raises(UserError, match=reason) as refused:
        publish.export_gguf(str(pretrained), tmp_path / "y.gguf")
    assert "\n" not in str(refused.value) and not (tmp_path / "y.gguf").exists()


def test_tokenizers_that_llama_cpp_would_misread_are_refused_first(trained, pretrained, tmp_path):
    with pytest.raises(UserError, match="is an embedded student.*llama.cpp does not know it"):
        publish.export_gguf(str(trained.dir), tmp_path / "y.gguf")
    change_tokenizer(pretrained, byte_fallback=True)
    with pytest.raises(UserError, match="Set byte_fallback to false there"):
        publish.export_gguf(str(pretrained), tmp_path / "y.gguf")


def test_vllm_gets_a_parser_that_reads_the_calls(trained, pretrained, monkeypatch):
    monkeypatch.setattr(publish.importlib.util, "find_spec", lambda name: name)
    at = ("127.0.0.1", 1, "vllm")
    assert publish.serve_command(trained.dir / "student", *at)[-5] == "hermes"
    template = pretrained / "chat_template.jinja"
    template.write_text(template.read_text().replace("<tool_call>", "<function>"))
    with pytest.raises(UserError, match="does not write its calls in the Hermes form.*--parser"):
        publish.serve_command(pretrained, *at)
    assert "llama3_json" in publish.serve_command(pretrained, *at, "llama3_json")


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_a_served_student_calls_tools(trained, tmp_path):
    from openai import OpenAI

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mentor_kit", "serve", str(trained.dir), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL,
                              env={**os.environ, "HF_HUB_OFFLINE": "1",
                                   "HF_HOME": str(tmp_path / "no cache yet")})
    try:
        for _ in range(900):
            assert server.poll() is None
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (URLError, OSError):
                time.sleep(0.2)
        client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=120)
        assert client.models.list().data == []
        student = by_heart()
        record = teacher_records(12)[0]
        reply = client.chat.completions.create(
            model=str(trained.dir.resolve() / "student"), temperature=0, max_tokens=120,
            messages=prompt_messages(record.problem.question), tools=student.tool_schemas)
        calls = reply.choices[0].message.tool_calls
        first = record.trajectory.calls[0]
        assert calls[0].function.name == first.name
        assert json.loads(calls[0].function.arguments) == first.arguments
    finally:
        server.kill()
        server.wait()
