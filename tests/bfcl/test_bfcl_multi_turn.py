"""BFCL's multi-turn items: the official executor in its sandbox, hostile calls, verdicts equal to
the official ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bfcl_gold import DONE, gold_turns, play, say
from small_student import learn_by_heart, shaken

from mentor_kit.bfcl import checker as bfcl
from mentor_kit.bfcl.executor import Sandbox, sandbox
from mentor_kit.bfcl.items import CATEGORIES, MORE_TOOLS, MULTI_TURN, load
from mentor_kit.bfcl.multi_turn import (
    MAX_CALL,
    STEPS,
    MultiTurnEnvironment,
    check_call,
    multi_turn_verdicts,
    user_turns,
)
from mentor_kit.core.chat_markup import EOS, render_call, render_environment, render_user
from mentor_kit.core.html import trajectory_text
from mentor_kit.core.problem import Problem, known_tools
from mentor_kit.core.records import load_records, save_records
from mentor_kit.core.toolbox import Toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import ToolError, UserError
from mentor_kit.evaluation.benchmarks.registry import load_benchmark
from mentor_kit.evaluation.evaluate import evaluate
from mentor_kit.metrics.trajectories import summarise
from mentor_kit.students.rollout import Sampling, prompt_ids
from mentor_kit.students.student import Student
from mentor_kit.students.tiny import build_model, build_tokenizer

STORED = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "bfcl_multi_turn_answers.jsonl")
    .read_text()
    .splitlines()
]
needs_environment = pytest.mark.skipif(not bfcl.environment_folder().is_dir(),
                                       reason="the checker's environment is not in the cache; the "
                                              "slow tests make it")
# short ones, one with a tool that is added late
LEARNT = {"multi_turn_base": (11, 13), "multi_turn_miss_func": (38,)}


def entry(category: str, number: int) -> Problem:
    return load(0, {category: number + 1})[-1]


# -- what a problem and a trajectory hold

def test_an_item_says_what_the_user_says_later(monkeypatch):
    functions = [{"name": n, "description": "d", "parameters": {"type": "dict", "properties": {}},
                  "response": {"type": "dict"}} for n in ("ls", "sort")]
    item = {"id": "multi_turn_miss_func_0", "revision": "sha256:0", "function": functions[:1],
            "question": [
        [{"role": "user", "content": "Look."}], [], [{"role": "user", "content": "And now?"}]],
        "missed_function": {"1": functions[1:]}}
    monkeypatch.setattr(bfcl, "read_entries", lambda category: [item])
    benchmark, splits = load_benchmark("bfcl_multi_turn:multi_turn_miss_func")
    (problem,) = benchmark.load(splits=splits)
    assert problem.split == "bfcl_multi_turn/multi_turn_miss_func" and problem.question == "Look."
    assert [(t["message"], len(t["tools"])) for t in problem.meta["later_turns"]] == [(MORE_TOOLS,
                                                                                       1),
                                                                                      ("And now?",
                                                                                       0)]
    assert known_tools(problem) == ("ls", "sort") and "response field" in str(
        problem.meta["tool_schemas"]
    )
    episode = MultiTurnEnvironment(problem)
    first, second = episode.step(Turn("Nothing.")), episode.step(Turn("Still nothing."))
    assert first.message == MORE_TOOLS and first.text.endswith(
        f"\n{MORE_TOOLS}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert '"name": "sort"' in first.text and [s["function"]["name"] for s in episode.schemas] == [
        "ls",
        "sort",
    ]
    assert second.text == render_user("And now?") and episode.step(Turn("Done.")) is None
    assert set(load_benchmark("bfcl_multi_turn")[0].splits) == set(
        MULTI_TURN
    ) and episode.max_turns == 3 * (STEPS + 1)


def test_a_dialogue_of_several_user_turns_is_kept_as_its_text():
    turns = (Turn("Done.", "eos", render_user("And\nnow?")),
             Turn(render_call("ls", {}), "max_turns"))
    trajectory = Trajectory("p", turns)
    assert trajectory.turns[0].user == "And\nnow?" and trajectory.turns[1].user is None
    assert Trajectory.from_text(trajectory.to_text(), "p", finish="max_turns") == trajectory
    assert [(s.kind, s.text) for s in trajectory.steps[:2]] == [("A", "Done."), ("U", "And\nnow?")]
    assert trajectory.messages()[1] == {
        "role": "user",
        "content": "And\nnow?",
    } and "[U]" in trajectory_text(trajectory)
    assert Trajectory.from_messages(trajectory.messages(), "p", finish="max_turns") == trajectory
    with pytest.raises(UserError, match="are no trajectory"):
        Trajectory.from_messages(trajectory.messages()[:2])


# -- what may reach the executor

@pytest.mark.parametrize(("name", "arguments", "reason"), [
    ("__import__", {"name": "os"}, "not found"), ("ls; rm -rf /", {}, "not found"),
    ("eval", {"x": "1"}, "not found"),
    ("x" * 10**6, {}, "not found"), ("ls", {"a=1) or __import__('os'": 1}, "no argument name"),
    ("ls", {"lambda": 1}, "no argument name"), ("ls", {"a": float("nan")}, "too large"),
    ("ls", {"a": [float("inf")]}, "too large"), ("ls", {"a": 10**5000}, "too large"),
    ("ls", {"a": "x" * MAX_CALL}, "characters"),
    ("ls", {"a": json.loads("[" * 400 + "]" * 400)}, "nested")])
def test_what_is_no_plain_call_is_refused_before_the_executor(name, arguments, reason):
    with pytest.raises(ToolError, match=reason) as refusal:
        check_call(name, arguments, ["ls"])
    assert len(str(refusal.value)) < 300


def test_a_refused_call_stays_a_call_in_what_is_scored():
    call, bad = render_call("ls", {}), render_call("__import__", {"name": "os"})
    unreadable = '<tool_call>\n{"name": "ls", "arguments": [1]}\n</tool_call>'
    turns = (Turn(call + bad, "eos"), Turn(unreadable, "eos", render_user("Next")), Turn("Hm."))
    assert user_turns(Trajectory("p", turns), ["ls"]) == [[[("ls", {}), None]], []]


# -- the sandbox

@needs_environment
def test_hostile_calls_are_errors_and_the_state_lives_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problem = entry("multi_turn_base", 0)  # a file system and a network of posts
    box = Sandbox()
    episode = MultiTurnEnvironment(problem, box)
    assert episode.execute("cd", {"folder": "document"}).ok
    hostile = [("__import__", {"name": "os"}), ("cd", {"folder": "$(touch PWNED)"}), ("exit", {}),
               ("pwd", {"x": 1}),
               ("cat", {"file_name": "__import__('os').system('touch PWNED')"}),
               ("mkdir", {"dir_name": "x" * 10**6}),
               ("ls", {"a": json.loads("[" * 400 + "]" * 400)}), ("open", {"file": "/etc/passwd"})]
    for name, arguments in hostile:
        seen = episode.execute(name, arguments)
        assert not seen.ok and len(seen.content) < 2000, (name, seen)
        (kept,) = Turn(render_call(name, {}), "eos", render_environment([seen.content])).calls
        assert kept.executed and not kept.ok
    assert json.loads(episode.execute("pwd", {}).content) == {
        "current_working_directory": "/workspace/document"
    }
    assert not list(tmp_path.iterdir())
    box.stop()


@needs_environment
def test_a_call_that_never_ends_is_killed_and_forgotten():
    math = next(p for p in load(0, {"multi_turn_base": 0}) if "power" in known_tools(p))
    box = Sandbox(seconds=1)
    episode, started = MultiTurnEnvironment(math, box), time.monotonic()
    endless = episode.execute("power", {"base": 7, "exponent": 10**10})
    assert (
        not endless.ok
        and "power took too long" in endless.content
        and time.monotonic() - started < 30
    )
    assert json.loads(episode.execute("power", {"base": 2, "exponent": 3}).content) == {"result": 8}
    assert episode.made == [("power", {"base": 2, "exponent": 3})]
    box.stop()


@needs_environment
def test_a_stuck_process_is_replaced_with_its_whole_group():
    box = Sandbox(stuck=2.0)
    episode = MultiTurnEnvironment(entry("multi_turn_base", 0), box)
    assert episode.execute("pwd", {}).ok
    first, folder = box.worker.process, box.worker.folder
    os.kill(first.pid, signal.SIGSTOP)
    assert "took too long" in episode.execute("pwd", {}).content
    assert first.poll() == -signal.SIGKILL and not Path(folder).exists()
    assert episode.execute("pwd", {}).ok and box.worker.process.pid != first.pid
    box.stop()


@needs_environment
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_the_process_inherits_nothing_and_stands_alone(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a secret")
    box = Sandbox()
    MultiTurnEnvironment(entry("multi_turn_base", 0), box).execute("pwd", {})
    pid = box.worker.process.pid
    names = {v.split(b"=")[0].decode()
             for v in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if v}
    assert names <= {"PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "BFCL_PROJECT_ROOT", "HOME", "TZ"}
    assert os.getpgid(pid) == pid != os.getpgrp()
    assert os.readlink(f"/proc/{pid}/cwd") == box.worker.folder
    box.stop()
    assert not Path(box.worker.folder).exists()


@needs_environment
def test_a_damaged_environment_is_a_user_error_not_a_wrong_answer(monkeypatch, tmp_path):
    from mentor_kit.bfcl import executor as bfcl_sandbox

    problem = entry("multi_turn_base", 0)
    monkeypatch.setattr(bfcl_sandbox, "environment", lambda: tmp_path)
    with pytest.raises(UserError, match="BFCL's executor failed"):
        MultiTurnEnvironment(problem, box := Sandbox()).execute("pwd", {})
    assert not Path(box.worker.folder).exists()
    monkeypatch.undo()
    with pytest.raises(UserError, match="no_such_item"):
        sandbox().ask("check", category="multi_turn_base", entry="no_such_item", turns=[])


# -- verdicts

def test_stored_answers_are_of_four_categories_and_every_kind():
    kinds = Counter((r["kind"], r["official"] == "valid") for r in STORED)
    assert len(STORED) == 96 and {r["category"] for r in STORED} == set(MULTI_TURN)
    wrong = ("name", "missing_call", "value", "missing_parameter", "unknown_parameter",
             "extra_call", "silent_turn")
    assert all(kinds[kind, False] for kind in wrong)
    assert kinds["right", True] == kinds["right_step_by_step", True] == kinds["hostile", True] == 8


def verdicts(rows: list[dict]) -> list[str]:
    """What our path says of stored answers: executed turn by turn, then checked."""
    problems = {p.meta["entry"]: p
                for p in load(0, dict.fromkeys({r["category"] for r in rows}, 0))}
    asked = [problems[r["entry"]] for r in rows]
    found = multi_turn_verdicts(asked,
                                [play(p, r["turns"]) for p, r in zip(asked, rows, strict=True)])
    assert all(v["correct"] == (v["judged_by"] == "bfcl:valid") and v["failure"] is None
               for v in found)
    return [v["judged_by"].removeprefix("bfcl:") for v in found]


@needs_environment
def test_a_handful_of_verdicts_equal_the_official_scorers():
    rows = STORED[::14]
    assert verdicts(rows) == [r["official"] for r in rows]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_stored_verdicts_equal_the_official_scorers_item_by_item():
    """Installs the checker's environment where the cache has none. The official verdicts, with the
    reason why, are those of the unstubbed `bfcl evaluate`:
    tests/tools/make_bfcl_multi_turn_answers.py wrote them."""
    assert verdicts(STORED) == [r["official"] for r in STORED]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_800_gold_answers_are_right():
    problems = load(0, dict.fromkeys(MULTI_TURN, 0))
    played = [play(p, [say(c) for c in gold_turns(p)]) for p in problems]
    found = multi_turn_verdicts(problems, played)
    # the sandbox's fault, not the calls'
    broken = ("[Errno", "could not be executed", "took too long", "memory")
    seen = [c.observation.content for t in played for c in t.calls]
    assert len(seen) > 3000 and not [s for s in seen if not s.startswith("{")
                                     and any(b in s for b in broken)]
    assert [p.id for p, v in zip(problems, found,
                                 strict=True) if not v["correct"]] == [] and len(found) == 800


# -- students

@pytest.fixture(scope="module")
def learner() -> tuple[list[Problem], Student]:
    """Three items, and a small student that has learnt their gold dialogues by heart."""
    problems = [entry(category, n) for category, numbers in LEARNT.items() for n in numbers]
    gold = [play(p, [say(c) for c in gold_turns(p)]) for p in problems]
    tools = [f"{s['function']['name']}({', '.join(s['function']['parameters']['properties'])})"
             for p in problems for s in p.meta["tool_schemas"]]
    texts = [t for p, g in zip(problems, gold, strict=True) for t in (p.question, g.to_text())]
    tokenizer = build_tokenizer((texts + tools) * 8, 1500)
    model = build_model(tokenizer, hidden_size=64, layers=2, heads=2, kv_heads=1, ffn_size=128)
    student = Student(model, tokenizer, Toolbox("none", []), "learner")
    learn_by_heart(student, [encoded(student, p, g) for p, g in zip(problems, gold, strict=True)])
    shaken(model)
    return problems, student


def encoded(student: Student, problem: Problem, trajectory: Trajectory) -> dict[str, list[int]]:
    """As `Student.encode`, with the item's own messages and tools."""
    ids = list(prompt_ids(student, problem))
    mask = [0] * len(ids)
    for turn in trajectory.turns:
        for text, said in ((turn.text + EOS, 1), (turn.env_response, 0)):
            piece = student.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
            ids, mask = ids + piece, mask + [said] * len(piece)
    return {"input_ids": ids, "assistant_masks": mask}


