"""Every row of the field cases on evaluation and figures, where the cases lie beside the checkout.

What public bug reports showed, tried on the product. A row tells its input and the right value in
words, so each has a check of its own here; values are taken from the row where it holds them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from field_cases import read_cases
from legible import assert_legible
from scipy import stats
from scipy.spatial.distance import jensenshannon
from synthetic_results import write_study

from mentor_kit.analysis import figures, style, tables
from mentor_kit.analysis.frame import Results, load_results
from mentor_kit.analysis.macros import numbers_tex
from mentor_kit.bfcl import checker, multi_turn
from mentor_kit.cli.score import score_file
from mentor_kit.core.chat_markup import EOS
from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.evaluation.benchmarks.registry import check_benchmark, check_each_once
from mentor_kit.evaluation.benchmarks.scorers import answer_scores, qa_verdicts
from mentor_kit.evaluation.config import EvaluateConfig
from mentor_kit.evaluation.evaluate import scored
from mentor_kit.evaluation.report import interval_table
from mentor_kit.judging.judge import judge
from mentor_kit.metrics import bootstrap
from mentor_kit.metrics.trajectories import tool_similarity
from mentor_kit.problems import question_set
from mentor_kit.runs.parameters import configure
from mentor_kit.toolboxes.search import BM25Index, Passage, read_passages

ROWS = read_cases("evaluation-and-figures")
CHECKS: dict[str, Callable[[dict[str, Any], Results], None]] = {}


def check(name: str) -> Callable:
    return lambda function: CHECKS.setdefault(name, function)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = write_study(tmp_path_factory.mktemp("made"), ("cold_start", "sft", "sparse", "mentor"),
                       seeds=(0,), items=4, steps=10)
    return load_results(root)


@pytest.mark.parametrize("name", ROWS)
def test_row(name, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    CHECKS[name](ROWS[name]["input"], made)


def records(texts: list[str], golds: tuple[str, ...] = ("Paris",),
            same: bool = True) -> list[Record]:
    """Answers to one problem (its samples), or one answer a problem."""
    made = []
    for i, text in enumerate(texts):
        problem = Problem("q" if same else f"q{i}", "?", golds, "test", "asked")
        made.append(Record(problem, Trajectory.from_text(text + EOS, problem.id,
                                                         sample=i if same else 0)))
    return made


def boxed(texts: list[str]) -> list[str]:
    return [f"\\boxed{{{t}}}" for t in texts]


# Statistics of one evaluation ------------------------------------------------------------------


@check("ef01")
def one_statistic(given, _):
    found = scored(records(boxed(given["boxed_answers"]), tuple(given["gold"]), same=False),
                   qa_verdicts)
    row = interval_table(found).loc["asked"]
    assert (row["accuracy %"], row["low"], row["high"]) == (20, 0, 50)
    assert row["em %"] == 20 and row["contains %"] == 100


@check("ef02")
def majority_of_calls(given, _):
    found = [Record(r.problem, r.trajectory.with_meta(correct=True, failure=None))
             for r in records([given["each"]] * given["samples"])]
    row = interval_table(found).loc["asked"]
    assert row["accuracy %"] == row["pass@4 %"] == row["maj@4 %"] == 100


@check("ef05")
def majority_of_texts(given, _):
    row = interval_table(scored(records(boxed(given["boxed_answers"])), qa_verdicts)).loc["asked"]
    assert row["maj@6 %"] == 100 and row["accuracy %"] == 66.7


@check("ef48")
def articles_as_gold(given, _):
    found = answer_scores(given["prediction"], given["gold"])
    assert found["em"] == found["f1"] == found["precision"] == found["recall"] == 1
    assert answer_scores("...", "?")["em"] == 0


@check("ep01")
@check("ep02")
def numbers_are_judged(given, _):
    assert all(judge(said, gold).correct for said, gold in given["pairs"])


@check("ep03")
def repeated_words(given, _):
    assert answer_scores(given["prediction"], given["gold"])["f1"] == 0.5


@check("ep04")
def yes_and_no(given, _):
    assert [answer_scores(*pair)["f1"] for pair in given["pairs"]] == [0, 0, 1]


@check("ep09")
def similarity_is_scipys(_, __):
    rng = np.random.default_rng(0)
    for p, q in rng.integers(0, 9, size=(2000, 2, 6)):
        if p.any() and q.any():
            ours = tool_similarity(*({str(i): int(n) for i, n in enumerate(x)} for x in (p, q)))
            assert ours == pytest.approx(1 - jensenshannon(p, q, base=2) ** 2, abs=1e-12)


@check("ep10")
def seeds_are_rliables(_, __):
    rng = np.random.default_rng(0)
    for shape in ((2, 3), (5, 4), (3, 9)):
        x, y = rng.random(shape), rng.random(shape)
        assert bootstrap.iqm(x) == pytest.approx(stats.trim_mean(x, 0.25, axis=None))
        wins = np.mean([[np.mean(a > b) for a in x] for b in y])
        assert bootstrap.improvement(x, y) == pytest.approx(wins)
        drawn = [bootstrap.iqm(np.take_along_axis(x, rng.integers(len(x), size=shape), 0))
                 for _ in range(4000)]
        ours = bootstrap.stratified_bootstrap(x)
        assert ours[1:] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)


@check("ep11")
def intervals_are_scipys(_, __):
    rng = np.random.default_rng(0)
    for n in (2, 5, 30, 200):
        x = rng.random(n)
        theirs = stats.bootstrap((x,), np.mean, method="percentile", n_resamples=9999,
                                 rng=1).confidence_interval
        assert bootstrap.bootstrap_interval(x)[1:] == pytest.approx(theirs, abs=0.1 / n ** 0.5)


# Benchmarks ------------------------------------------------------------------------------------


@check("ef07")
def a_benchmark_named_twice(given, _):
    specs = re.findall(r"\S+:\S+", given["cli"])
    with pytest.raises(UserError, match="asked twice"):
        configure(EvaluateConfig, benchmarks=specs)


def declare(name: str = "b", file: str = "", **change: Any) -> str:
    """The path of a benchmark of three rows with these fields."""
    rows = [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(3)]
    Path("a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    fields = {"name": name, "version": 1, "problems": "question_set", "splits": {"b1": 0},
              "options": {"path": "a.jsonl"}, "toolbox": "arithmetic", "scorer": "judge",
              "licence": "none"} | change
    path = Path(file or f"{name}.yaml")
    path.write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))
    return str(path)


@check("ef10")
def one_name_two_files(_, __):
    specs = [declare("m", f"m{n}.yaml", splits={"mine": n}) for n in (0, 1)]
    with pytest.raises(UserError, match="'m/mine' is asked twice"):
        check_each_once(specs)


@check("ef25")
@check("ef28")
@check("ef30")
def bad_declarations(given, __):
    with pytest.raises(UserError, match="splits|columns"):
        check_benchmark(declare(**given["yaml"]))


@check("ep16")
def wrong_parameters(_, __):
    for change in ({"samples": 4, "temperature": 0.0}, {"benchmark_items": -3}):
        with pytest.raises(UserError, match="samples|benchmark_items"):
            configure(EvaluateConfig, **change)
    for change in ({"scorer": "x"}, {"toolbox": "x"}, {"problems": "x"}, {"licence": None}):
        with pytest.raises(UserError, match="'x'|licence"):
            check_benchmark(declare(**change))
    with pytest.raises(UserError, match="no split 'x'"):
        check_benchmark(declare() + ":x")
    Path("empty.yaml").write_text("")
    with pytest.raises(UserError, match="does not declare a benchmark"):
        check_benchmark("empty.yaml")


@check("ep17")
def what_is_out_of_reach(_, __):
    from mentor_kit.evaluation.benchmarks.registry import load_benchmark
    from mentor_kit.toolboxes.search import require_index

    with pytest.raises(UserError, match="cannot be read"):
        load_benchmark("aime24")[0].load()
    with pytest.raises(UserError, match="passages"):
        require_index()


@check("ep05")
def schemas_of_the_leaderboard(_, __):
    from mentor_kit.bfcl.items import tool_schema

    function = {"name": "a.b", "description": "d", "parameters": {"type": "dict", "properties": {
        t: {"type": t} for t in ("float", "tuple", "any", "Boolean", "long", "HashMap")}}}
    schema = json.dumps(tool_schema(function))
    assert '"a_b"' in schema
    assert set(re.findall(r'"type": "(\w+)"', schema)) <= {
        "function", "object", "number", "integer", "string", "boolean", "array"}


@check("ep06")
@check("ep07")
def calls_are_decoded(_, __):
    def decoded(text: str) -> list | None:
        return checker.decode_calls(Trajectory.from_text(text + EOS, "p").turns[0])

    for arguments in ("1.5", "NaN", "Infinity", '"\\ud800"', "[1]"):
        text = f'<tool_call>\n{{"name": "f", "arguments": {{"a": {arguments}}}}}\n</tool_call>'
        json.dumps(decoded(text), allow_nan=True)  # no crash on the way to the checker
    assert decoded("no call") == []
    assert decoded('<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>') is None
    assert multi_turn.multi_turn_verdicts([], []) == []


# Files of questions and passages ---------------------------------------------------------------


def question_file(rows: list[dict] | str, name: str = "set.jsonl") -> str:
    text = rows if isinstance(rows, str) else "".join(
        json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    Path(name).write_text(text, encoding="utf-8")
    return name


def load(path: str, sizes: dict[str, int] | None = None, **options: Any) -> list[Problem]:
    return question_set.load(0, sizes or {"test": 0}, path=path, **options)


@check("ef12")
def empty_after_the_mark(given, _):
    with pytest.raises(UserError, match="00000.*empty"):
        load(question_file(given["rows"]), after="####")


@check("ef15")
def missing_values(_, __):
    for row in ('{"question": null, "answer": "1"}', '{"question": "q", "answer": NaN}'):
        with pytest.raises(UserError, match="00000.*(empty|answer)|row 0"):
            load(question_file(row + "\n"))


@check("ef16")
def numbered_splits(given, _):
    found = load(question_file(given["rows"]), {"1": 0, "2": 0}, split_column="level")
    assert [p.split for p in found] == ["1", "2"]


@check("ef17")
def line_separators(_, __):
    for mark in "\u2028\u2029\x85":
        row = {"question": f"What is{mark}2+2?", "answer": "4", "title": "t", "text": f"a{mark}b"}
        assert [p.question for p in load(question_file([row]))] == [row["question"]]
        assert [p.text for p in read_passages("set.jsonl")] == [row["text"]]


@check("ef19")
def other_shapes(given, _):
    for value in (given["json"], {"A": "text"}, ["text"]):
        Path("set.json").write_text(json.dumps(value))
        for read in (load, lambda path: list(read_passages(path))):
            with pytest.raises(UserError):
                read("set.json")


@check("ep15")
def files_of_every_kind(_, __):
    for text in ("\ufeffquestion,answer\nq,073\n", "question;answer\nq;073\n"):
        try:
            assert load(question_file(text, "set.csv"))[0].answers == ("073",)
        except UserError as said:
            assert "question" in str(said)
    Path("latin.csv").write_bytes("question,answer\nq\xe9,1\n".encode("latin-1"))
    for rows in ([{"question": "q", "answer": ""}], [{"question": "q", "golden_answers": []}],
                 [{"question": "q", "other": 1}], []):
        with pytest.raises(UserError):
            load(question_file(rows))
    with pytest.raises(UserError):
        load("latin.csv")
    columns = {"question": ["q"], "answer": pa.array(["1.50"]).cast(pa.decimal128(5, 2))}
    pq.write_table(pa.table(columns), "d.parquet")
    assert load("d.parquet")[0].answers == ("1.50",)
    pq.write_table(pa.table({"question": ["q"], "answer": [["1", "one"]]}), "l.parquet")
    assert load("l.parquet")[0].answers == ("1", "one")
    pq.write_table(pa.table({"question": ["q"], "answer": pa.array([None], pa.string())}),
                   "n.parquet")
    with pytest.raises(UserError):
        load("n.parquet")


@check("ep18")
def separators_in_score_files(_, __):
    row = {"response": "a\u2028\\boxed{1}" + EOS, "ground_truth": "1", "teacher_tools": []}
    Path("in.jsonl").write_text("\ufeff" + json.dumps(row, ensure_ascii=False) + "\n")
    score_file("mentor", Path("in.jsonl"), Path("out.jsonl"))
    assert json.loads(Path("out.jsonl").read_text())["score"] > 0


@check("ef22")
def words_of_one_character(given, _):
    index = BM25Index([Passage(*p) for p in given["passages"]])
    first = [index.search(query, 3)[0].title for query in given["queries"]]
    assert first == ["Apollo 8", "C (language)", "Apollo 8"]


@check("ep08")
def search_edges(_, __):
    index = BM25Index([Passage("a", "red fox"), Passage("b", "red fox"), Passage("c", "hen")])
    assert [p.title for p in index.search("red", 9)] == ["a", "b"]
    assert index.search("", 3) == index.search("zebra", 3) == []
    assert BM25Index([Passage("a", "fox")]).search("fox " * 25000, 3)[0].title == "a"


# Tables and figures ----------------------------------------------------------------------------


def items_of(right: dict[str, list[int]], seeds: int = 1) -> pd.DataFrame:
    """Evaluated items of one split, without references."""
    rows = [{"study": "s", "method": method, "seed": seed, "split": "in_domain",
             "problem_id": f"p{i}", "sample": 0, "correct": bool(value), "set_match": None,
             "unknown_tool": False, "tools": (), "teacher_tools": None, "teacher_correct": None,
             "n_executed": 1, "n_failed": 0, "n_malformed": 0, "turns": 2, "failure": None}
            for method, values in right.items() for seed in range(seeds)
            for i, value in enumerate(values)]
    return pd.DataFrame(rows)


@check("ef32")
def items_of_the_accuracies(_, __):
    items = items_of({"mentor": [1, 0, 1, 1], "sft": [1, 1, 1, 1]})
    items.loc[items["problem_id"] != "p0", "teacher_tools"] = [("add",)] * 6
    text = numbers_tex(items)
    assert "\\nItemsInDomain}{4}" in text and "\\nReferencesInDomain}{3}" in text


@check("ef34")
def macros_of_like_names(given, _):
    with pytest.raises(UserError, match="would stand for"):
        numbers_tex(items_of({m: [1, 0] for m in given["methods"]}))


@check("ef38")
def ten_looks(given, _):
    looks = [style.method_style(m, given["methods"])[1:] for m in given["methods"]]
    assert len({(s[0], s[1]) for s in looks}) == len(looks) == len({s[0] for s in looks})
    for color, *_ in looks:
        assert contrast_on_white(color) >= 3, color
    own = [f"own{i}" for i in range(12)]
    assert len({style.method_style(m, own)[1:3] for m in own}) == 12


def contrast_on_white(color: str) -> float:
    """WCAG contrast ratio."""
    rgb = np.array([int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.03928, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return 1.05 / (float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)


@check("ef42")
def all_digits(given, _):
    budgets = pd.DataFrame([{"method": m, "seed": 0, **given["budget"]} for m in ("a", "b")])
    assert "123456789,7615616512" in tables.budget_table(budgets).to_csv()


@check("ef44")
def nothing_is_best_where_all_are_alike(_, __):
    assert not tables.main_table(items_of({"mentor": [0, 0], "sft": [0, 0]})).best.any().any()


@check("ef46")
def headings_are_escaped(given, _):
    html = tables.main_table(items_of({given["methods"][0]: [1, 0], "sft": [1, 1]})).to_html()
    assert "<b>html" not in html.lower()


@check("ep14")
def what_is_missing_is_said(_, __):
    items = items_of({"mentor": [1, 0, 1], "sft": [1, 1, 0]})
    other = items_of({"sft": [1]}).assign(split="longer_chains")
    both = pd.concat([items, other], ignore_index=True)
    assert "n/a" in tables.main_table(both).cells.to_string()
    assert "n/a" in tables.difference_table(both).cells.to_string()
    assert numbers_tex(both)
    with pytest.raises(UserError):
        tables.difference_table(items_of({"mentor": [1]}))


def renamed(results: Results, methods: list[str]) -> Results:
    """The same results, with other names for its methods."""
    names = dict(zip(["cold_start", "sft", "sparse", "mentor"], methods, strict=False))
    frames = {n: getattr(results, n) for n in ("runs", "curves", "items", "budgets", "wall_times")}
    return replace(results, **{n: f.assign(method=f["method"].replace(names))
                               for n, f in frames.items()})


@check("ef36")
def names_that_read_alike(given, made):
    table = tables.main_table(renamed(made, given["methods"]).main_items)
    assert table.to_html() and table.to_latex() and table.cells.index.is_unique
    assert len(table.cells) == len(given["methods"]) + 1


@check("ef40")
def long_names(given, made):
    items = renamed(made, [*given["methods"][2:5], 90 * "x"]).main_items
    for draw in (figures.tool_usage, figures.ablation_bars, figures.accuracy_by_split):
        assert_legible(draw(items).figure)


@check("ep13")
def names_that_tex_reads(given, made):
    for first in (0, 4):
        items = renamed(made, given["methods"][first:first + 4]).main_items
        latex = tables.main_table(items).to_latex()
        body = "\n".join(line for line in latex.splitlines() if not line.startswith("%"))
        assert not re.search(r"(?<!\\)[%_#$]", body)


@check("ep12")
def settings_of_ones_own(_, made):
    def drawn(name: str) -> list[bytes]:
        figure = figures.accuracy_by_split(made.main_items).figure
        return [p.read_bytes() for p in style.savefig(figure, Path(name).resolve())]

    plain = drawn("plain")
    with mpl.rc_context({"savefig.facecolor": "black", "savefig.transparent": True,
                         "savefig.bbox": "tight", "axes.facecolor": "black"}):
        assert drawn("ours") == plain


def test_every_row_has_a_check():
    assert set(ROWS) <= set(CHECKS)
