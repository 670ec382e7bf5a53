"""Verdicts on claims: by the rules, under the conditions that the results hold."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mentor_kit.analysis import claims, verdicts
from mentor_kit.analysis.conditions import CONDITIONS
from mentor_kit.analysis.verdicts import Comparison
from mentor_kit.errors import UserError
from mentor_kit.metrics.bootstrap import Interval


def items_of(right: dict[tuple[str, int], list[int]], split: str = "in_domain",
             **conditions: Any) -> pd.DataFrame:
    """Evaluated items: (method, seed) -> the verdict of each item."""
    rows = [{"study": "s", "method": m, "seed": s, "split": split, "problem_id": f"{split}/{i}",
             "correct": v, "unknown_tool": v, "set_match": v, "teacher_tools": ("add",),
             "tools": ("add",)} | dict.fromkeys(CONDITIONS, np.nan) | conditions
            for (m, s), verdicts in right.items() for i, v in enumerate(verdicts)]
    return pd.DataFrame(rows)


BETTER = [1] * 70 + [0] * 30  # of the same items as WORSE, 20 more are right
WORSE = [1] * 50 + [0] * 50


def three(**verdicts: list[int]) -> dict[tuple[str, int], list[int]]:
    """The same verdicts with three seeds."""
    return {(method, seed): v for method, v in verdicts.items() for seed in range(3)}


@pytest.mark.parametrize(("difference", "seeds", "said"), [
    (Interval(0.08, 0.01, 0.15), 3, verdicts.SUPPORTED),
    (Interval(-0.075, -0.145, -0.005), 5, verdicts.NOT_SUPPORTED),
    (Interval(0.02, -0.03, 0.07), 3, verdicts.CANNOT_TELL),
    (Interval(0.05, 0.0, 0.1), 3, verdicts.CANNOT_TELL),
    (Interval(0.05, 1e-17, 0.1), 3, verdicts.CANNOT_TELL),
    (Interval(0.08, 0.01, 0.15), 2, verdicts.CANNOT_TELL),
    (None, 0, verdicts.CANNOT_TELL),
])
def test_a_verdict_needs_three_seeds_and_the_whole_interval_on_one_side(difference, seeds, said):
    found = Comparison(difference, 100, (0.0,) * seeds)
    assert verdicts.verdict(found) == said
    turned = {verdicts.SUPPORTED: verdicts.NOT_SUPPORTED,
              verdicts.NOT_SUPPORTED: verdicts.SUPPORTED}
    assert verdicts.verdict(found, lower_is_better=True) == turned.get(said, said)


def test_difference_names_points_interval_items_seeds_and_verdict():
    items = items_of(three(mentor=WORSE, sparse=BETTER))
    text = verdicts.difference(items)
    assert re.fullmatch(r"In domain MENTOR minus Sparse RL is -20\.0 points \[-2\d\.\d, -1\d\.\d\] "
                        r"over 100 items, 3 seeds\. That it is better: not supported, Sparse RL is "
                        r"ahead\.", text)
    assert verdicts.difference(items, "sparse", "mentor").endswith("better: supported.")
    assert "in unknown-tool rate" in verdicts.difference(items, column="unknown_tool")
    assert verdicts.difference(items, column="unknown_tool").endswith(": supported.")


def test_a_bound_close_to_zero_is_not_printed_as_zero():
    assert verdicts.points_text(Interval(0.0101, 0.0002, 0.02)) == "+1.0 points [+0.02, +2.0]"
    assert verdicts.points_text(Interval(-0.075, -0.145, -0.005)) == "-7.5 points [-14.5, -0.5]"
    assert verdicts.points_text(Interval(0.0, -1e-17, 0.02)) == "+0.0 points [+0.0, +2.0]"


def test_what_cannot_be_told_says_why():
    level = items_of(three(mentor=BETTER, sparse=BETTER))
    assert verdicts.difference(level).endswith("cannot be told, the interval holds 0.")
    alone = items_of({("mentor", 0): BETTER})
    assert verdicts.difference(alone) == (
        "In domain MENTOR against Sparse RL: cannot be told, no items of Sparse RL.")
    assert verdicts.difference(alone, "sft", "sparse").endswith("no items of SFT and Sparse RL.")
    apart = pd.concat([alone, items_of({("sparse", 0): WORSE}).assign(
        problem_id=lambda f: f["problem_id"] + "b")])
    assert verdicts.difference(apart).endswith("cannot be told, no item that both answered.")
    one = items_of({("mentor", 0): BETTER, ("sparse", 0): WORSE})
    assert verdicts.difference(one).endswith(
        "one seed. That it is better: of these students it holds.")
    assert verdicts.difference(one, "sparse", "mentor").endswith(
        "of these students it does not hold, MENTOR is ahead.")
    last = claims.answer(one).splitlines()[-1]
    assert last.startswith("To compare methods, 3 seeds are needed")
    assert set(claims.claims_table(one).numbers["verdict"]) == {verdicts.CANNOT_TELL}


def test_seeds_that_disagree_widen_the_interval():
    agree = items_of(three(mentor=BETTER, sparse=WORSE))
    right = three(sparse=WORSE) | {("mentor", 0): [1] * 100, ("mentor", 1): WORSE,
                                   ("mentor", 2): [1] * 60 + [0] * 40}
    disagree = verdicts.compare(items_of(right), "correct", "mentor", "sparse")
    same = verdicts.compare(agree, "correct", "mentor", "sparse")
    assert disagree.difference.estimate == pytest.approx(same.difference.estimate)
    assert disagree.by_seed == pytest.approx((0.5, 0.0, 0.1))
    widths = [d.difference.high - d.difference.low for d in (same, disagree)]
    assert widths[1] > 1.5 * widths[0]


def test_the_answer_has_a_line_a_claim_in_domain_and_out_of_domain():
    right = three(mentor=WORSE, sparse=BETTER, sft=BETTER)
    items = pd.concat([items_of(right), items_of(right, "distractor_seen"),
                       items_of(right, "longer_chains")], ignore_index=True)
    lines = claims.answer(items).splitlines()
    assert lines[0].startswith("RL with MENTOR's reward is more accurate than imitation, in domain:"
                               " not supported, SFT is ahead (-20.0 points [")
    assert lines[1].startswith("RL with MENTOR's reward is more accurate than imitation, out of "
                               "domain: not supported, SFT is ahead (-20.0 points [")
    assert "100 items, 3 seeds" in lines[0] and "200 items, 3 seeds" in lines[1]
    assert ("A flexible reward is more accurate than a strict one: cannot be told, no items of "
            "Strict.") in lines
    assert any(line.startswith("RL with a sparse reward is more accurate than imitation, in domain:"
                               " cannot be told, the interval holds 0") for line in lines)
    assert not any("repaired" in line for line in lines)  # ours, and not in these results


def study() -> pd.DataFrame:
    """MENTOR beats SFT where the teacher is quirky, at both levels; sparse stands once a level."""
    frames = []
    for level in ("mid", "hard"):
        frames.append(items_of(three(sparse=BETTER), cold_start_level=level))
        for quirk, sft in ((0.0, BETTER), (0.5, WORSE[50:] + [0] * 50)):
            frames.append(items_of(three(mentor=WORSE, sft=sft), cold_start_level=level,
                                   quirk=quirk))
    return pd.concat(frames, ignore_index=True)


def test_a_claim_that_holds_under_some_conditions_names_them():
    lines = claims.answer(study()).splitlines()
    assert re.fullmatch(
        r"RL with MENTOR's reward is more accurate than imitation, in domain: supported only with "
        r"quirky teacher \(dose 0\.5\) \(\+50\.0 points \[.*\]; 100 items, 3 seeds\); not "
        r"supported with clean teacher, where SFT is ahead \(-20\.0 points \[.*\]; 100 items, "
        r"3 seeds\)\.", lines[0])
    assert lines[1].startswith("MENTOR's reward is more accurate than a sparse one, in domain: not "
                               "supported under all 4 conditions, where Sparse RL is ahead (-20.0")


def test_conditions_that_no_single_one_decides_are_listed():
    items = study()
    mend = (items["cold_start_level"] == "hard") & (items["method"] == "sft")
    items.loc[mend, "correct"] = 1
    line = claims.answer(items).splitlines()[0]
    assert "supported only with cold start mid, quirky teacher (dose 0.5) (" in line


def test_several_studies_are_judged_one_by_one():
    with pytest.raises(UserError, match="of the studies s and t"):
        claims.answer(pd.concat([study(), study().assign(study="t")]))


def test_the_table_of_claims_has_a_row_a_condition():
    table = claims.claims_table(study())
    rows = table.cells.loc["MENTOR's reward is more accurate than a sparse one"]
    assert rows.index.tolist() == ["cold start mid, clean teacher",
                                   "cold start mid, quirky teacher (dose 0.5)",
                                   "cold start hard, clean teacher",
                                   "cold start hard, quirky teacher (dose 0.5)"]
    assert set(rows["Verdict", "in domain"]) == {verdicts.NOT_SUPPORTED}
    assert table.numbers["seeds"].eq(3).all() and "from 3 seeds" in table.caption.lower()
    assert table.to_latex() and table.to_html() and table.to_csv()
