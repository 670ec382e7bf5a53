"""`score_file`: the JSONL contract, bad lines, stored trajectories."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from mentor_kit.cli.score import score_file
from mentor_kit.core.records import load_records, save_records
from mentor_kit.errors import UserError
from mentor_kit.rewards import load_reward
from mentor_kit.rewards.behaviours import behaviours

CASES = Path(__file__).parents[1] / "data/reward_parity.jsonl"
GOOD = {
    "response": '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>\\boxed{3}<|im_end|>',  # noqa: E501
    "ground_truth": "3",
    "teacher_tools": ["add"],
}


def write(path: Path, *rows: dict | str) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows),
                    encoding="utf-8")
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("preset", "key"),
                         [("mentor", "mentor"), ("set_f1", "ablation4"), ("sparse", "sparse")])
def test_the_shared_cases(tmp_path, preset, key):
    summary = score_file(preset, CASES, tmp_path / "out.jsonl")
    rows, cases = read(tmp_path / "out.jsonl"), read(CASES)
    assert [r["score"] for r in rows] == pytest.approx([c["scores"][key] for c in cases], abs=1e-6)
    for row, case in zip(rows, cases, strict=True):
        assert sum(row.pop("terms").values()) == pytest.approx(row.pop("score"))
        assert row == case  # every field passes through
    assert (summary.scored, summary.bad, summary.bad_out) == (160, 0, None)
    assert summary.mean == pytest.approx(sum(c["scores"][key] for c in cases) / 160, abs=1e-6)
    assert sum(summary.judged_by.values()) == 160
    assert "160 rollouts scored" in str(summary)


def test_same_input_same_bytes(tmp_path):
    for name in ("a", "b"):
        score_file("mentor", CASES, tmp_path / f"{name}.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".tmp"] == []


def test_tools_toolbox_and_eos(tmp_path):
    call = GOOD["response"].replace("add", "look_up")
    rows = [GOOD | {"response": call},
            GOOD | {"response": call, "tools": ["look_up"], "teacher_tools": ["look_up"]},
            GOOD | {"response": GOOD["response"].replace("<|im_end|>", "</s>")}]
    score_file("mentor", write(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl")
    assert [r["score"] for r in read(tmp_path / "out.jsonl")] == pytest.approx([0.7, 1.1, 0.0])
    score_file("mentor", write(tmp_path / "in.jsonl", rows[2]), tmp_path / "out.jsonl", eos="</s>")
    assert read(tmp_path / "out.jsonl")[0]["score"] == pytest.approx(1.1)
    score_file("mentor", tmp_path / "in.jsonl", tmp_path / "out.jsonl", toolbox="arithmetic",
               eos="</s>")
    assert read(tmp_path / "out.jsonl")[0]["score"] == pytest.approx(1.1)


BAD = [("{\"response\": \"x\"", "not valid JSON"), ("[1]", "it holds a JSON list"),
       ("5", "it holds 5, not an object"), ("[", "JSON over several lines"),
       ({k: v for k, v in GOOD.items() if k != "ground_truth"}, "'ground_truth' is missing"),
       ({k: v for k, v in GOOD.items() if k != "teacher_tools"}, "'teacher_tools' is missing"),
       (GOOD | {"response": None}, "response is null"), (GOOD | {"response": ["x"]}, "response is"),
       (GOOD | {"ground_truth": 3},
        "ground_truth is 3, it must be a text or a list of texts"),
       (GOOD | {"ground_truth": []}, "ground_truth is empty"),
       (GOOD | {"ground_truth": " "}, "ground_truth is empty"),
       (GOOD | {"teacher_tools": "add"}, 'teacher_tools is "add"'),
       (GOOD | {"teacher_tools": [1]}, "list of tool names"),
       (GOOD | {"tools": {}}, "tools is {}"),
       (json.dumps(GOOD)[:-1] + ", \"x\": NaN}", "NaN is not JSON"),
       (json.dumps(GOOD)[:-1] + ", \"x\": 1e999}", "JSON"),
       ("[" * 100_000, "nested too deeply")]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_bad_line_stops_it_before_anything_is_written(tmp_path, line, reason):
    source = write(tmp_path / "in.jsonl", GOOD, "", line, GOOD)
    with pytest.raises(UserError, match=f"line 3: .*{reason}"):
        score_file("mentor", source, tmp_path / "new" / "out.jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_skip_bad_keeps_them_aside(tmp_path, line, reason):
    summary = score_file("mentor", write(tmp_path / "in.jsonl", GOOD, line, GOOD),
                         tmp_path / "out.jsonl", skip_bad=True)
    assert (summary.scored, summary.bad, summary.bad_out) == (2, 1, tmp_path / "out.bad.jsonl")
    assert len(read(tmp_path / "out.jsonl")) == 2
    (row,) = read(tmp_path / "out.bad.jsonl")
    assert row["line"] == 2
    assert reason in row["reason"]
    score_file("mentor", write(tmp_path / "in.jsonl", GOOD), tmp_path / "out.jsonl", skip_bad=True)
    assert not (tmp_path / "out.bad.jsonl").exists()


def test_bytes_that_are_not_text(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\xef\xbb\xbf"
                       + json.dumps(GOOD | {"note": "é"}, ensure_ascii=False).encode()
                       + b"\r\n\xff\xfe\n")
    with pytest.raises(UserError, match="line 2: not UTF-8"):
        score_file("mentor", source, tmp_path / "out.jsonl")
    score_file("mentor", source, tmp_path / "out.jsonl", skip_bad=True)
    assert read(tmp_path / "out.jsonl")[0]["note"] == "é"


def test_awkward_texts_pass_through(tmp_path):
    rows = [GOOD | {"note": "\ud800"}, GOOD | {"note": "\u2028 \x85 ٣"}, GOOD | {"response": ""},
            GOOD | {"response": "\\boxed{\ud800}<|im_end|>"}, GOOD | {"teacher_tools": None}]
    score_file("mentor", write(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl")
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert [r["score"] for r in out] == pytest.approx([1.1, 1.1, 0.0, 0.1, 0.1])
    assert [r.get("note") for r in out[:2]] == ["\ud800", "\u2028 \x85 ٣"]


def test_the_bad_lines_of_another_scoring_are_not_lost(tmp_path):
    source = write(tmp_path / "out.bad.jsonl", GOOD)
    with pytest.raises(UserError, match="would overwrite the input"):
        score_file("mentor", source, tmp_path / "out.jsonl")
    assert source.is_file()


def test_responses_that_all_lack_the_end_token_are_noted(tmp_path):
    other = GOOD | {"response": GOOD["response"].replace("<|im_end|>", "</s>")}
    summary = score_file("mentor", write(tmp_path / "in.jsonl", other, other),
                         tmp_path / "out.jsonl")
    note = r"note: . of . responses do not end with the end token '<\|im_end\|>' and .* by --eos"
    assert summary.mean == 0 and re.search(f"\n{note}", str(summary))
    assert score_file("mentor", tmp_path / "in.jsonl", tmp_path / "out.jsonl",
                      eos="</s>").note == ""
    summary = score_file("mentor", write(tmp_path / "in.jsonl", other, GOOD),
                         tmp_path / "out.jsonl")
    assert summary.note == ("1 of 2 responses do not end with the end token '<|im_end|>' and count "
                            "as cut off")


def test_end_tokens_with_a_line_break_behind_them_are_noted(tmp_path):
    followed = GOOD | {"response": GOOD["response"] + "\n"}
    source = write(tmp_path / "in.jsonl", GOOD, followed, followed)
    note = score_file("mentor", source, tmp_path / "out.jsonl").note
    assert note.startswith("2 of 3 responses do not end with")
    assert note.endswith("in 2 of them a line break or space follows it: strip that")


@pytest.mark.parametrize(("start", "reason"), [
    (gzip.compress(b"{}"), "packed by gzip"), ("{}".encode("utf-16"), "UTF-16"),
    (b"PK\x03\x04", "a zip archive"), (b"PAR1", "Parquet")])
def test_files_of_another_kind_are_named(tmp_path, start, reason):
    (tmp_path / "in.jsonl").write_bytes(start)
    with pytest.raises(UserError, match=f"is {reason}, not JSON lines in UTF-8: "):
        score_file("mentor", tmp_path / "in.jsonl", tmp_path / "out.jsonl", skip_bad=True)


def test_an_earlier_score_is_replaced(tmp_path):
    score_file("sparse", write(tmp_path / "in.jsonl", GOOD), tmp_path / "one.jsonl")
    score_file("mentor", tmp_path / "one.jsonl", tmp_path / "two.jsonl")
    score_file("mentor", tmp_path / "in.jsonl", tmp_path / "direct.jsonl")
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "direct.jsonl").read_bytes()


def broken(problem, reference, student):
    return student.no_such_thing


def test_a_reward_that_raises_is_one_line_with_the_lines_number(tmp_path):
    source = write(tmp_path / "in.jsonl", "", GOOD)
    place = f"test_score.py, line {broken.__code__.co_firstlineno + 1}"
    with pytest.raises(UserError) as error:
        score_file(load_reward(broken), source, tmp_path / "out.jsonl", skip_bad=True)
    assert str(error.value) == (
        f"{source}, line 2: Reward function {__name__}:broken raised AttributeError: 'Trajectory' "
        f"object has no attribute 'no_such_thing' ({place}) for problem 'line/2'.")
    save_records(tmp_path / "in.parquet", [behaviours()[0][1]])
    with pytest.raises(UserError, match=r"in.parquet, row 1: .*raised AttributeError"):
        score_file(load_reward(broken), tmp_path / "in.parquet", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_an_empty_file_scores_nothing(tmp_path):
    summary = score_file("mentor", write(tmp_path / "in.jsonl"), tmp_path / "out.jsonl")
    assert (summary.scored, summary.mean) == (0, None)
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_stored_trajectories_are_scored_without_a_model(tmp_path):
    records = [r for _, r in behaviours()]
    stored = save_records(tmp_path / "in.parquet", records)
    score_file("mentor", stored, tmp_path / "out.parquet")
    reward = load_reward("mentor")
    expected = [reward(r.problem, r.reference, r.trajectory) for r in records]
    again = load_records(tmp_path / "out.parquet")
    assert [r.trajectory.meta["score"] for r in again] == pytest.approx([s.total for s in expected])
    assert [r.trajectory.meta["terms"] for r in again] == [dict(s.terms) for s in expected]
    assert [r.trajectory.to_text() for r in again] == [r.trajectory.to_text() for r in records]

    score_file("sparse", tmp_path / "out.parquet", tmp_path / "out.jsonl", toolbox="arithmetic")
    # its own output is valid input
    summary = score_file("mentor", tmp_path / "out.jsonl", tmp_path / "again.jsonl")
    assert [r["score"] for r in read(tmp_path / "again.jsonl")] == pytest.approx(
        [s.total for s in expected]
    )
    assert summary.scored == len(records)


def test_arguments_are_checked(tmp_path):
    source = write(tmp_path / "in.jsonl", GOOD)
    out = tmp_path / "o.jsonl"
    for arguments, reason in [(("mentr", source, out), "did you mean 'mentor'"),
                              (("fewer_calls", source, out),
                               "'package.module:name' for a function of yours, looked for"),
                              (("mentor", tmp_path / "none.jsonl", out), "No input file"),
                              (("mentor", source, source), "would overwrite the input"),
                              (("mentor", source, tmp_path / "x" / ".." / "in.jsonl"),
                               "would overwrite the input"),
                              (("mentor", source, tmp_path / "o.csv"),
                               "is neither .jsonl nor .parquet"),
                              (("mentor", source, tmp_path / "o.parquet"), "cannot be Parquet"),
                              (("mentor", source, tmp_path), "is a folder"),
                              (("mentor", source, out, "no_toolbox"), "Unknown toolbox"),
                              (("mentor", source, out, None, ""), "end token is empty")]:
        with pytest.raises(UserError, match=reason):
            score_file(*arguments)
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]
