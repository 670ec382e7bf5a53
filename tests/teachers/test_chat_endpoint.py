"""The endpoint teacher against real servers on loopback: what it makes of replies, faults, refusals
and hostility."""

from __future__ import annotations

import json
import re
import time
from itertools import count

import fault_server
import pytest
from fault_server import HOSTILE, running
from small_student import new_run

from mentor_kit.collection.collect import collect, plan_collection
from mentor_kit.collection.collection import Collection
from mentor_kit.collection.config import CollectConfig
from mentor_kit.collection.dispatch import CollectionBar, run_async
from mentor_kit.collection.export import export_mentor_data
from mentor_kit.core.chat_markup import render_call
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.runs.parameters import configure
from mentor_kit.teachers import load_teacher
from mentor_kit.teachers.attempt import Attempt
from mentor_kit.teachers.dialogue import Dialogue
from mentor_kit.teachers.endpoint import RetryPolicy, retry_after
from mentor_kit.teachers.reply import Reply, read_reply, render_reply, split_thinking

BOX = load_toolbox("arithmetic")
PROBLEM = fault_server.load(0, {"train": 1})[0]
FAULT_REASONS = {"accepted", "tool_error", "unknown_tool", "max_turns", "timeout", "connection",
                 "http_429",
                 "http_500", "bad_json", "no_choices", "deadline"}


def asking(url: str, n: int = 3, *options: str, **fields) -> CollectConfig:
    """`options` win over those that suit a test."""
    usual = ("base_url:" + url, "model:sums", "key_env:none", "probe:false", "backoff:0.02")
    named = {o.partition(":")[0]: o for o in (*usual, *options)}
    return configure(CollectConfig, **{
        "problems": "fault_server:load", "teacher": "chat_endpoint", "split_sizes": [f"train:{n}"],
        "teacher_options": list(named.values()), **fields})


def ask(tmp_path, url: str, n: int = 3, *options: str, **fields) -> Collection:
    return collect(asking(url, n, *options, **fields), new_run(tmp_path, "collect"))


@pytest.mark.parametrize("style", ["native", "text", "reasoning"])
def test_three_turns_of_every_style_of_server(tmp_path, style):
    with running(style=style) as url:
        found = ask(tmp_path, url, 3, f"tools:{'text' if style == 'text' else 'native'}")
    for record in found.accepted("train"):
        trajectory = record.trajectory
        assert trajectory.tool_names == ("add", "subtract") and len(trajectory.turns) == 3
        assert Trajectory.from_text(trajectory.to_text()).steps == trajectory.steps
        assert trajectory.steps[0].text.startswith("I think." if style == "reasoning"
                                                   else "Let me see.")
        assert trajectory.producer == "teacher:sums"
    assert len(found.accepted()) == 3 and found.tokens() == {"prompt_tokens": 900,
                                                             "completion_tokens": 90}


