"""Servers as people meet them: odd forms are read, what is cut or refused is named, and one refused
problem neither stops a collection nor is paid for again."""

from __future__ import annotations

import json

import fault_server
import pytest
from odd_server import Refuse, answering, question, turn
from small_student import new_run
from test_chat_endpoint import ask, asking

from mentor_kit.collection.collect import collect, plan_collection
from mentor_kit.core.problem import Problem
from mentor_kit.core.toolbox import Toolbox
from mentor_kit.errors import UserError
from mentor_kit.teachers.attempt import advice
from mentor_kit.teachers.endpoint import retry_after
from mentor_kit.teachers.reply import Reply, read_reply, render_reply


def message(reply):
    return reply["choices"][0]["message"]


def calls(reply):
    return message(reply).get("tool_calls", [])


def strict_ids(body):
    """Refuse ids that are missing, not unique in the conversation, or not nine letters and digits,
    and answers that name another."""
    ids = [c["id"] for m in body["messages"] for c in m.get("tool_calls", ())]
    told = [m["tool_call_id"] for m in body["messages"] if m["role"] == "tool"]
    if len(set(ids)) < len(ids) or not all(i.isalnum() and len(i) == 9 for i in ids) or ids != told:
        raise Refuse(400, "ids")


def ids_are(value):
    def bend(body, reply):
        strict_ids(body)
        for call in calls(reply):
            call["id"] = value
    return bend


def arguments_are(write):
    def bend(body, reply):
        for call in calls(reply):
            call["function"]["arguments"] = write(call["function"]["arguments"])
    return bend


def signature_back(body, reply):
    sent = [c for m in body["messages"] for c in m.get("tool_calls", ())]
    if any(c.get("extra_content") != {"google": {"thought_signature": "S"}} for c in sent):
        raise Refuse(400, "Function call is missing a thought_signature.")
    for call in calls(reply):
        call["extra_content"] = {"google": {"thought_signature": "S"}}


def field_back(name, value):
    def bend(body, reply):
        if any(m.get(name) != value for m in body["messages"] if m["role"] == "assistant"):
            raise Refuse(400, f"{name} must be passed back")
        message(reply)[name] = value
    return bend


def content_refused(bad):
    def bend(body, reply):
        if any(m["content"] == bad for m in body["messages"] if m["role"] == "assistant"):
            raise Refuse(400, "messages.1.content: Input should be a valid string")
        if calls(reply):
            message(reply)["content"] = None
    return bend


def named_results(body, reply):
    if any(m["role"] == "tool" and not m.get("name") for m in body["messages"]):
        raise Refuse(400, "tool messages need a name")


def old_form(body, reply):
    if calls(reply):
        message(reply)["function_call"] = message(reply).pop("tool_calls")[0]["function"]


def aborted_once():
    seen = set()

    def bend(body, reply):
        if (key := json.dumps(body["messages"])) not in seen:
            seen.add(key)
            reply["choices"][0] |= {"message": {"content": ""}, "finish_reason": "error",
                                    "error": {"code": 502, "message": "Upstream died"}}
    return bend


def mentions_results(body, reply):
    if not calls(reply):
        message(reply)["content"] = f"The <tool_response> said so. {message(reply)['content']}"


@pytest.mark.parametrize("bend", [
    ids_are(None), ids_are(""), ids_are("call00000"), ids_are(7),
    arguments_are(json.dumps), arguments_are(json.loads), signature_back,
    field_back("reasoning_details", [{"type": "reasoning.encrypted", "data": "x"}]),
    field_back("thinking_blocks", [{"type": "thinking", "thinking": "t", "signature": "x"}]),
    content_refused(None), content_refused(""), named_results, old_form, aborted_once(),
    mentions_results, lambda body, reply: json.dumps(reply).encode(),
    lambda body, reply: b": PROCESSING\n\n" + json.dumps(reply).encode()])
def test_good_answers_in_odd_forms_become_references(tmp_path, bend):
    with answering(bend) as (url, _):
        found = ask(tmp_path, url, 2)
    assert len(found.accepted()) == 2, found.summary()
    assert found.accepted()[0].trajectory.tool_names == ("add", "subtract")


def today() -> str:
    """The date."""
    return "2026-01-01"


BOX = Toolbox("dates", [today])


