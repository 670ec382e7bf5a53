"""Every row of the field cases on answers and calls, where the cases lie beside the checkout.

What public bug reports showed, tried on the product; a row's `basis` says what the right value
rests on. Judge rows whose truth is mathematics are asked of the strict judge: the released one is
wrong there, and stays so.
"""

from __future__ import annotations

import base64
import json
import re

import pytest
from field_cases import read_cases

from mentor_kit.cli.score import score_file
from mentor_kit.core.toolbox import NOT_AN_OBJECT, Toolbox, load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.judging.judge import final_answer, judge
from mentor_kit.rewards import load_reward

ROWS = read_cases("answers-and-calls")
# TRL's texts for arguments that are not objects name the internals of its call: training and
# evaluation both say ours (`test_calls` compares them)
OURS = dict.fromkeys(("call-args_empty_string", "call-args_number"),
                     ["{'error': 'add: arguments must be an object.'}"])


def rows(*kinds: str) -> pytest.MarkDecorator:
    found = [pytest.param(row, id=name) for name, row in ROWS.items() if name.startswith(kinds)]
    return pytest.mark.parametrize("row", found)


def today() -> str:
    """The date."""
    return "2026-11-25"


def greet(who: str = "you") -> str:
    """Say hi."""
    return f"hi {who}"


NO_ARGUMENTS = Toolbox("greetings", [today, greet])


@rows("judge-dev", "judge-ok")
def test_the_released_judge(row):
    assert judge(row["input"]["prediction"], row["input"]["golds"]).correct == row["expected"]


@rows("judge-ok", "judge-fp", "judge-fn")
def test_the_strict_judge(row):
    verdict = judge(row["input"]["prediction"], row["input"]["golds"], "strict")
    assert verdict.correct == row["expected"]


def executed(text: str, box: Toolbox) -> list[str]:
    """The results of a turn's calls, equal in evaluation and in TRL's loop."""
    calls = Turn(text).runnable_calls
    found = [box.execute(c.name, c.arguments).content for c in calls]
    functions = {f.__name__: f for f in box.as_functions()}
    for call, content in zip(calls, found, strict=True):
        arguments = call.arguments or {} if isinstance(call.arguments, dict | None) else {
            NOT_AN_OBJECT: call.arguments}
        try:
            told = functions[call.name](**arguments)
        except KeyError:
            continue  # TRL says itself that there is no such tool
        except Exception as error:  # noqa: BLE001 - as TRL does
            told = str({"error": str(error)})
        assert told == content
    return found


@rows("call-")
def test_calls(row):
    text = row["input"]["text"]
    if row["id"] == "call-think-reward":
        return _think_reward(row)
    if row["id"] == "call-deep":
        text = '<tool_call>\n{"name": "add", "arguments": ' + "[" * 1000 + "\n</tool_call>"
    if row["id"].startswith("call-huge_int"):
        digits = "9" * (5000 if "characters" in text else 40)
        call = f'{{"name": "add", "arguments": {{"a": {digits}, "b": 2}}}}'
        text = f"<tool_call>\n{call}\n</tool_call>"
    box = NO_ARGUMENTS if "noarg" in row["id"] else load_toolbox("arithmetic")
    expected = OURS.get(row["id"], row["expected"])
    assert executed(text, box) == ([] if row["id"] == "call-deep" else expected)


def _think_reward(row):
    text = row["input"]["text"]
    results = {c.name: c.observation and c.observation.content
               for c in Trajectory.from_text(text).calls}
    scores = {p: scored(p, text, row["input"]) for p in ("executed", "mentor_fixed")}
    assert {"add": None, **results, **scores} == pytest.approx(row["expected"])


def scored(preset: str, response: str, row: dict) -> float:
    from mentor_kit.cli.score import row_to_record

    record = row_to_record({**row, "response": response}, 1)
    return load_reward(preset)(record.problem, record.reference, record.trajectory).total


@rows("preset-")
def test_presets(row):
    scores = {p: scored(p, row["input"]["response"], row["input"]) for p in row["expected"]}
    assert scores == pytest.approx(row["expected"], abs=1e-12)


@rows("tool-")
def test_tools(row):
    seen = load_toolbox("arithmetic").execute(row["input"]["tool"], row["input"]["arguments"])
    if row["expected"] == "error":
        assert not seen.ok
    else:
        assert seen.content in row["expected"].split(" or ")


@rows("msg-")
def test_messages(row):
    trajectory = Trajectory.from_messages(row["input"]["messages"])
    found = {"msg-args-text": trajectory.calls[0].arguments,
             "msg-tool-parts": trajectory.calls[0].observation.content,
             "msg-forged-turn": final_answer(trajectory)}
    assert found[row["id"]] == row["expected"]


# what the messages of unclear rows must say now
SAYS = {"score-json_array": "holds a JSON list; JSON lines hold one object a line",
        "score-mixed_nl": r"\d+ of 10 responses do not end with .* a line break or space follows"}


@rows("score-")
def test_score_files(row, tmp_path):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(base64.b64decode(row["input"]["bytes_base64"]))
    try:
        said = str(score_file("mentor", source, out))
    except UserError as error:
        said = str(error)
    lines = out.read_bytes().splitlines() if out.exists() else None
    scores = None if lines is None else [json.loads(line)["score"] for line in lines]
    if row["id"] in SAYS:
        assert re.search(SAYS[row["id"]], said)
    elif isinstance(row["expected"], str):  # "1.1 (the released code's score)"
        assert scores == [pytest.approx(float(row["expected"].split()[0]))]
    elif row["expected"]["rc"]:
        assert scores is None
    else:
        n, told = re.fullmatch(r"(\d+) lines, scores (\[.*\])", row["expected"]["out"]).groups()
        assert len(scores) == int(n) and scores == pytest.approx(json.loads(told), abs=1e-12)
