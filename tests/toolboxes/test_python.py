"""The Python tool: what it computes, and 200 hostile snippets that reach nothing."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostile_python import HOSTILE, REACHED
from killed_sandbox import killed_sandbox

from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.errors import UserError
from mentor_kit.toolboxes import python as tool

ON_X86 = platform.machine() == "x86_64"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs seccomp")


def run(code: str) -> tuple[bool, str]:
    seen = load_toolbox("python").execute("python", {"code": code})
    return seen.ok, seen.content


@pytest.mark.parametrize(("code", "text"), [
    ("2**100", "1267650600228229401496703205376"), ("print('hi')\n1+1", "hi\n2"),
    ("x = 3", "(no output)"),
    ("", "(no output)"), ("import math\nmath.comb(10, 3)", "120"), ("{'b', 'a'}", "{'a', 'b'}"),
    ("from fractions import Fraction as F\nF(1, 3) + F(1, 6)", "Fraction(1, 2)"),
    ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nprint(f(20))", "2432902008176640000"),
    ("import datetime as d\nd.datetime.strptime('2024-03-01', '%Y-%m-%d').weekday()", "4"),
    ("import random; random.random()", "0.8444218515250481"),
    ("import sys; sys.exit(1)", "(no output)"),
    ("'x' * 5000", "'" + "x" * 3999 + " ... (1002 characters more)")])
def test_results(code, text):
    assert run(code) == (True, text) == run(code)


@pytest.mark.parametrize(("code", "reason"), [
    ("1 / 0", "ZeroDivisionError: division by zero (line 1)"),
    ("x = 1\n\ny", "NameError: name 'y' is not defined (line 3)"),
    ("def f(:", "SyntaxError: invalid syntax (line 1)"),
    ("import numpy", "ModuleNotFoundError: No module named 'numpy' (line 1)"),
    ("print('so far')\nassert False", "so far\\nAssertionError:  (line 2)"),
    ("bytearray(2 << 30)", "the code used more than 1 GB of memory."),
    ("import os; os._exit(0)", "the code ended its process."),
    ("#" * 10_001, "code must be a text of at most 10000 characters.")])
def test_errors(code, reason):
    ok, text = run(code)
    assert not ok and reason in text


def test_a_call_knows_nothing_of_the_one_before():
    run("x = 1\nimport math\nmath.pi = 3")
    assert not run("x")[0] and run("import math; math.pi")[1].startswith("3.14")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What the snippets try to reach: a file, a port, a process with a secret in its memory."""
    file = tmp_path_factory.mktemp("outside") / "file"
    file.write_text("untouched")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        yield {"FILE": str(file), "PORT": server.getsockname()[1], "VICTIM": victim.pid}, server
        assert victim.poll() is None
        victim.kill()
        victim.wait()


def check_hostile(name: str, world) -> float:
    """The seconds that it took."""
    names, server = world
    code, limited = HOSTILE[name]
    code = "".join(f"{k} = {v!r}\n" for k, v in names.items()) + code
    pid, started = tool.sandbox().worker.process.pid, time.monotonic()
    ok, text = run(code)
    taken = time.monotonic() - started
    assert REACHED not in text and len(text) < 9000
    assert not limited or not ok
    folder = os.path.dirname(names["FILE"])
    assert os.listdir(folder) == ["file"] and Path(names["FILE"]).read_text() == "untouched"
    with pytest.raises(BlockingIOError):
        server.accept()
    assert tool.sandbox().worker.process.pid == pid  # the same sandbox goes on
    assert run("6 * 7") == (True, "42")
    return taken


@pytest.mark.parametrize("name", [*[n for n, (_, slow) in HOSTILE.items() if not slow][::10],
                                  "bytes", "a loop that cannot be interrupted"])
def test_hostile_snippets_reach_nothing(name, world):
    run("1")
    check_hostile(name, world)


@pytest.mark.slow
def test_all_hostile_snippets(world):
    run("1")
    taken = {name: check_hostile(name, world) for name in HOSTILE}
    assert len(taken) >= (200 if ON_X86 else 130)
    limit = tool.SECONDS * 6 + 30  # the wall, and a busy machine
    assert max(taken.values()) < limit, max(taken, key=taken.get)


def test_a_killed_sandbox_is_named_and_started_again(capfd):
    run("1")
    box = tool.sandbox()
    first = box.worker.process.pid
    os.kill(first, signal.SIGKILL)
    assert run("6 * 7") == (True, "42")  # killed between calls: nobody notices
    second = box.worker.process.pid
    assert second != first
    with killed_sandbox():  # killed during a call
        assert run("7 * 7") == (True, "49")
    assert "The Python sandbox was killed; it is started again" in capfd.readouterr().err
    assert box.worker.process.pid not in (first, second)


@pytest.mark.skipif(not ON_X86, reason="the test takes x86_64 out of the list")
def test_where_there_is_no_filter_the_tool_refuses_to_work(monkeypatch, tmp_path):
    from mentor_kit.core import sandbox

    box = tool.sandbox.__wrapped__()
    monkeypatch.setattr(tool, "sandbox", lambda: box)
    program = tmp_path / "confined.py"
    program.write_text(sandbox.PROGRAM.read_text().replace('"x86_64": (', '"other": ('))
    monkeypatch.setattr(sandbox, "PROGRAM", program)
    with pytest.raises(UserError, match="does not work here .no filter of system calls.*seccomp"):
        run("1")