def dates(seed, sizes):
    return [Problem("d/0", "What day is it? 1 2 3", ["4"], "dates", "train", f"{__name__}:BOX")]


@pytest.mark.parametrize("arguments", ["", "  ", None, "null", "{}", ...])
def test_a_tool_without_parameters_may_be_called_with_nothing(tmp_path, arguments):
    def bend(body, reply):
        function = {"name": "today"} | ({} if arguments is ... else {"arguments": arguments})
        final = {"content": "\\boxed{4}"}
        reply["choices"][0]["message"] = final if turn(body) else {"tool_calls": [
            {"id": "1", "function": function}]}

    with answering(bend) as (url, _):
        found = ask(tmp_path, url, 1, problems=f"{__name__}:dates")
    assert len(found.accepted()) == 1
    assert '"arguments": {}' in found.records[0].trajectory.to_text()


@pytest.mark.parametrize("said", [
    {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                 {"type": "text", "text": "4"}]},
    {"content": [{"type": "thinking", "thinking": "Hm.", "signature": "x"},
                 {"type": "text", "text": "4"}]},
    {"content": [{"type": "reasoning", "text": "Hm."}, {"type": "output_text", "text": "4"}]},
    {"content": "[THINK]Hm.[/THINK]4"}, {"content": "4", "reasoning": "Hm."},
    {"content": "4", "reasoning_details": [{"type": "reasoning.summary", "summary": "Hm."}]}])
def test_thoughts_are_kept_wherever_they_stand(said):
    reply = read_reply({"message": said, "finish_reason": "stop"})
    assert render_reply(reply) == "<think>\nHm.\n</think>\n4"


def test_text_is_cut_at_an_invented_result_only_after_a_call():
    call = '<tool_call>\n{"name": "add"}\n</tool_call>'
    assert render_reply(Reply(f"{call}\n<tool_response>\n9")) == call
    assert render_reply(Reply("The <tool_response> says 9.")) == "The <tool_response> says 9."


@pytest.mark.parametrize(("finish", "reason"), [
    ("length", "length"), ("MAX_TOKENS", "length"), ("model_length", "length"),
    ("content_filter", "finish_content_filter"), ("repetition", "finish_repetition"),
    ("SAFETY", "finish_safety"), ("abort", "aborted"), ("error", "aborted"),
    ("insufficient_system_resource", "aborted")])
def test_an_answer_that_was_cut_never_becomes_a_reference(tmp_path, finish, reason):
    """Those that the server broke off are asked again, the others are not."""
    def bend(body, reply):
        if not calls(reply):
            message(reply)["content"] += " But wait, let me che"
            reply["choices"][0]["finish_reason"] = finish

    with answering(bend) as (url, bodies):
        found = ask(tmp_path, url, 1, "retries:1")
        assert found.reasons().to_dict() == {reason: {"train": 1}}
        before = len(bodies)
        ask(tmp_path, url, 1, "retries:1")
    assert (len(bodies) > before) == (reason == "aborted")


def refuses(status, words, turns=0, only=None):
    def bend(body, reply):
        if turn(body) >= turns and (only is None or question(body).startswith(only)):
            raise Refuse(status, words)
    return bend


TOO_LONG = "This model's maximum context length is 2048 tokens, you requested 5000."


@pytest.mark.parametrize(("status", "words", "turns", "reason"), [
    (403, "input was flagged", 0, "http_403"), (404, "roles must alternate", 0, "http_404"),
    (400, TOO_LONG, 1, "context"), (413, "too large", 0, "context"), (422, "odd", 1, "http_422")])
def test_one_refused_problem_is_named_and_neither_stops_nor_is_asked_again(tmp_path, status, words,
                                                                           turns, reason):
    first = fault_server.load(0, {"train": 1})[0].question
    with answering(refuses(status, words, turns, first)) as (url, bodies):
        found = ask(tmp_path, url, 6, "concurrency:1")
        assert found.reasons().to_dict() == {"accepted": {"train": 5}, reason: {"train": 1}}
        assert found.summary().endswith(f"rejected: {reason} 1 ({words.rstrip('.')})")
        before = len(bodies)
        assert ask(tmp_path, url, 6) == found and len(bodies) == before
    assert len((tmp_path / "attempts.jsonl").read_text().splitlines()) == 7


