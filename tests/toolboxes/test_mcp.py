"""A toolbox that is an MCP server: a real one in a process of its own, slow, killed and changed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mentor_kit.core.toolbox import Toolbox, load_toolbox
from mentor_kit.errors import UserError
from mentor_kit.toolboxes import mcp
from mentor_kit.toolboxes.mcp import VARIABLE

pytest.importorskip("mcp")
FILE = Path(__file__).parents[1] / "helpers/mcp_server.py"
SPEC = f"mcp:{sys.executable} {FILE}"


@pytest.fixture(scope="module")
def box() -> Toolbox:
    return load_toolbox(SPEC)


def run(box: Toolbox, name: str, **arguments) -> str:
    seen = box.execute(name, arguments)
    assert seen.ok, seen
    return seen.content


def error(box: Toolbox, name: str, **arguments) -> str:
    seen = box.execute(name, arguments)
    assert not seen.ok, seen
    return seen.content


def test_the_servers_schemas_are_ours(box):
    assert box is load_toolbox(SPEC) and box.name == SPEC and box.waits
    assert box.names == ("add", "ship", "fail", "sleep", "die", "process")
    schema = box.tools["add"].schema["function"]
    assert schema["name"] == "add" and schema["description"] == "Add two numbers."
    assert schema["parameters"]["required"] == ["a", "b"]
    assert list(box.tools["ship"].parameters) == ["place", "how", "note"]
    function = box.as_functions()[0]
    assert isinstance(function, dict) and function(a=1, b=2) == "3.0"
    assert "Add two numbers" in box._repr_html_()


@pytest.mark.parametrize(("name", "arguments", "content"), [
    ("add", {"a": 1, "b": 2}, "3.0"), ("ship", {"place": {"city": "Rome"}}, "Rome [] sea None"),
    ("ship", {"place": {"city": "Rom", "tags": ["x"]}, "how": "air", "note": "n"},
     "Rom ['x'] air n")])
def test_calls(box, name, arguments, content):
    assert run(box, name, **arguments) == content


@pytest.mark.parametrize(("name", "arguments", "reason"), [
    ("add", {"a": 1}, "add: 'b' is a required property."),
    ("add", {"a": "x", "b": 1}, "add.a: 'x' is not of type 'number'."),
    ("ship", {"place": {"city": "R", "tags": 3}}, "ship.place.tags: 3 is not of type 'array'"),
    ("ship", {"place": {"city": "R"}, "how": "car"}, "ship.how: 'car' is not one of"),
    ("ship", {"place": {"city": "x" * 30_000}}, "ship has more than 20000 characters"),
    ("fail", {"reason": "because"}, "fail"), ("no", {}, "Tool no not found.")])
def test_what_does_not_fit_or_fails_is_an_observation(box, name, arguments, reason):
    assert reason in error(box, name, **arguments)
    assert "arguments must be an object" in box.execute("add", [1, 2]).content


def test_a_late_call_is_an_observation_and_the_server_goes_on(box, monkeypatch):
    pid = run(box, "process")
    monkeypatch.setenv(VARIABLE, "0.5")
    assert "sleep: no answer within 0.5 seconds." in error(box, "sleep", seconds=2)
    monkeypatch.undo()
    assert run(box, "process") == pid


def test_a_server_that_answers_nothing_is_replaced(box, monkeypatch, capfd):
    pid = int(run(box, "process"))
    monkeypatch.setenv(VARIABLE, "0.5")
    monkeypatch.setattr(mcp, "ALIVE_SECONDS", 0.5)
    os.kill(pid, signal.SIGSTOP)
    assert "no answer within 0.5 seconds" in error(box, "add", a=1, b=1)
    monkeypatch.undo()
    assert int(run(box, "process")) != pid
    assert "does not answer and is started again" in capfd.readouterr().err


def test_a_killed_server_is_named_and_started_again(box, capfd):
    pid = int(run(box, "process"))
    os.kill(pid, signal.SIGKILL)
    found = []
    threads = [threading.Thread(target=lambda i=i: found.append(run(box, "add", a=i, b=0)))
               for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["0.0", "1.0", "2.0", "3.0"] and int(run(box, "process")) != pid
    assert capfd.readouterr().err.count(f"{FILE}' was lost; it is started again.") == 1


def test_a_call_that_ends_the_server_is_made_again_once(box, tmp_path):
    assert run(box, "die", once=str(tmp_path / "died")) == "alive"
    assert "die: the server ended during the call." in error(box, "die")
    assert run(box, "add", a=2, b=2) == "4.0"


def test_a_forked_process_has_a_server_of_its_own(box):
    ours, (reader, writer) = run(box, "process"), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, run(box, "process").encode())
        finally:
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 100).decode() not in ("", ours)
    os.waitpid(child, 0)
    assert run(box, "process") == ours


@pytest.mark.parametrize(("spec", "reason"), [
    ("mcp:", "names no server"), ("mcp:no-such-command x", "cannot be reached .*no-such-command"),
    (f"mcp:{sys.executable} -c 'import no_such_module'", "No module named 'no_such_module'"),
    ("mcp:http://127.0.0.1:9/mcp", "'http://127.0.0.1:9/mcp' cannot be reached")])
def test_a_server_that_cannot_be_had_is_a_user_error(spec, reason):
    with pytest.raises(UserError, match=reason):
        load_toolbox(spec)


def test_a_server_that_returns_with_other_tools_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(mcp, "RETURN_SECONDS", 0)
    box = load_toolbox(f"{SPEC} {tmp_path / 'x.more'}")
    (tmp_path / "x.more").touch()
    os.kill(int(run(box, "process")), signal.SIGKILL)
    with pytest.raises(UserError, match="it has other tools than before"):
        box.execute("process", {})


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(mcp, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'mentor-kit\[mcp\]'"):
        mcp.connect("x")


def serve(port: int) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, str(FILE), "http", str(port)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except OSError:
            assert process.poll() is None
            time.sleep(0.1)


def test_a_server_at_an_address_is_reached_and_reached_again(capfd):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = serve(port)
    try:
        box = load_toolbox(f"mcp:http://127.0.0.1:{port}/mcp")
        assert run(box, "add", a=1, b=2) == "3.0"
        process.kill()
        process.wait()
        process = serve(port)
        assert run(box, "add", a=1, b=2) == "3.0"
        assert run(box, "process") == str(process.pid)
    finally:
        process.kill()
        process.wait()
