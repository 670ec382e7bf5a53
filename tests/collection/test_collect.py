"""Collection: everything asked is stored with its outcome; configurations refuse what cannot be."""

from __future__ import annotations

import json
import sys

import pytest
import yaml
from fault_server import running
from project_commands import collect_command
from small_student import by_heart, new_run, steady_seed

from mentor_kit.collection.collect import CollectionPlan, as_record, collect, plan_collection
from mentor_kit.collection.collection import as_references, load_collection
from mentor_kit.collection.config import CollectConfig
from mentor_kit.collection.selection import select
from mentor_kit.core.chat_markup import render_call, render_environment
from mentor_kit.core.problem import Problem
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.evaluation.config import EvaluateConfig
from mentor_kit.runs.open import load_run
from mentor_kit.runs.parameters import configure, parse_options
from mentor_kit.students import rollout
from mentor_kit.teachers.attempt import Attempt, reject_reason
from mentor_kit.training.config import TrainConfig

SIZES = ["train:30", "validation:5", "in_domain:5", "teacher_rejected:3"]


def test_collect_stores_every_attempt(tmp_path):
    config, run = configure(CollectConfig, split_sizes=SIZES), new_run(tmp_path / "a", "collect")
    collection = collect(config, run)
    assert (
        collection.counts()["asked/train"] == 30
        and collection.counts()["accepted/teacher_rejected"] == 0
    )
    assert load_collection(run) == collection
    assert {r.trajectory.meta["reason"] for r in collection.split("teacher_rejected")} - {
        "accepted"
    }
    assert set(as_references(collection.records)) == {r.problem.id for r in collection.accepted()}
    again = new_run(tmp_path / "b", "collect")
    collect(config, again)
    assert (
        run.path("trajectories.parquet").read_bytes()
        == again.path("trajectories.parquet").read_bytes()
    )


def test_own_source_and_toolbox(tmp_path, monkeypatch):
    (tmp_path / "my_module.py").write_text(
        "from mentor_kit.core.problem import Problem\nfrom mentor_kit.core.toolbox import Toolbox\n"
        "def double(x: float) -> float:\n    'Twice x.'\n    return 2 * x\nBOX = Toolbox('mine', "
        "[double])\ndef load(seed, sizes):\n    return [Problem(f'{s}/{i}', f'In {s}, what is "
        "twice {i}?', [str(2 * i)], 'mine', s, meta={'program': [{'tool': 'double', 'arguments': "
        "{'x': i}}]}) for s, n in sizes.items() for i in range(n)]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = configure(CollectConfig, problems="my_module:load", toolbox="my_module:BOX",
                       split_sizes=["train:4"])
    collection = collect(config, new_run(tmp_path / "run", "collect"))
    assert len(collection.accepted("train")) == 4 and collection.accepted()[
        1
    ].trajectory.tool_names == ("double",)
    sys.modules.pop("my_module")


@pytest.mark.parametrize(("parameters", "match"), [
    ({"problems": "nowhere"}, "Unknown problem source 'nowhere'"),
    ({"teacher": "nobody"}, "nobody"), ({"split_sizes": ["train"]}, "not of the form name:value"),
    ({"problem_options": ["nonsense:1"]}, "nonsense"),
    ({"split_sizes": ["train:0"]}, "There is no problem to ask"),
    ({"toolbox": "no_such:BOX"}, "cannot be imported"),
    ({"problems": "registry", "toolbox": "search"}, "has none of the tools .* call .boss, ")])
def test_bad_parameters_are_one_clear_line(parameters, match):
    with pytest.raises(UserError, match=match) as error:
        configure(CollectConfig,
                  **{"split_sizes": ["train:3"], "problem_options": [], **parameters})
    assert "\n" not in str(error.value)


ATTEMPTS = {  # problem -> its samples: (tools, words, outcome); which one each policy takes
    "a": ([("add add sqrt", "x", "accepted"), ("add", "much more text", "accepted"),
           ("add", "x", "wrong_answer"),
           ("sqrt add", "x", "accepted"), ("add sqrt", "xx", "accepted")],
          {"first": 0, "shortest": 1, "most_typical": 3}),
    "b": ([("add", "x", "no_answer"), ("sqrt", "x", "accepted"), ("add", "x", "accepted")],
          {"first": 1, "shortest": 2, "most_typical": 2})}


class ScriptedTeacher:
    """Plays ATTEMPTS, or all of one outcome, in batches."""

    name, batch_size = "scripted", 2

    def __init__(self, outcome: str = "") -> None:
        self.outcome, self.asked = outcome, 0

    def solve_batch(self, tasks):
        self.asked += len(tasks)
        return [self.solve(*task) for task in tasks]

    def solve(self, problem, sample):
        tools, words, outcome = ATTEMPTS[problem.id][0][sample]
        outcome = self.outcome or outcome
        if outcome == "silent":
            return Attempt(None, False, outcome, failed=True)
        text = words + "".join(render_call(t, {"a": 1}) for t in tools.split())
        made = Trajectory(problem.id, (Turn(text),), "teacher:scripted", sample)
        return Attempt(made, outcome == "accepted", outcome)


