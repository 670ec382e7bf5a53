"""Keep the results of params/rivals.yaml in git: python docs/store_rivals.py results/rivals

Writes results/reference/rivals/students.csv (one row an evaluated student), differences.csv (each
method minus MENTOR under every condition, with intervals) and the figure of accuracy against cost.
Then run `make readme`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from mentor_kit.analysis.claims import Claim, judge_claims
from mentor_kit.analysis.costs import accuracy_by_cost, evaluated_students
from mentor_kit.analysis.frame import load_results
from mentor_kit.analysis.style import savefig

TARGET = Path(__file__).parents[1] / "results" / "reference" / "rivals"
BASELINE = "mentor"


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    rows = evaluated_students(sys.argv[1])
    rows.round(6).to_csv(TARGET / "students.csv", index=False, lineterminator="\n")
    savefig(accuracy_by_cost(rows).figure, TARGET / "accuracy_by_cost")
    (TARGET / "accuracy_by_cost.pdf").unlink()
    table = differences(load_results(sys.argv[1]).items)
    table.to_csv(TARGET / "differences.csv", index=False, lineterminator="\n", float_format="%.9g")


def differences(items: pd.DataFrame) -> pd.DataFrame:
    """Each method minus MENTOR: rows method, split (in_domain, out_of_domain), the condition,
    estimate, low, high, items, seeds, verdict."""
    methods = [m for m in items["method"].unique() if m != BASELINE]
    judged = judge_claims(items, [Claim("", m, BASELINE) for m in methods])
    return pd.DataFrame([
        {"method": j.claim.method, "split": j.split, **j.cell, **j.found.difference._asdict(),
         "items": j.found.items, "seeds": len(j.found.by_seed), "verdict": j.verdict}
        for j in judged])


if __name__ == "__main__":
    main()
