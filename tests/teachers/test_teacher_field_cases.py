"""Every row of the field cases on teachers, where the cases lie beside the checkout.

What public bug reports showed, tried on the product. `scenarios` of a row are those of the server
beside the cases; what matters stands as small ordinary tests in `test_odd_servers` and
`tests/core/test_tables`.
"""

from __future__ import annotations

import importlib.util
import json
import re
import resource
import socket
import ssl
import subprocess
from pathlib import Path
from types import ModuleType

import fault_server
import pandas as pd
import pytest
from field_cases import CASES, read_cases
from project_commands import collect_command
from small_student import new_run
from test_chat_endpoint import asking

from mentor_kit.collection.attempt_store import ATTEMPTS, AttemptStore
from mentor_kit.collection.collect import as_record, collect, plan_collection
from mentor_kit.collection.collection import Collection
from mentor_kit.core.tables import read_rows
from mentor_kit.core.toolbox import Toolbox, load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.problems import load_problems
from mentor_kit.runs.parameters import parse_options
from mentor_kit.teachers.attempt import Attempt
from mentor_kit.teachers.reply import read_reply, render_reply

ROOT = Path(__file__).parents[2]
ROWS = read_cases("teachers")
# rows that ordinary tests run whole: id -> the test
ELSEWHERE = {
    "P22": "tests/collection/test_attempt_store.py::test_kills_lose_and_double_nothing",
    "P23": "tests/collection/test_attempt_store.py::test_two_collector_processes",
    "P24": "tests/batch/test_batch.py::test_ctrl_c_stops_cleanly_and_says_how_to_continue",
    "P31": "tests/teachers/test_chat_endpoint.py::test_the_bar_tells_rate_share_tokens_and_cost",
}
# scenario -> the reason of every attempt at it; all others give references
REASONS = {"moderation_403_some": "http_403", "reasoning_echo_needed": "http_400",
           "context_exceeded_some": "context", "context_exceeded_turn2": "context",
           "text_qwen_coder": "malformed_call", "name_channel_leak": "unknown_tool",
           "name_functions_prefix": "unknown_tool", "name_with_space": "unknown_tool",
           "call_inside_reasoning": "only_reasoning", "latin1": "bad_json",
           "error_in_200_body": "no_choices", "system_refused": "http_400",
           "fin_content_filter": "finish_content_filter", "fin_sensitive": "finish_sensitive",
           "fin_repetition": "finish_repetition", **dict.fromkeys(
               ("fin_error", "fin_abort", "fin_aborted", "fin_network_error", "fin_unload",
                "fin_insufficient_system_resource"), "aborted")}

# no server answered these, or it refused all of them
ASKED_AGAIN = ("aborted", "bad_json", "no_choices", "http_400", "context")


def today() -> str:
    """The date."""
    return "2026-01-01"


def add(a: float, b: float) -> float:
    """The sum."""
    return a + b


def subtract(a: float, b: float) -> float:
    """The difference."""
    return a - b


def broken(a: float, b: float) -> float:
    """Fails."""
    raise KeyError("boom")


BOX = Toolbox("own", [today, add, subtract])


