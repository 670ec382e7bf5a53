"""Child processes that answer lines: late, killed, interrupted and forked."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest

from mentor_kit.core.processes import LineWorker, NotReady

CHILD = """
import json, os, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "sleep":
        time.sleep(60)
    if request["do"] == "die":
        sys.exit()
    print(json.dumps({"pid": os.getpid(), "cwd": os.getcwd(), "size": len(line)}), flush=True)
"""


def worker(code: str = CHILD) -> LineWorker:
    return LineWorker(lambda folder: ([sys.executable, "-c", code], {}))


def test_one_child_answers_in_its_own_folder_and_takes_both_with_it():
    child = worker()
    first, second = child.ask({"do": "a"}, 60), child.ask({"do": "b" * 200_000}, 60)
    assert first["pid"] == second["pid"] == child.process.pid and second["size"] > 200_000
    assert os.path.realpath(first["cwd"]) == os.path.realpath(child.folder)
    child.stop()
    assert not Path(child.folder).exists()
    assert child.ask({"do": "c"}, 60)["pid"] != first["pid"]
    child.stop()


@pytest.mark.parametrize("stop", [None, signal.SIGSTOP])
def test_a_late_child_is_killed_and_the_next_question_is_answered(stop):
    child = worker()
    pid = child.ask({"do": "a"}, 60)["pid"]
    process = child.process
    if stop:
        os.kill(pid, stop)
    # more than a pipe holds: a child that does not read must not hold us either
    assert child.ask({"do": "sleep", "text": "x" * 300_000}, 0.5) is None
    assert process.poll() == -signal.SIGKILL
    assert child.ask({"do": "a"}, 60)["pid"] != pid
    child.stop()


def test_a_child_that_dies_answers_nothing_and_is_replaced():
    child = worker()
    assert child.ask({"do": "die"}, 60) is None
    assert child.ask({"do": "a"}, 60)["pid"] == child.process.pid
    child.stop()


def test_a_child_that_cannot_start_says_why():
    with pytest.raises(NotReady, match="it ended without a word"):
        worker("pass").ask({}, 1)
    with pytest.raises(NotReady, match="no graders"):
        worker("print('{\"error\": \"no graders\"}')").ask({}, 1)


def _in_child(child, queue):
    queue.put((child.process is None, child.ask({"do": "a"}, 60)["pid"]))
    child.stop()


def test_a_forked_process_starts_its_own_child():
    child = worker()
    pid = child.ask({"do": "a"}, 60)["pid"]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_in_child, args=(child, queue))
    process.start()
    forgot, other = queue.get(timeout=60)
    process.join()
    assert forgot and other != pid and child.ask({"do": "a"}, 60)["pid"] == pid
    child.stop()