def test_the_same_server_gives_the_same_bytes_and_raw_replies_are_kept(tmp_path):
    with running() as url:
        for name in ("a", "b"):
            ask(tmp_path / name, url, 5)
    files = [tmp_path / name / "trajectories.parquet" for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()
    lines = (tmp_path / "a" / "attempts.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert json.loads(lines[1])["log"]["replies"][0]["object"] == "chat.completion"


@pytest.mark.parametrize(("problems", "stall"),
                         [(60, 5.0), pytest.param(500, 60.0, marks=pytest.mark.slow)])
def test_every_problem_ends_collected_or_named_under_faults(tmp_path, problems, stall):
    """30% of the requests fail in one of eight ways."""
    options = ("concurrency:64", "timeout:0.7", "retries:6")
    with running(faults=0.3, stall=stall) as url:
        found = ask(tmp_path, url, problems, *options)
    keys = [(r.problem.id, r.trajectory.sample) for r in found.records]
    assert keys == [(f"train/{i}", 0) for i in range(problems)]
    assert {r.trajectory.meta["reason"] for r in found.records} <= FAULT_REASONS
    assert len(found.accepted()) > problems / 2
    retried = [why for line in (tmp_path / "attempts.jsonl").read_text().splitlines()[1:]
               for why in json.loads(line)["log"]["retried"]]
    seen = {why.split(":")[0] for why in retried}
    assert seen == {"timeout", "connection", "http_429", "http_500", "bad_json", "no_choices"}


def test_what_failed_is_asked_again_and_what_was_answered_is_not(tmp_path):
    with running(style="error_500") as url:
        broken = ask(tmp_path, url, 3, "retries:0")
    assert broken.reasons().to_dict() == {"http_500": {"train": 3}}
    with running() as url:
        assert len(ask(tmp_path, url, 3).accepted()) == 3
    again = ask(tmp_path, "http://127.0.0.1:9/v1", 3)  # nothing is left to ask
    assert len(again.accepted()) == 3


def test_retry_after_is_respected():
    waits = RetryPolicy(backoff=1, longest_wait=8)
    assert retry_after({"retry-after": "7"}) == 7 and retry_after({"retry-after-ms": "500"}) == 0.5
    assert (
        retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})
        == retry_after({"retry-after": "soon"})
        == 0
    )
    half = type("Half", (), {"uniform": staticmethod(lambda a, b: (a + b) / 2)})()
    assert [waits.wait(n, 0, half) for n in range(5)] == [1, 2, 4, 8, 8] and waits.wait(0, 30,
                                                                                        half) == 30