def scripted(seed, sizes):
    return [Problem(name, f"What is {name}?", ["1"], "scripted", "train") for name in ATTEMPTS]


@pytest.mark.parametrize("policy", ["first", "shortest", "most_typical"])
def test_selection_policies(tmp_path, policy):
    """`a` has three attempts with {add, sqrt}, one shorter with {add}; `b` a tie of two sets,
    resolved by length."""
    config = configure(CollectConfig, problems=f"{__name__}:scripted", samples=3, selection=policy,
                       teacher=f"{__name__}:ScriptedTeacher", split_sizes=["train:2"])
    records = [as_record(p, i, ScriptedTeacher().solve(p, i), "scripted") for p in scripted(0, {})
               for i in range(len(ATTEMPTS[p.id][0]))]
    chosen = {r.problem.id: r.trajectory.sample for r in select(records, policy)
              if r.trajectory.meta["accepted"]}
    assert chosen == {name: samples[policy] for name, (_, samples) in ATTEMPTS.items()}
    found = collect(config, new_run(tmp_path, "collect"))
    assert found.counts() == {"asked/train": 2, "accepted/train": 2} and len(found.records) == 6
    assert [r.problem.id for r in found.split("train")] == ["a", "b"]
    assert all(r.trajectory.meta["accepted"] for r in found.split("train"))
    counted = {"accepted": 2, "no_answer": 1, "not_selected": 2, "wrong_answer": 1}
    assert found.reasons().loc["train"].to_dict() == counted


def test_a_second_start_asks_only_what_is_new_or_failed(tmp_path):
    config = configure(CollectConfig, samples=2, teacher="test_collect:ScriptedTeacher")
    run = new_run(tmp_path, "collect")
    silent, teacher = ScriptedTeacher("silent"), ScriptedTeacher()
    problems = tuple(scripted(0, {}))
    plan = CollectionPlan(problems, teacher)
    first = collect(config, run, CollectionPlan(problems, silent))
    assert first.reasons().to_dict() == {"silent": {"train": 4}}
    assert first.records[0].trajectory.producer == "teacher:scripted"
    assert len(collect(config, run, plan).accepted()) == 2 and teacher.asked == 4
    more = configure(CollectConfig, samples=3, teacher="test_collect:ScriptedTeacher")
    assert len(collect(more, run, plan).records) == 6 and teacher.asked == 6
    run.finish()
    again = new_run(tmp_path, "collect")  # a finished run starts over, what was answered stays
    assert len(collect(more, again, plan).records) == 6 and teacher.asked == 6


@pytest.mark.parametrize(("turns", "reason"), [
    (["\\boxed{4}"], "no_tool"), (["ADD", "\\boxed{5}"], "wrong_answer"),
    (["ADD", "four"], "no_answer"),
    (["ADD", "\\boxed{4}"], None), (["PLUS", "\\boxed{4}"], "unknown_tool"),
    (["DIV", "\\boxed{4}"], "tool_error"),
    (["<tool_call>\n{add}\n</tool_call>", "\\boxed{4}"], "malformed_call"),
    (["ADD \\boxed{4}"], "not_executed")])
def test_why_an_attempt_is_no_reference(turns, reason):
    texts = {"ADD": ("add", {"a": 2, "b": 2}), "PLUS": ("plus", {}),
             "DIV": ("divide", {"a": 1, "b": 0})}
    problem, box, made = Problem("p", "2+2?", ["4"], "s", "train"), load_toolbox("arithmetic"), []
    for text in turns:
        for name, call in texts.items():
            text = text.replace(name, render_call(*call))
        results = [box.execute(c.name, c.arguments).content for c in Turn(text).calls]
        made.append(Turn(text, "eos", render_environment(results) if results and len(turns) > 1
                         else ""))
    assert reject_reason(Trajectory("p", tuple(made)), problem) == reason


@pytest.mark.numeric
def test_a_local_model_teaches_in_batches(tmp_path):
    """The kit's own tiny student as the teacher; it knows these problems by heart."""
    by_heart(8).save(tmp_path / "model")

    def collected(name, size, seed):
        options = [f"model:{tmp_path / 'model'}", "temperature:0.7", f"batch_size:{size}",
                   "max_new_tokens:200", f"seed:{seed}"]
        config = configure(CollectConfig, problems="arithmetic_stories", teacher="local_model",
                           split_sizes=["train:8"],
                           teacher_options=options)
        return collect(config, new_run(tmp_path / name, "collect"))

    seed = steady_seed(rollout, lambda seed: collected(str(seed), 4, seed))
    found = collected("run", 4, seed)
    # sampled, and yet the same in any batch
    assert found.records == collected("other", 3, seed).records
    assert len(found.records) == 8 and found.tokens()["completion_tokens"] > 0
    assert {r.trajectory.producer for r in found.records} == {"teacher:model"}
    assert set(found.reasons().columns) - {"accepted"} or found.accepted()
    assert len((tmp_path / "run" / "attempts.jsonl").read_text().splitlines()) == 9
    with pytest.raises(UserError, match="needs a model"):
        plan_collection(configure(CollectConfig, teacher="local_model"))


