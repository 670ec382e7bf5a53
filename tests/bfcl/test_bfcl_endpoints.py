"""BFCL asked from an OpenAI-compatible server: the item's own messages and tools, one turn or
several user turns."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from bfcl_gold import DONE, gold_turns

from mentor_kit.bfcl import checker as bfcl
from mentor_kit.bfcl.checker import bfcl_verdicts
from mentor_kit.bfcl.items import MORE_TOOLS, load
from mentor_kit.bfcl.multi_turn import multi_turn_verdicts
from mentor_kit.core.chat_markup import render_call
from mentor_kit.core.environment import OWN, Environment, make_environment
from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.evaluation.evaluate import evaluate
from mentor_kit.teachers import load_teacher
from mentor_kit.teachers.attempt import reject_reason
from mentor_kit.teachers.dialogue import CALCULATE, Dialogue
from mentor_kit.teachers.reply import Call, Reply

needs_environment = pytest.mark.skipif(not bfcl.environment_folder().is_dir(),
                                       reason="the checker's environment is not in the cache; the "
                                              "slow tests make it")
SCHEMA = {"type": "function", "function": {"name": "area", "description": "d", "parameters": {
    "type": "object", "properties": {"b": {"type": "number"}}}}}
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How large?"}]
SINGLE = Problem("bfcl/x", "How large?", ("no call",), "bfcl", "live_simple", OWN,
                 {"prompt_messages": ASKED, "tool_schemas": [SCHEMA]})


@pytest.mark.parametrize(("native", "system", "first"), [
    (True, "", "Be brief."), (True, "Think.", "Think.\n\nBe brief."),
    (False, "", "You may call tools.")])
def test_an_item_is_asked_with_its_own_messages_and_tools(native, system, first):
    dialogue = Dialogue(SINGLE, make_environment(SINGLE), native=native, max_turns=5, system=system)
    assert [m["role"] for m in dialogue.messages] == [
        "system",
        "user",
    ] and dialogue.toolbox.schemas == [SCHEMA]
    assert dialogue.messages[0]["content"].startswith(first) and dialogue.messages[1] == ASKED[1]
    text = dialogue.messages[0]["content"]
    assert text.endswith("Be brief.") and CALCULATE not in text and ('"area"' in text) != native


def test_the_first_turn_answers_where_nobody_can_carry_out_the_tools():
    dialogue = Dialogue(SINGLE, make_environment(SINGLE), native=True, max_turns=5)
    assert not dialogue.add(Reply("", calls=(Call("1", "area", {"b": 2}),)))
    trajectory = dialogue.trajectory("teacher:t", 0)
    assert trajectory.turns == (Turn(render_call("area", {"b": 2}), "max_turns"),)
    assert Environment(SINGLE).step(trajectory.turns[0]) is None
    boxed = Trajectory("bfcl/x", (Turn("\\boxed{no call}"),))
    assert reject_reason(boxed, SINGLE) == "no_tool"  # not an unknown toolbox


class Scripted(BaseHTTPRequestHandler):
    """Answers a user's n-th message with `calls[first message][n]`, and what is no user's message
    with a last word."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        data = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m",
                           "choices": [
            {"index": 0, "finish_reason": "stop",
             "message": self.message(body["messages"])}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def message(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        said = [m["content"] for m in messages if m["role"] == "user"
                and "<tool_response>" not in m["content"]]
        spoken = messages[-1]["role"] == "user" and messages[-1]["content"] == said[-1]
        calls = self.server.calls[said[0]][len(said) - 1] if spoken else []
        if not calls:
            return {"role": "assistant", "content": DONE}
        if self.server.text:
            return {"role": "assistant", "content": "\n".join(render_call(*c) for c in calls)}
        return {"role": "assistant", "content": None, "tool_calls": [
            {"id": f"c{i}", "type": "function", "function": {"name": n, "arguments": json.dumps(a)}}
            for i, (n, a) in enumerate(calls)]}

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(
    calls: dict[str, list[list[tuple[str, dict]]]], tools: str
) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """A teacher at a server that makes these calls, and what the server was asked."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    server.calls, server.text, server.asked = calls, tools == "text", []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        options = {"base_url": url, "model": "m", "tools": tools, "key_env": "none", "probe": False}
        yield load_teacher("chat_endpoint", **options), server.asked
    finally:
        server.shutdown()
        server.server_close()


@needs_environment
@pytest.mark.parametrize("tools", ["native", "text"])
def test_an_endpoint_answers_multi_turn_items(tools):
    problems = [load(0, {c: n + 1})[-1] for c,
                n in (("multi_turn_base", 11), ("multi_turn_miss_func", 38))]
    with serving({p.question: gold_turns(p) for p in problems}, tools) as (teacher, asked):
        records = evaluate(teacher, problems, {}, scorer=multi_turn_verdicts)
    assert [r.trajectory.meta["judged_by"] for r in records] == ["bfcl:valid"] * 2
    added = [b for b in asked if any(MORE_TOOLS in str(m["content"]) for m in b["messages"])]
    (first, *_), (new,) = added, next(t["tools"] for t in problems[1].meta["later_turns"]
                                      if t["tools"])
    if tools == "native":
        assert first["tools"][-1] == new and first["messages"][-1]["content"] == MORE_TOOLS
    else:
        assert "tools" not in first and json.dumps(new) in first["messages"][-1]["content"]


@needs_environment
@pytest.mark.parametrize("tools", ["native", "text"])
def test_an_endpoint_answers_single_turn_items(tools):
    stored = (Path(__file__).parents[1] / "data" / "bfcl_answers.jsonl").read_text().splitlines()
    right = {r["entry"]: r["text"] for r in map(json.loads, stored) if r["kind"] == "right"}
    problems = [p for p in load(0, {"simple_python": 20, "parallel": 20})
                if p.meta["entry"] in right][:6]
    problems += load(0, {"irrelevance": 2})
    texts = {p.question: Turn(right.get(p.meta["entry"], "")).calls for p in problems}
    calls = {q: [[(c.name, c.arguments) for c in made]] for q, made in texts.items()}
    with serving(calls, tools) as (teacher, asked):
        records = evaluate(teacher, problems, {}, scorer=bfcl_verdicts)
    assert [r.trajectory.meta["correct"] for r in records] == [True] * 8 and len(asked) == 8