def test_a_studys_next_run_takes_over_what_was_answered(tmp_path):
    """More samples, another address or concurrency make another run; only what is new is asked."""
    for name in ("one", "two", "three", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cell.json").write_text(json.dumps({"stage": "collect", "key": name}))
    nobody = "http://127.0.0.1:9/v1"
    with running() as url:
        ask(tmp_path / "one", url, 3)
        assert len(ask(tmp_path / "two", nobody, 3, "concurrency:2").accepted()) == 3
        assert len(ask(tmp_path / "three", url, 3, samples=2).records) == 6
    lines = (tmp_path / "three" / "attempts.jsonl").read_text().splitlines()
    assert (
        len(lines) == 7
        and lines[:4] == (tmp_path / "one" / "attempts.jsonl").read_text().splitlines()
    )
    with pytest.raises(UserError, match="not answered"):  # another temperature is another teacher
        ask(tmp_path / "other", nobody, 60, "temperature:0.1", "retries:0")


def test_a_busy_server_is_asked_again_when_it_said(tmp_path):
    started = time.perf_counter()
    with running(style="busy") as url:
        found = ask(tmp_path, url, 1)  # the backoff alone would be 0.02 s
    assert len(found.accepted()) == 1 and time.perf_counter() - started >= 1
    retried = json.loads((tmp_path / "attempts.jsonl").read_text().splitlines()[1])["log"][
        "retried"
    ]
    assert len(retried) == 1 and retried[0].startswith("http_429")


def test_the_bar_tells_rate_share_tokens_and_cost(tmp_path, monkeypatch):
    seconds = count(0, 2)
    monkeypatch.setattr("mentor_kit.runs.progress.monotonic", lambda: next(seconds))
    teacher = load_teacher("chat_endpoint", base_url="http://h/v1", model="m", key_env="none",
                           price_in=2, price_out=10)
    bar = CollectionBar(4, 1, teacher, tmp_path / "progress.txt")
    made = Trajectory("p", (Turn("x"),),
                      meta={"prompt_tokens": 100_000, "completion_tokens": 20_000})
    bar.add(Attempt(made, True, "accepted"))
    told = (tmp_path / "progress.txt").read_text()
    assert re.fullmatch(r"2 of 4 attempts, [\d.]+/s, accepted 100%, 120,000 tokens, cost 0.40\n",
                        told)
    bar.add(Attempt(made, False, "timeout", failed=True))
    assert bar.text() == "accepted 50%, 240,000 tokens, cost 0.80, failed 1"
    bar.close()
    assert not (tmp_path / "progress.txt").exists()


def test_the_deadline_ends_a_trajectory_by_name(tmp_path):
    with running(latency=0.5) as url:
        found = ask(tmp_path, url, 1, "deadline:0.7")
    assert found.attempts()[0][1:3] == (False, "deadline")
    assert [t.finish for t in found.records[0].trajectory.turns] == ["eos", "error"]


def test_hostile_calls_are_errors_and_run_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    started = time.perf_counter()
    with running(style="hostile") as url:
        record = ask(tmp_path / "run", url, 1).records[0]
    calls = record.trajectory.calls
    assert time.perf_counter() - started < 10
    assert len(calls) == len(HOSTILE) and not any(call.ok for call in calls)
    assert all(call.executed for call in calls)
    assert record.trajectory.meta["reason"] in ("unknown_tool", "malformed_call")
    assert [len(turn.calls) for turn in record.trajectory.turns] == [10, len(HOSTILE) - 10, 0]
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.parametrize(("name", "arguments"), HOSTILE, ids=range(len(HOSTILE)))
def test_no_hostile_call_takes_a_second_or_forges_a_result(name, arguments):
    started = time.perf_counter()
    dialogue = Dialogue(PROBLEM, BOX, native=True, max_turns=5)
    message = {"content": "", "tool_calls": [fault_server.call(name, arguments)]}
    assert dialogue.add(read_reply({"message": message, "finish_reason": "tool_calls"}))
    dialogue.add(Reply("\\boxed{37}"))
    trajectory = dialogue.trajectory("teacher:x", 0)
    again = Trajectory.from_text(trajectory.to_text())
    assert time.perf_counter() - started < 1
    assert (
        len(again.calls) == len(trajectory.calls) == 1
        and not again.calls[0].ok
        and len(again.turns) == 2
    )
    assert "37" not in again.calls[0].observation.content.split("\n")
    json.dumps(dialogue.messages, allow_nan=False).encode()


def test_text_that_invents_its_own_tool_result_is_cut_there():
    text = render_call("add", {"a": 1, "b": 2}) + "\n<tool_response>\n9\n</tool_response>"
    dialogue = Dialogue(PROBLEM, BOX, native=False, max_turns=5)
    assert dialogue.add(Reply(text + "<|im_end|>"))
    assert dialogue.messages[-1]["content"] == "<tool_response>\n3\n</tool_response>"
    assert "sum_numbers" in dialogue.messages[0]["content"]


def test_reasoning_is_found_in_all_its_fields():
    for field in ("reasoning_content", "reasoning", "thinking", "reasoning_details"):
        thought = [{"type": "reasoning.text",
                    "text": "two and two"}] if field == "reasoning_details" else "two and two"
        reply = read_reply({"message": {"content": "4", field: thought}, "finish_reason": "stop"})
        assert render_reply(reply) == "<think>\ntwo and two\n</think>\n4"
    assert split_thinking("<think>a</think>\n\nb") == split_thinking("a</think>b") == ("b", "a")
    assert split_thinking("no thought") == ("no thought", "")
    nothing = {"message": {"content": None, "tool_calls": "x"}, "finish_reason": "length"}
    assert read_reply(nothing) == Reply("", cut="length")


def test_turn_limit_and_length():
    message = {"tool_calls": [fault_server.call("add", '{"a": 1, "b": 2}')]}
    call = read_reply({"message": message, "finish_reason": "stop"})
    dialogue = Dialogue(PROBLEM, BOX, native=True, max_turns=2)
    assert dialogue.add(call) and not dialogue.add(call)
    assert (
        dialogue.trajectory("t", 0).finish == "max_turns"
        and not dialogue.trajectory("t", 0).calls[-1].executed
    )
    cut = Dialogue(PROBLEM, BOX, native=True, max_turns=2)
    assert not cut.add(Reply("and so", cut="length")) and cut.trajectory("t", 0).finish == "length"


def test_the_probe_says_what_is_honoured():
    with running() as url:
        plan = plan_collection(asking(url, 1, "probe:true"))
    assert plan.probe == {"tools": "honoured: structured calls", "seed": "honoured",
                           "reasoning": "none seen",
                           "temperature": "honoured: samples differ at 1, not at 0"}
    assert "seed: honoured" in repr(plan)


def test_the_key_comes_from_the_environment_and_is_stored_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    with running() as url:
        ask(tmp_path, url, 2, "key_env:MY_KEY")
    with running(style="error_500") as url:
        ask(tmp_path / "b", url, 1, "key_env:MY_KEY", "retries:1")
    assert "says the server to ***" in (tmp_path / "b" / "attempts.jsonl").read_text()
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"sk-very" in p.read_bytes()]