@pytest.mark.numeric
@needs_environment
def test_a_real_student_answers_multi_turn_items_end_to_end(learner, tmp_path):
    problems, student = learner
    asked = [*problems, entry("multi_turn_long_context", 150)]  # the last it has never seen
    records = evaluate(student, asked, {}, Sampling(max_turns=168, max_new_tokens=600),
                       scorer=multi_turn_verdicts)
    assert [r.trajectory.meta["correct"] for r in records] == [True, True, True, False]
    added = records[2].trajectory
    assert sum(t.user is not None for t in added.turns) == len(problems[2].meta["later_turns"])
    assert (
        all(c.ok for r in records[:3] for c in r.trajectory.calls) and summarise(records)["n"] == 4
    )
    (tmp_path / "records").mkdir()
    again = load_records(save_records(tmp_path / "records" / "t.parquet", records))
    assert [r.trajectory for r in again] == [r.trajectory for r in records]
    assert [v["correct"] for v in multi_turn_verdicts(asked,
                                                      [r.trajectory
                                                       for r in again])] == [True] * 3 + [False]


@pytest.mark.numeric
@needs_environment
def test_a_local_model_as_a_teacher_answers_them_too(learner, tmp_path):
    from mentor_kit.teachers import load_teacher

    problems, student = learner
    folder = student.save(tmp_path / "model")
    teacher = load_teacher("local_model", model=str(folder), temperature=0, max_new_tokens=600,
                           backend="transformers")
    records = evaluate(teacher, problems, {}, scorer=multi_turn_verdicts)
    assert [r.trajectory.meta["correct"] for r in records] == [True] * 3
    single = load(0, {"simple_python": 1})
    assert len(evaluate(teacher, single, {}, scorer=bfcl.bfcl_verdicts)[0].trajectory.turns) == 1