def test_a_server_that_refuses_everything_is_asked_again_when_it_is_mended(tmp_path):
    with answering(refuses(400, "tool choice requires a tool-call-parser")) as (url, _):
        found = ask(tmp_path, url, 3)
    assert found.reasons().to_dict() == {"http_400": {"train": 3}}
    assert "tool-call-parser).\nWithout a reference" in found.summary()
    assert found.summary().endswith("try the teacher option tools:text.")
    with answering(refuses(403, "this key may not")) as (url, _), pytest.raises(
            UserError, match="refused every attempt .http_403: this key may not.: check base_url"):
        ask(tmp_path, url, 3)
    with answering(lambda body, reply: None) as (url, _):
        assert len(ask(tmp_path, url, 3).accepted()) == 3


def test_many_refusals_in_a_row_stop_unless_only_the_dialogues_are_too_long(tmp_path):
    first = fault_server.load(0, {"train": 1})[0].question

    def all_but_first(status, words):
        def bend(body, reply):
            if not question(body).startswith(first):
                raise Refuse(status, words)
        return bend

    with answering(all_but_first(400, TOO_LONG)) as (url, _):
        found = ask(tmp_path / "context", url, 70, "concurrency:2")
    assert found.reasons().to_dict() == {"accepted": {"train": 1}, "context": {"train": 69}}
    with answering(all_but_first(403, "key expired")) as (url, _), pytest.raises(
            UserError, match="not answered 50 attempts in a row .the last: http_403: key expired"):
        ask(tmp_path / "key", url, 70, "concurrency:1")
    with answering(lambda body, reply: None) as (url, _):
        assert len(ask(tmp_path / "key", url, 70).accepted()) == 70


def groups(error):
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            return True
        error = error.__context__
    return False


@pytest.mark.parametrize(("refusal", "match"), [
    (Refuse(402, "Insufficient Balance"), "402, the account has no credit left .Insufficient Bal"),
    (Refuse(429, "You exceeded your quota (insufficient_quota)"), "429, the account has no credit"),
    (Refuse(401, "key expired"), "401, the key is refused .key expired.: check base_url"),
    (Refuse(429, "daily limit", Retry_After="86400"), r"wait until \d{4}-.*: daily limit"),
    (Refuse(429, "busy", retry_after_ms="inf"), "asks to wait until")])
def test_a_stop_keeps_its_cause_and_what_was_collected(tmp_path, refusal, match):
    """IPython shows no error whose context holds a group of exceptions."""
    def bend(body, reply):
        if len(bodies) > 12:
            raise refusal

    with answering(bend) as (url, bodies), pytest.raises(UserError, match=match) as stop:
        ask(tmp_path, url, 30, "concurrency:4")
    assert not groups(stop.value) and "\n" not in str(stop.value)
    kept = (tmp_path / "attempts.jsonl").read_text().count('"failed":false')
    assert 1 <= kept <= 4
    with answering(lambda body, reply: None) as (url, bodies):
        assert len(ask(tmp_path, url, 30).accepted()) == 30 and len(bodies) == 3 * (30 - kept)


def test_retry_after_by_the_servers_clock_and_without_nonsense():
    late = {"retry-after": "Wed, 21 Oct 2037 07:28:05 GMT", "date": "Wed, 21 Oct 2037 07:28:00 GMT"}
    assert retry_after(late) == 5
    assert retry_after({"retry-after-ms": "nan"}) == 0 and retry_after({"retry-after": "-3"}) == 0
    assert retry_after({"retry-after-ms": "inf"}) == retry_after({"retry-after": "9" * 400}) == 1e9


def only_default(*names):
    def bend(body, reply):
        if refused := [n for n in names if n in body and not (n == "temperature" and body[n] == 1)]:
            raise Refuse(400, f"Unsupported parameter: {refused[0]!r}")
    return bend


def short_replies_fail(body, reply):
    if body.get("max_tokens", 999) < 200:
        raise Refuse(400, "max_tokens must be at least 200")


def no_message_when_short(body, reply):
    if body.get("max_tokens", 999) < 200:
        reply["choices"][0] |= {"message": None, "finish_reason": "length"}