@pytest.mark.parametrize(("style", "match"), [
    ("error_401", "the key is refused"), ("error_404", "no such model or path"),
    ("error_503", "does not answer .http_503")])
def test_a_server_that_refuses_is_one_line_before_anything_is_written(tmp_path, monkeypatch, style,
                                                                      match):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    monkeypatch.setattr("mentor_kit.teachers.probe.BACKOFF", 0.01)
    with running(style=style) as url:
        for probe in (True, False):
            with pytest.raises(UserError, match=match) as error:
                plan_collection(asking(url, 1, "probe:true", "key_env:MY_KEY"), probe=probe)
    assert "\n" not in str(error.value) and "sk-very" not in str(error.value)


def test_a_server_that_is_down_stops_the_collection(tmp_path):
    with pytest.raises(UserError, match="not answered 50 attempts in a row .the last: connection."):
        ask(tmp_path, "http://127.0.0.1:9/v1", 80, "retries:0", "concurrency:8")
    assert not (tmp_path / "trajectories.parquet").exists()
    with pytest.raises(UserError, match="does not answer .connection"):
        plan_collection(asking("http://127.0.0.1:9/v1", 1, "probe:true", "retries:0"))


def test_where_nobody_listens_one_question_tells_at_once_and_before_the_problems(monkeypatch):
    monkeypatch.setattr("mentor_kit.teachers.probe.BACKOFF", 60)
    monkeypatch.setattr("mentor_kit.collection.collect.load_problems", None)
    with pytest.raises(UserError, match="does not answer .connection"):
        plan_collection(asking("http://127.0.0.1:9/v1", 1, "probe:true"), probe=False)


@pytest.mark.parametrize(("option", "match"), [
    ("key_env:NO_SUCH_KEY", "environment variable 'NO_SUCH_KEY' is not set"),
    ("base_url:localhost", "is not an address"),
    ("base_url:http://u:p@h/v1", "keys come from the environment"), ("model:' '", "needs a model"),
    ("tools:both", "tools='both' is unknown"),
    ("concurrency:0", "concurrency=0 must be above 0"),
    ("timeout:soon", "timeout='soon' must be a number"), ("extra:3", "extra=3 must be a mapping"),
    ("modle:x", "Teacher 'chat_endpoint' has no option 'modle'; did you mean 'model'"),
    ("colour:red", "has no option 'colour'; known: backoff, base_url, ")])
def test_bad_options_are_one_line(option, match):
    with pytest.raises(UserError, match=match) as error:
        plan_collection(asking("http://127.0.0.1:9/v1", 1, option))
    assert "\n" not in str(error.value)


def test_a_coroutine_runs_where_a_loop_runs_already():
    async def inner() -> int:
        return 7

    async def outer() -> int:
        return run_async(inner())

    assert run_async(outer()) == 7


def test_the_card_lists_model_and_sampling_and_neither_address_nor_key(tmp_path):
    with running() as url:
        config = asking(url, 2)
        plan = plan_collection(config)
        found = collect(config, new_run(tmp_path, "collect"), plan)
    folder = export_mentor_data(found, tmp_path / "set", config, plan.teacher)
    card = (folder / "README.md").read_text()
    for words in ("`model:sums`", "`temperature:0.6`", "`max_turns:5`", "| train | 2 | 2 | `",
                  "sums: not known here"):
        assert words in card
    assert url not in card and "key_env" not in card