@pytest.mark.numeric
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_line_on_twelve_items(learner, tmp_path):
    folder, out = learner[1].save(tmp_path / "model"), tmp_path / "run"
    command = [sys.executable, "-m", "mentor_kit", "evaluate", str(folder),
               "bfcl_multi_turn:multi_turn_base", "--set",
               "benchmark_items=12", "--set", "max_new_tokens=300", "--name", "learner", "--out",
               str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0 and "bfcl_multi_turn/multi_turn_base" in done.stdout, (
        done.stdout + done.stderr
    )
    records = load_records(out / "trajectories.parquet")
    assert len(records) == 12 and all(r.trajectory.meta["judged_by"] for r in records)
    assert records[11].trajectory.meta["correct"]  # the one it has learnt
    (facts,) = json.loads((out / "benchmarks.json").read_text())
    assert facts["licence"] == "Apache-2.0" and facts["version"] == 1 and facts["items"] == 12
    assert facts["scorer"] == "bfcl_multi_turn" and facts["revisions"][0].startswith("sha256:")


class ScriptedModel(torch.nn.Module):
    """Writes turn by turn what `script` says for the question in the prompt: texts, or a text for
    ever."""

    def __init__(self, tokenizer, script: dict[str, list[str] | str]) -> None:
        super().__init__()
        self.tokenizer, self.script, self.device = tokenizer, script, torch.device("cpu")
        self.generation_config = SimpleNamespace()
        self.config = SimpleNamespace(max_position_embeddings=None)
        self.embedding = torch.nn.Embedding(len(tokenizer), 1)

    def get_input_embeddings(self):
        return self.embedding

    def generate(self, input_ids, attention_mask, generation_config, **_):
        written = [self.ids(self.tokenizer.decode(row))[:generation_config.max_new_tokens]
                   for row in input_ids]
        width, pad = max(map(len, written)), self.tokenizer.pad_token_id
        return torch.tensor([[*row.tolist(), *ids, *[pad] * (width - len(ids))]
                             for row, ids in zip(input_ids, written, strict=True)])

    def ids(self, prompt: str) -> list[int]:
        said = self.script[prompt.split("<|im_start|>user\n")[1].split(EOS)[0]]
        if said == "raises":
            raise RuntimeError("the device is on fire")
        text = said if isinstance(said, str) else said[prompt.count("<|im_start|>assistant\n") - 1]
        return self.tokenizer(text + ("" if said == "overlong " * 500
                                      else EOS), add_special_tokens=False)["input_ids"]


@needs_environment
def test_every_item_stays_in_the_denominator_under_its_kind():
    files = [p for p in load(0, {"multi_turn_base": 60}) if "pwd" in known_tools(p)
             and p.meta["later_turns"]]
    # the script knows them by their questions
    problems = list({p.question: p for p in files}.values())[:7]
    gold = [text for calls in gold_turns(problems[0]) for text in say(calls)]
    hostile = render_call("__import__", {"name": "os"}) + render_call("cat", {"file_name": "$(id)"})
    told = [gold, "raises", "overlong " * 500, render_call("pwd", {}), [""] * 9,
            [hostile, "<tool_call>{}</tool_call>"] * 9, [render_call("ls", {}) * 9, DONE] * 9]
    tokenizer = build_tokenizer([p.question for p in problems], 600)
    model = ScriptedModel(tokenizer, {p.question: t for p, t in zip(problems, told, strict=True)})
    student = Student(model, tokenizer, Toolbox("none", []), "told")
    records = evaluate(student, problems, {}, Sampling(max_new_tokens=8000),
                       scorer=multi_turn_verdicts)
    found = [(r.trajectory.meta["correct"], r.trajectory.meta["failure"]) for r in records]
    assert found[:4] == [(True, None), (False, "error"), (False, "length"), (False, "max_turns")]
    assert found[4:] == [(False, None)] * 3 and len(records[3].trajectory.turns) == STEPS + 1
    assert records[3].trajectory.meta["judged_by"] == "bfcl:multi_turn:force_terminated"
    assert not any(c.ok for c in records[5].trajectory.calls) and all(
        c.ok for c in records[6].trajectory.calls
    )
    assert summarise(records)["n"] == 7 and summarise(records)["correct"] == pytest.approx(1 / 7)


def test_multi_turn_and_single_turn_categories_are_apart():
    assert (
        not set(CATEGORIES) & set(MULTI_TURN)
        and "multi_turn_base" not in load_benchmark("bfcl")[0].splits
    )