@pytest.fixture(scope="module")
def odd() -> ModuleType:
    spec = importlib.util.spec_from_file_location("teachers_server", CASES / "teachers_server.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.port = module.start()
    return module


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("mentor_kit.teachers.probe.BACKOFF", 0.01)


def asked(odd, scenario: str, folder: Path, n: int = 4, *options: str, **fields) -> Collection:
    url = f"http://127.0.0.1:{odd.port}/{scenario}/v1"
    return collect(asking(url, n, "retries:1", *options, **fields), new_run(folder, "collect"))


def outcomes(found: Collection) -> dict[str, int]:
    return found.reasons().loc["train"].to_dict()


def row(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", [n for n in names if n in ROWS])


def with_scenarios(*names: str) -> pytest.MarkDecorator:
    found = [pytest.param(name, scenario, id=f"{name}-{scenario}") for name in names
             for scenario in ROWS.get(name, {}).get("scenarios", ())]
    return pytest.mark.parametrize(("name", "scenario"), found)


def test_every_row_is_run():
    here = Path(__file__).read_text()
    assert all(re.search(rf'"{name}"', here) for name in ROWS)
    for test in ELSEWHERE.values():
        file, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / file).read_text()


OPTIONS = {"noarg": ("probe:false",), "reasoning_echo_needed": ("echo_reasoning:false",),
           "system_refused": ("tools:text", "system:Be brief.")}


@with_scenarios("T10", "T12", "T14", "T15", "T17", "T18", "T21", "T22", "T25", "T27", "T28", "T49",
                "T58", "P01", "P02", "P03", "P04", "P05", "P06", "P07", "P08", "P09", "P10", "P20",
                "P35", "P36")
def test_what_becomes_of_replies(odd, tmp_path, name, scenario):
    options = next((o for start, o in OPTIONS.items() if scenario.startswith(start)), ())
    box = {"toolbox": f"{__name__}:BOX"} if scenario.startswith("noarg") else {}
    found = asked(odd, scenario, tmp_path, 4, *options, **box)
    reason = REASONS.get(scenario, "accepted")
    reasons = set(outcomes(found))
    assert reasons <= {reason, "accepted"} and (reason in reasons or scenario.endswith("_some"))
    said = found.summary()
    if name == "T12":
        assert said.endswith("set echo_reasoning:true.")
    if name in ("T25", "T27"):
        assert "start the server with the tool parser of this model" in said
    if name == "T58":
        assert "perhaps a call" in said and "reasoning parser" in said
    if name in ("T28", "P07"):
        assert "<think>\nMAGTHOUGHT" in found.records[0].trajectory.to_text()
    if name == "P20":
        assert "no_choices 4 (Provider returned error)" in said
    if name == "T21":
        assert '"arguments": {}' in found.records[0].trajectory.to_text()
    before = len(odd.LOG[scenario])  # what was answered, or refused while others were not
    if "accepted" in reasons or reason not in ASKED_AGAIN:
        assert asked(odd, scenario, tmp_path, 4, *options, **box) == found
        assert len(odd.LOG[scenario]) == before


@row("T01")
def test_the_command_line_names_the_cause(odd, tmp_path, name):
    options = [f"base_url:http://127.0.0.1:{odd.port}/balance_402_after/v1", "model:odd",
               "key_env:none", "probe:false", "concurrency:2"]
    done = collect_command(tmp_path, 'split_sizes=["train:30"]',
                           f"teacher_options={json.dumps(options)}")
    cause = "402, the account has no credit left (Insufficient Balance)"
    assert done.returncode == 1 and cause in done.stdout
    assert cause in next((tmp_path / "results").rglob("FAILED")).read_text()
    for bad in ("concurrency:2.5", "system:12"):
        with pytest.raises(UserError, match=bad.partition(":")[0]):
            asking("http://127.0.0.1:9/v1", 1, bad)


@row("T02", "T14")
def test_one_refused_problem_costs_itself_alone(odd, tmp_path, name):
    scenario = ROWS[name]["scenarios"][0]
    found = asked(odd, scenario, tmp_path, 24)
    counts, before = outcomes(found), len(odd.LOG[scenario])
    assert set(counts) == {"accepted", REASONS[scenario]} and sum(counts.values()) == 24
    assert asked(odd, scenario, tmp_path, 24) == found and len(odd.LOG[scenario]) == before


@row("T04", "T06", "P16", "P17")
def test_what_the_user_leaves_out_the_probe_leaves_out(odd, tmp_path, name):
    given = {"P16": ["max_tokens:-1", "extra:{max_completion_tokens: 4096}"],
             "P17": ["echo_reasoning:true"]}
    options = ROWS[name]["input"].get("teacher_options") or given[name]
    found = asked(odd, ROWS[name]["scenarios"][0], tmp_path, 3, "probe:true", *options)
    assert outcomes(found) == {"accepted": 3}


@row("T08")
def test_a_day_is_not_waited_for(odd, tmp_path, name):
    with pytest.raises(UserError, match=r"asks to wait until \d{4}-.*daily limit reached"):
        asked(odd, "retry_after_day", tmp_path, 1, "probe:true")


@row("P15")
def test_a_refused_option_is_told_in_the_servers_words(odd, tmp_path, name):
    with pytest.raises(UserError, match="'max_tokens' is not supported") as error:
        asked(odd, "max_tokens_refused", tmp_path, 1, "probe:true")
    assert "\n" not in str(error.value) and "max_completion_tokens: 4096" in str(error.value)


@row("P18")
def test_retry_after_is_waited_for(odd, tmp_path, monkeypatch, name):
    waits = []

    async def sleep(seconds, *_):
        waits.append(seconds)

    monkeypatch.setattr("mentor_kit.teachers.endpoint.asyncio.sleep", sleep)
    for scenario, least in (("retry_after_http_date", 1), ("retry_after_20", 20),
                            ("retry_after_skewed_clock", 2)):
        waits.clear()
        assert outcomes(asked(odd, scenario, tmp_path / scenario, 1)) == {"accepted": 1}
        assert max(waits) >= least and max(waits) < least + 3


@row("P19")
def test_odd_statuses_are_tried_again(odd, tmp_path, name):
    for status in (501, 524, 529, 530, 204):
        odd.S[f"once_{status}"] = odd.once(f"once_{status}", 2, status, "no")
        found = asked(odd, f"once_{status}", tmp_path / str(status), 2, "concurrency:1",
                      "retries:4")
        assert outcomes(found) == {"accepted": 2}


@row("P21")
def test_a_refused_key_on_the_way_loses_nothing(odd, tmp_path, name):
    with pytest.raises(UserError, match="the key is refused .key expired"):
        asked(odd, "one_401", tmp_path, 10, "concurrency:2")
    assert outcomes(asked(odd, "one_401", tmp_path, 10)) == {"accepted": 10}
    assert len((tmp_path / ATTEMPTS).read_text().splitlines()) == 11


@row("P11")
def test_addresses_that_work(odd, tmp_path, name):
    six = None
    if socket.has_ipv6:
        try:
            six = odd.start("::1")
        except OSError:  # this machine has no such address
            six = None
    port = odd.port
    hosts = [f"http://127.0.0.1:{port}/plain_ok/v1/", f"http://localhost:{port}/plain_ok/v1",
             f"HTTP://127.0.0.1:{port}/plain_ok/v1", f" http://127.0.0.1:{port}/plain_ok/v1 ",
             *([f"http://[::1]:{six}/plain_ok/v1"] if six else [])]
    for number, url in enumerate(hosts):
        found = collect(asking(url, 1), new_run(tmp_path / str(number), "collect"))
        assert outcomes(found) == {"accepted": 1}, url


@row("P12")
def test_addresses_that_do_not(odd, tmp_path, name):
    good = f"127.0.0.1:{odd.port}/plain_ok"
    for url in (f"http://{good}", f"http://{good}/v1/chat/completions", good,
                "http://127.0.0.1:9/v1", "http://no.such.host.invalid/v1", f"https://{good}/v1",
                f"http://me:secret@{good}/v1"):
        with pytest.raises(UserError) as error:
            plan_collection(asking(url, 1, "probe:true"))
        assert "\n" not in str(error.value) and "base_url" in str(error.value)


@row("P13")
def test_self_signed_https(odd, tmp_path, monkeypatch, name):
    pem = tmp_path / "cert.pem"
    try:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout",
                        pem, "-out", tmp_path / "only.pem", "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not here")
    pem.write_text(pem.read_text() + (tmp_path / "only.pem").read_text())
    url = f"https://127.0.0.1:{odd.start(cert=str(pem))}/plain_ok/v1"
    with pytest.raises(UserError, match="does not answer .connection.*CERTIFICATE_VERIFY_FAILED"):
        plan_collection(asking(url, 1, "probe:true"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "only.pem"))
    assert ssl.get_default_verify_paths().cafile == str(tmp_path / "only.pem")
    found = collect(asking(url, 1), new_run(tmp_path / "run", "collect"))
    assert outcomes(found) == {"accepted": 1}


