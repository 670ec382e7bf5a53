"""Someone else's trajectories, twenty lines of JSON, are collected and trained on."""

from __future__ import annotations

import json
import sys

import pytest
from killed_sandbox import killed_sandbox
from small_student import new_run

from mentor_kit.collection.collect import collect
from mentor_kit.collection.config import CollectConfig
from mentor_kit.errors import UserError
from mentor_kit.runs.parameters import configure
from mentor_kit.training import stage
from mentor_kit.training.config import TrainConfig

SMALL = {"method": "sft", "steps": 2, "sft_batch": 4, "student_hidden": 32, "student_layers": 1,
         "vocab_size": 400, "validate_every": 0, "save_every": 0, "max_new_tokens": 8}


def sums(number):
    """A line as the OpenAI API writes it: arguments as JSON text, thoughts, parts of content."""
    a, b = number + 2, 3 * number + 1
    call = {"id": "c", "type": "function", "function": {
        "name": "add", "arguments": json.dumps({"a": a, "b": b})}}
    return {"messages": [
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": f"How much is {a} and {b}?"},
        {"role": "assistant", "content": None, "reasoning_content": "A sum.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": f"{a + b}"}]},
        {"role": "assistant", "content": f"Together \\boxed{{{a + b}}}."}], "answer": a + b}


def weather(number):
    """A line of function-calling data: its own tool, the call, no answer."""
    city = f"City {number}"
    return {"query": f"Weather in {city}?", "tools": [
        {"name": "weather", "description": "Now.", "parameters": {"city": {"type": "str"}}}],
        "answers": [{"name": "weather", "arguments": {"city": city}}]}


def collected(folder, rows, *options, **more):
    path = folder / "theirs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = configure(
        CollectConfig, problems="trajectory_file", problem_options=[f"path:{path}"],
        teacher="file", teacher_options=[f"path:{path}", *options],
        split_sizes=["train:16", "validation:4"], **more)
    return collect(config, new_run(folder / "collect", "collect"))


@pytest.mark.parametrize(("row", "options"), [(sums, ()), (weather, ("require:calls",))])
def test_twenty_lines_are_collected_and_trained_on(tmp_path, row, options):
    found = collected(tmp_path, map(row, range(20)), *options)
    assert found.counts() == {"asked/train": 16, "accepted/train": 16, "asked/validation": 4,
                              "accepted/validation": 4}
    config = configure(TrainConfig, **SMALL)
    data = stage.load_training_data(found, config)
    student = stage.make_student(config, data, None)
    run = new_run(tmp_path / "train")
    budget = stage.train(config, student, data, run)
    assert budget["optimizer_steps"] == 2 and budget["teacher_tokens"] > 0
    assert (run.dir / "student" / "model.safetensors").is_file()
    record = data.train[0]
    ids = student.encode(record.problem, record.trajectory)["input_ids"]
    lesson = student.tokenizer.decode(ids)
    assert record.problem.question in lesson and record.trajectory.to_text() in lesson
    assert ("Tools:\nweather(city)" in lesson) == (row is weather)
    assert student.ask(data.validation[0].problem).trajectory.turns


@pytest.mark.skipif(sys.platform != "linux", reason="needs seccomp")
def test_a_collection_whose_python_sandbox_is_killed_loses_nothing(tmp_path, capfd):
    def computed(number):
        call = {"id": "c", "type": "function", "function": {
            "name": "python", "arguments": json.dumps({"code": f"{number} + 1"})}}
        return {"messages": [
            {"role": "user", "content": f"What follows {number}?"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": f"{number + 1}"},
            {"role": "assistant", "content": f"\\boxed{{{number + 1}}}"}], "answer": number + 1}

    with killed_sandbox():
        found = collected(tmp_path, map(computed, range(20)), toolbox="python")
    assert found.counts()["accepted/train"] == 16
    assert "The Python sandbox was killed; it is started again" in capfd.readouterr().err


def test_rl_needs_tools_that_can_be_carried_out(tmp_path):
    found = collected(tmp_path, map(weather, range(20)), "require:calls")
    with pytest.raises(UserError, match="method='mentor' carries out calls, and these problems"):
        stage.load_training_data(found, configure(TrainConfig, method="mentor"))
