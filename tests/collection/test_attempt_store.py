"""The append-only store: kills at any byte and at any moment, two collectors, other settings."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import fault_server
import pytest
from fault_server import running

from mentor_kit.collection.attempt_store import ATTEMPTS, AttemptStore
from mentor_kit.core.records import Record
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError

PROBLEMS = fault_server.load(0, {"train": 4})
COLLECTOR = Path(__file__).parents[1] / "helpers" / "collector.py"


def record(number: int, sample: int = 0, text: str = "hé \\boxed{1}") -> Record:
    problem = PROBLEMS[number]
    facts = {"accepted": True, "reason": "accepted"}
    return Record(problem, Trajectory(problem.id, (Turn(text),), "teacher:t", sample, facts))


def filled(path: Path, n: int = 3) -> Path:
    with AttemptStore(path, {"model": "m"}) as store:
        for number in range(n):
            store.add(record(number), False, {"replies": [number]})
    return path


def test_what_was_added_is_there_again_without_its_log(tmp_path):
    path = filled(tmp_path / ATTEMPTS)
    with AttemptStore(path, {"model": "m"}) as store:
        assert [store.done(p, 0) for p in PROBLEMS] == [True, True, True, False]
        assert store.record(PROBLEMS[1], 0) == record(1)
        assert not store.done(PROBLEMS[0], 1)
        # the problem was changed under its id
        assert not store.done(replace(PROBLEMS[0], answers=("other",)), 0)


def test_a_kill_at_any_byte_costs_at_most_the_attempt_being_written(tmp_path):
    whole = filled(tmp_path / "whole.jsonl").read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    path = tmp_path / ATTEMPTS
    for size in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:size])
        with AttemptStore(path, {"model": "m"}) as store:
            kept = sum(end <= size for end in ends)
            assert len(store.rows) == max(kept - 1, 0)  # one line is the header
            for number in range(3):
                if not store.done(PROBLEMS[number], 0):
                    store.add(record(number), False, {"replies": [number]})
        assert path.read_bytes() == whole


def test_failed_attempts_are_made_again_and_the_last_line_counts(tmp_path):
    with AttemptStore(tmp_path / ATTEMPTS, {}) as store:
        store.add(record(0, text="gone"), True, {})
        assert not store.done(PROBLEMS[0], 0)
        store.add(record(0, text="there"), False, {})
    with AttemptStore(tmp_path / ATTEMPTS, {}) as store:
        assert (
            store.done(PROBLEMS[0], 0)
            and store.record(PROBLEMS[0], 0).trajectory.turns[0].text == "there"
        )


def test_attempts_of_earlier_versions_are_read_with_todays_names(tmp_path):
    path = filled(tmp_path / ATTEMPTS, 0)
    call = '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call><|im_end|>'
    with AttemptStore(path, {"model": "m"}) as store:
        store.add(record(0), False, {})
    old = {**json.loads(path.read_text().splitlines()[1]), "response": call, "finish": "tool_cap",
           "meta": {"accepted": False, "reason": "turn_limit"}}
    path.write_text(path.read_text().splitlines()[0] + "\n" + json.dumps(old) + "\n")
    with AttemptStore(path, {"model": "m"}) as store:
        read = store.record(PROBLEMS[0], 0).trajectory
    assert read.finish == "max_turns" and read.meta == {"accepted": False, "reason": "max_turns"}


def test_a_line_damaged_by_the_disk_is_left_out(tmp_path):
    path = filled(tmp_path / ATTEMPTS)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[1].replace(b'"response"', b'"res'), *lines[2:]]))
    with AttemptStore(path, {"model": "m"}) as store:
        assert store.damaged == 1 and len(store.rows) == 2


@pytest.mark.parametrize("room", [0, 9])
def test_a_full_disk_is_told_in_one_line_and_loses_nothing(tmp_path, room):
    path, limits = filled(tmp_path / ATTEMPTS), resource.getrlimit(resource.RLIMIT_FSIZE)
    before = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limits[1]))
    try:
        with (AttemptStore(path, {"model": "m"}) as store,
              pytest.raises(UserError, match="cannot grow .*is the disk full")):
            store.add(record(0), False, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with AttemptStore(path, {"model": "m"}):
        assert path.read_bytes() == before


def test_two_collectors_refuse_each_other_and_other_settings_are_named(tmp_path):
    path = filled(tmp_path / ATTEMPTS)
    before = path.read_bytes()
    with AttemptStore(path, {"model": "m"}), pytest.raises(UserError,
                                                           match="Another collector is writing"):
        AttemptStore(path, {"model": "m"})
    with pytest.raises(UserError, match="made with another model, seed: collect into another "
                                        "run_dir"):
        AttemptStore(path, {"model": "other", "seed": 1})
    assert path.read_bytes() == before


def collector(folder: Path, url: str, problems: int) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(COLLECTOR), str(folder), url, str(problems)],
                            stderr=subprocess.PIPE,
                            text=True, env={**os.environ, "MENTOR_KIT_QUIET": "1"})


def test_two_collector_processes(tmp_path):
    with running(latency=0.3) as url:
        first = collector(tmp_path, url, 30)
        while not (tmp_path / ATTEMPTS).is_file():
            assert first.poll() is None
            time.sleep(0.02)
        second = collector(tmp_path, url, 30)
        message = second.communicate(timeout=60)[1]
        assert second.returncode == 1 and message.startswith("error: Another collector is writing")
        assert first.wait(timeout=60) == 0
        first.stderr.close()


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


@pytest.mark.parametrize(("kills", "problems"),
                         [(4, 60), pytest.param(20, 300, marks=pytest.mark.slow)])
def test_kills_lose_and_double_nothing(tmp_path, kills, problems):
    """kill -9 at moments drawn uniformly over the attempts of a collection, restarted each time."""
    random, store, undone = Random(5), tmp_path / "killed" / ATTEMPTS, 0
    with running(latency=0.05) as url:
        assert collector(tmp_path / "whole", url, problems).wait(timeout=120) == 0
        for target in sorted(random.uniform(0, problems) for _ in range(kills)):
            process = collector(tmp_path / "killed", url, problems)
            while process.poll() is None and lines(store) < target:
                time.sleep(0.002)
            time.sleep(random.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stderr.close()
            undone += lines(store) <= problems  # one line is the header
        assert undone >= kills - 1  # the last may have come too late
        assert collector(tmp_path / "killed", url, problems).wait(timeout=120) == 0
    results = [tmp_path / name / "trajectories.parquet" for name in ("whole", "killed")]
    assert results[0].read_bytes() == results[1].read_bytes()
    text = (tmp_path / "killed" / ATTEMPTS).read_text()
    keys = [(row["problem_id"], row["sample"]) for row in map(json.loads, text.splitlines()[1:])]
    assert text.endswith("\n") and len(keys) == len(set(keys)) == problems