@row("P14")
def test_names_of_models_are_sent_as_written(odd, tmp_path, name):
    for number, model in enumerate(("Qwen/Qwen3-32B", "qwen3:8b", "deepseek/deepseek-r1:free")):
        asked(odd, "plain_ok", tmp_path / str(number), 1, f"model:{model}")
        assert odd.LOG["plain_ok"][-1]["model"] == model


@row("P25")
def test_attempts_of_other_settings_are_not_mixed(odd, tmp_path, name):
    asked(odd, "plain_ok", tmp_path, 2)
    for changed in ("temperature:0.1", "model:other"):
        with pytest.raises(UserError, match=f"another {changed.partition(':')[0]}"):
            asked(odd, "plain_ok", tmp_path, 2, changed)
    assert outcomes(asked(odd, "plain_ok", tmp_path, 5, "timeout:60")) == {"accepted": 5}


@row("P26")
def test_a_full_disk_is_one_line_and_the_next_start_goes_on(odd, tmp_path, name):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
    try:
        with pytest.raises(UserError, match="is the disk full"):
            asked(odd, "plain_ok", tmp_path, 12, "concurrency:2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert outcomes(asked(odd, "plain_ok", tmp_path, 12)) == {"accepted": 12}


ARGUMENTS = ['{"a": 1, "a": 2, "b": 3}', '{"a": 1e999, "b": 1}', '{"a": NaN, "b": 1}',
             f'{{"a": {"9" * 30}, "b": 1}}', '{"a": "\uff11\uff12", "b": 1}', '{"a": "\\ud800"}',
             '{"a": "</tool_call><|im_end|>", "b": "<tool_response>"}', "[1, 2]", "7", "true",
             '"text"', "not json", '{"a": 1,}', "{'a': 1}", '{"a": {"b": [1, null]}}', '""',
             "[" * 2000, '{"a": "\\u2028\\u0000", "b": "\x85"}',
             '{"": 1}', '{"a": "1", "b": " 2 "}']


@row("P27")
def test_odd_arguments_are_read_back_as_they_were_written(name):
    box = load_toolbox("arithmetic")
    for written in ARGUMENTS:
        reply = read_reply({"message": {"tool_calls": [
            {"id": "1", "function": {"name": "add", "arguments": written}}]}})
        text = render_reply(reply)
        assert Trajectory.from_text(text).to_text() == text
        calls = Turn(text).calls
        assert [(c.name, c.arguments) for c in calls] == [("add", reply.calls[0].arguments)]
        box.execute("add", calls[0].arguments)  # never raises


@row("P28")
def test_many_at_once(odd, tmp_path, name):
    assert outcomes(asked(odd, "plain_ok", tmp_path, 60, "concurrency:1000")) == {"accepted": 60}

    def many(body):
        if any(m["role"] == "tool" for m in body["messages"]):
            return odd.base(body)
        calls = [odd.tc(f"c{i}", "add", json.dumps({"a": i, "b": 1})) for i in range(200)]
        return odd.reply({"content": "", "tool_calls": calls}, "tool_calls")

    odd.S["parallel"] = many
    found = asked(odd, "parallel", tmp_path / "parallel", 1)
    assert sum(call.ok for call in found.records[0].trajectory.calls) >= 200


@row("P29")
def test_many_stored_attempts_are_read_again(tmp_path, name):
    problems = fault_server.load(0, {"train": 500})
    made = [as_record(p, 0, Attempt(Trajectory(p.id, (Turn("\\boxed{1}"),)), True, "accepted"), "m")
            for p in problems]
    with AttemptStore(tmp_path / ATTEMPTS, {"m": 1}) as store:
        for record in made:
            store.add(record, False, {"replies": ["long"] * 9})
    with AttemptStore(tmp_path / ATTEMPTS, {"m": 1}) as store:
        assert [store.record(p, 0) for p in problems] == made


@row("T41")
def test_a_text_option_may_hold_a_colon(name):
    for text in ("Answer briefly: use tools.", "Be brief # no joke"):
        assert parse_options([f"system:{text}"], "teacher_options") == {"system": text}


@row("T47")
def test_whatever_a_tool_raises_is_an_observation(name):
    assert not Toolbox("bad", [broken]).execute("broken", {"a": 1, "b": 2}).ok


def written(folder: Path, file: str, text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / file).write_bytes(data)
    return str(folder / file)


def problems_of(path: str, **options) -> list:
    return load_problems("hub_math", 0, {"train": -1}, path=path, **options)


def lines(rows: list[dict]) -> str:
    return "\n".join(json.dumps(r, ensure_ascii=False) for r in rows)


GOOD = [{"problem": f"What is {i} plus 1?", "answer": str(i + 1)} for i in range(4)]


@row("T33", "T44", "P30")
def test_json_lines(tmp_path, name):
    if name == "P30":
        rows = [{"problem": f"What is {i} plus 1?", "answer": str(i)} for i in range(2000)]
        assert len(problems_of(written(tmp_path, "a.jsonl", lines(rows)))) == 2000
        return
    more = [{"problem": f"What{mark}{ord(mark)}?", "answer": "1"}
            for mark in "\u2028\u2029\x85"]
    more = [{"problem": "No answer?"}] if name == "T44" else more
    found = problems_of(written(tmp_path, "a.jsonl", lines(GOOD + more)))
    assert len(found) == len(GOOD) + (len(more) if name == "T33" else 0)


@row("T35", "P32")
def test_csv(tmp_path, name):
    text = "problem,answer\nIf you have 10, what is 10 plus 5 minus 3?,12\n"
    with pytest.raises(UserError, match="line 2 has 3 fields"):
        problems_of(written(tmp_path, "a.csv", text))
    with pytest.raises(UserError, match="line 3 has 3 fields"):
        problems_of(written(tmp_path, "b.csv", "answer,problem\n15,What is 5?\n16,If 1, what?\n"))
    text = '\ufeffproblem,answer\n"a\nb","1,234"\nNA,007\nNone,3\n'
    assert read_rows(written(tmp_path, "c.csv", text)) == [
        {"problem": "a\nb", "answer": "1,234"}, {"problem": "NA", "answer": "007"},
        {"problem": "None", "answer": "3"}]


@row("T37", "T39")
def test_questions_as_chats_and_answers_after_a_mark(tmp_path, name):
    chat = {"prompt": [{"role": "user", "content": "What is 5?"}],
            "reward_model": {"ground_truth": "5", "style": "rule"}}
    path = tmp_path / "a.parquet"
    pd.DataFrame([chat]).to_parquet(path)
    found = problems_of(str(path), question="prompt", answer="reward_model.ground_truth")
    assert (found[0].question, found[0].answers) == ("What is 5?", ("5",))
    worked = written(tmp_path, "a.jsonl", lines([{"question": "q?", "answer": "4 x 3\n#### 12"}]))
    assert problems_of(worked, question="question")[0].answers == ("12",)


@row("T52", "P33", "P34")
def test_the_released_form(tmp_path, name):
    def load(**cells) -> list:
        cells = {"question": "q?", "reward_model": {"ground_truth": "5"}, "data_source": "s",
                 "tool_calls_used": ["add"], "extra_info": {}, **cells}
        path = written(tmp_path, "a.jsonl", json.dumps(cells))
        return load_problems("mentor_data", 0, {"train": -1}, path=path)

    for used in ([{"name": "add"}], "[{'name': 'add'}]", "add, add", ["add"], '["add"]'):
        assert set(load(tool_calls_used=used)[0].meta["teacher_tools"]) == {"add"}
    for used in (None, "", []):
        assert load(tool_calls_used=used)[0].meta["teacher_tools"] == []
    schemas = json.dumps([json.dumps({"type": "function", "function": {"name": "add"}})])
    for info in ({}, None, json.dumps({"index": 3}), {"func_schemas": schemas}):
        assert len(load(extra_info=info)) == 1
    assert load(reward_model={"ground_truth": ["5", "five"]})[0].answers == ("5", "five")
    for env in ("print 'x'", "  def add(a):\nreturn a", "```python\nx\n```", "a\0b"):
        with pytest.raises(UserError) as error:
            load(extra_info={"env": env})
        assert "\n" not in str(error.value)