def server_options(url: str, *more: str) -> str:
    return f"teacher_options={json.dumps([f'base_url:{url}', 'model:sums', 'retries:0', *more])}"


NOBODY = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(("settings", "match"), [
    ([server_options(NOBODY, "key_env:NO_SUCH_KEY")],
     "the environment variable 'NO_SUCH_KEY' is not set"),
    ([server_options(NOBODY, "key_env:none")],
     f"The endpoint '{NOBODY}' does not answer (connection"),
    ([server_options(NOBODY, "key_env:none"), "toolbox=nowhere"], "Unknown toolbox 'nowhere'"),
    ([server_options(NOBODY, "key_env:none", "probe:false"), "problems=hub_math",
      'problem_options=["path:empty.csv"]'],
     "holds no row")],
    ids=["key", "url", "toolbox", "source"])
def test_the_command_line_says_it_in_one_line_and_writes_nothing(tmp_path, settings, match):
    (tmp_path / "empty.csv").write_text("question,answer\n")
    done = collect_command(tmp_path, *settings)
    assert done.returncode == 2 and done.stdout == ""
    assert (
        match in done.stderr and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    )
    assert not (tmp_path / "results").exists()


def test_a_collection_without_a_reference_ends_says_so_and_is_refused_downstream(tmp_path):
    """The teacher answers every problem with plain text."""
    with running(style="plain") as url:
        done = collect_command(tmp_path, server_options(url, "key_env:none"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "collect: 5 attempts at 5 problems, 0 references; rejected: no_answer 5.\nWithout a "
        "reference"  # noqa: E501
        in done.stdout
    )
    run = load_run(next((tmp_path / "results").rglob("DONE")).parent)
    assert run.facts == {"asked/train": 3, "accepted/train": 0, "asked/validation": 2,
                         "accepted/validation": 0}
    said = run.path("notebook.ipynb").read_text()
    assert "5 attempts at 5 problems, 0 references; rejected: no_answer 5." in said
    assert (
        "The teacher boxes no answer" in said and "No attempt of the teacher was accepted" in said
    )
    assert "the model made no call; the server ignores tools" in said
    card = run.path("dataset/README.md").read_text()
    assert "configs" not in yaml.safe_load(card.split("---")[1]) and "| train | 3 | 0 | - |" in card
    with pytest.raises(UserError, match="is of no use: 5 attempts at 5 problems, 0 references; "
                                        "rejected: no_answer 5"):
        load_collection(run)


def test_configurations_are_validated():
    assert configure(TrainConfig, learning_rate="1e-6").learning_rate == 1e-6
    with pytest.raises(UserError, match=r"^steps='many'"):
        configure(TrainConfig, steps="many")
    with pytest.raises(UserError,
                       match=r"^stepz=3: there is no such parameter; did you mean 'steps'\?$"):
        configure(TrainConfig, stepz=3)
    with pytest.raises(UserError, match="^splits='in_domain': it must be a list: .*papermill's "
                                        "command line use -y"):
        configure(EvaluateConfig, splits="in_domain")
    with pytest.raises(UserError, match="^reward='sparse': method='mentor' already names a reward; "
                                        "leave reward out, or"):
        configure(TrainConfig, method="mentor", reward="sparse")
    for method in ("short", "sparse", "sft", "cold_start"):  # the last two ignore it
        assert configure(TrainConfig, method=method, reward="sparse").reward == "sparse"
    assert TrainConfig.from_notebook({"steps": 3, "other": 4}) == TrainConfig(steps=3)
    assert parse_options(["a:1", "b:x", "c:true"], "o") == {"a": 1, "b": "x", "c": True}


@pytest.mark.parametrize(("value", "read"), [
    ("Answer briefly: use tools.", "Answer briefly: use tools."),
    ("Be brief # no joke", "Be brief # no joke"), ("@home, *all", "@home, *all"),
    ("2024-01-01", "2024-01-01"), ("1:30", "1:30"), ("- x", "- x"), ("'a: b'", "a: b"),
    ("{top_k: 20}", {"top_k": 20}), ("[1, 2]", [1, 2]), ("1.0e-6", 1e-6), ("null", None)])
def test_an_options_value_is_the_text_itself_unless_it_is_a_number_or_quoted(value, read):
    assert parse_options([f"system:{value}"], "teacher_options") == {"system": read}