@pytest.mark.parametrize(("bend", "options", "seen"), [
    (only_default("max_tokens", "top_p", "temperature"),
     ("max_tokens:-1", "top_p:-1", "temperature:-1", "extra:{max_completion_tokens: 4096}"),
     {"temperature": "not sent", "seed": "cannot be told: samples are all alike"}),
    (only_default("temperature"), ("temperature:1",),
     {"temperature": "another one is refused (http_400: Unsupported parameter: 'temperature')"}),
    (only_default("seed"), ("seed:-1",), {"seed": "not sent"}),
    (short_replies_fail, (), {"seed": "honoured"}), (no_message_when_short, (), {})])
def test_the_probe_asks_nothing_that_the_collection_would_not(monkeypatch, bend, options, seen):
    monkeypatch.setattr("mentor_kit.teachers.probe.BACKOFF", 0.01)
    with answering(bend) as (url, _):
        probed = plan_collection(asking(url, 1, "probe:true", *options)).probe
    assert probed.items() >= {"tools": "honoured: structured calls", **seen}.items()


@pytest.mark.parametrize(("names", "hint"), [
    (("temperature",), "temperature:-1 leaves it out"), (("seed",), "seed:-1 leaves it out"),
    (("max_tokens",), "max_tokens:-1 leaves it out")])
def test_a_refused_option_is_named_with_the_way_out(names, hint):
    with answering(only_default(*names)) as (url, _), pytest.raises(
            UserError, match=f"refuses a plain question .http_400: Unsupp.*{names[0]}.*: {hint}"):
        plan_collection(asking(url, 1, "probe:true"), probe=False)


@pytest.mark.parametrize(("text", "reason"), [
    ("<tool_call>\n<function=add>\n<parameter=a>\n1</parameter>\n</function>\n</tool_call>",
     "malformed_call"),
    ('<|python_tag|>{"name": "add", "parameters": {}}', "malformed_call"),
    ('[TOOL_CALLS] [{"name": "add"}]', "malformed_call"), ("[add(a=1, b=2)]", "malformed_call"),
    ('```json\n{"name": "add", "arguments": {}}\n```', "malformed_call"),
    ('<tool_call>\n{"name": "functions.add", "arguments": {}}\n</tool_call>', "unknown_tool"),
    ('<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>', "tool_error")])
def test_calls_that_no_one_reads_are_named_instead_of_the_turn_limit(tmp_path, text, reason):
    def bend(body, reply):
        reply["choices"][0] |= {"message": {"content": text}, "finish_reason": "stop"}

    with answering(bend) as (url, _):
        config = asking(url, 1, "probe:true")
        plan = plan_collection(config)
        found = collect(config, new_run(tmp_path, "collect"), plan)
    assert found.reasons().to_dict() == {reason: {"train": 1}}
    assert plan.probe["tools"].startswith("calls in a form that is not read: start the server") \
        == (reason == "malformed_call")
    assert ("tool parser" in found.summary()) == (reason != "tool_error")


def test_a_call_that_stands_in_the_reasoning_alone_is_told(tmp_path):
    def bend(body, reply):
        reply["choices"][0]["message"] = {"content": "", "reasoning_content": "<tool_call>\n{}"}

    with answering(bend) as (url, _):
        found = ask(tmp_path, url, 1)
    assert "only_reasoning 1" in found.summary() and "reasoning parser" in found.summary()


def test_the_servers_words_lead_to_the_option():
    words = "The `reasoning_content` in the thinking mode must be passed back to the API."
    assert advice("http_400", words) == "The server refuses: set echo_reasoning:true."
    assert "max_completion_tokens: 4096" in advice("http_400", "use 'max_completion_tokens'")
    assert advice("http_500", "oops").startswith("The server did not answer")


@pytest.mark.parametrize(("option", "match"), [
    ("concurrency:2.5", "concurrency=2.5 must be a whole number"),
    ("system:12", "system=12 must be a text; put it in quotes"),
    ("echo_reasoning:maybe", "echo_reasoning='maybe' must be true or false"),
    ("retries:-1", "retries=-1 must be 0 or more"), ("max_tokens:1.5", "must be a whole number")])
def test_options_of_the_wrong_type_are_refused_before_anything_is_asked(option, match):
    with pytest.raises(UserError, match=match):
        asking("http://127.0.0.1:9/v1", 1, option)
