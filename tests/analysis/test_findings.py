"""The sentences under figures and tables: verdicts by the rules, numbers those of the results."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from synthetic_results import TERMS, curve_rows, teacher_record, write_run, write_study

from mentor_kit.analysis import findings
from mentor_kit.analysis.findings import Finding
from mentor_kit.analysis.frame import load_results
from mentor_kit.errors import UserError

METHODS = ("cold_start", "sft", "sparse", "mentor")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return load_results(write_study(tmp_path_factory.mktemp("findings"), METHODS, seeds=(0, 1),
                                    items=8, steps=20))


def test_every_figure_of_a_study_has_a_finding_with_items_and_seeds(results):
    items, training = results.main_items, results.training
    said = {f: getattr(findings, f)(items) for f in (
        "accuracy_by_split", "ablation_bars", "similarity_vs_accuracy", "tool_usage")}
    for text in said.values():
        assert "8 items" in text and "2 seeds" in text and text.endswith(".")
    said |= {f: getattr(findings, f)(training) for f in ("training_curves", "reward_terms")}
    said |= {"seeds": findings.seeds_summary(items),
             "budgets": findings.budget_table(results.budgets)}
    for text in said.values():
        assert "2 seeds" in text and "nan" not in text and "  " not in text
    accuracy = items[items["split"] == "in_domain"].groupby("method")["correct"].mean()
    assert f"SFT {100 * accuracy['sft']:.1f}% [" in said["accuracy_by_split"]
    assert "MENTOR 20 optimizer steps, 90,000 sampled tokens" in said["budgets"]
    assert "after step 20" in said["training_curves"]
    assert set(re.findall("Sparse RL|MENTOR", said["reward_terms"])) == {"Sparse RL", "MENTOR"}


def test_of_many_methods_a_sentence_names_the_main_comparison(results):
    items = results.main_items
    more = [items[items["method"] == "sparse"].assign(method=m) for m in ("set_f1", "own", "mine")]
    text = findings.accuracy_by_split(pd.concat([items, *more]))
    assert text.endswith(" (and 3 other methods).") and "own" not in text
    assert "other method" not in findings.accuracy_by_split(items)


def test_data_scaling_names_the_smallest_and_the_largest_size(tmp_path):
    items = load_results(write_study(tmp_path, ("mentor",), seeds=(0,), items=4, steps=4,
                                     sizes=(32, 128, 512))).items
    text = findings.data_scaling(items)
    assert "with 32 references to" in text and "with 512" in text and "128" not in text


def test_findings_of_a_collection():
    made = [teacher_record("train", i) for i in range(6)]
    attempts = [(r.problem, i > 1, "" if i > 1 else "ungrounded_argument", r.trajectory)
                for i, r in enumerate(made)]
    assert findings.teacher_yield(attempts) == (
        "4 of 6 attempts (66.7%) passed the checks; the commonest reason of rejection is "
        "ungrounded argument (2 of 2).")
    assert findings.teacher_yield(attempts[2:]).endswith("passed the checks; none was rejected.")
    calls = [len(r.trajectory.calls) for r in made[2:]]
    assert f"makes {np.mean(calls):.2f} calls on average" in findings.tool_histogram(attempts)
    assert "No attempt was accepted" in findings.tool_histogram(attempts[:2])


def test_findings_of_rewards_and_of_one_run(tmp_path):
    wide = pd.DataFrame({"sparse": [1.0, 0.0, 0.0], "mentor": [1.1, 0.16, 0.1]})
    assert findings.reward_distribution(wide) == (
        "Distinct rewards of the same 3 rollouts: Sparse RL 2 (mean 0.33); MENTOR 3 (mean 0.45).")
    agreement = pd.Series({"sparse": 1.0, "mentor": 0.8, "set_f1": float("nan")})
    assert findings.reward_correlation(agreement) == (
        "Sparse RL agrees most with the judge (correlation 1.00), MENTOR least (0.80).")
    assert "never vary" in findings.reward_correlation(agreement[2:])
    run = write_run(tmp_path, "demo", "train", {"method": "mentor", "seed": 3},
                    metrics=curve_rows("mentor", 3, 20))
    text = findings.run_curves(run)
    assert text.startswith("MENTOR, seed 3, after step 20: validation accuracy from ")
    assert text.endswith("(one run).")
    assert "mentor" in TERMS


def test_nothing_to_say_is_refused_in_one_line(results):
    nothing = results.items.iloc[:0]
    for say in (findings.accuracy_by_split, findings.ablation_bars, findings.seeds_summary,
                findings.similarity_vs_accuracy, findings.tool_usage, findings.data_scaling):
        with pytest.raises(UserError):
            say(nothing)
    for say in (findings.training_curves, findings.reward_terms):
        with pytest.raises(UserError):
            say(results.training.iloc[:0])
    with pytest.raises(UserError):
        findings.budget_table(results.budgets.iloc[:0])
    with pytest.raises(UserError):
        findings.teacher_yield([])


def test_a_finding_is_a_text_and_shows_itself_as_paragraphs_without_formulas():
    shown = Finding("a$1 < b$2\nsecond")._repr_html_()
    assert shown == ("<p>a<span>$</span>1 &lt; b<span>$</span>2</p><p>second</p>")
