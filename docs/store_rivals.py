"""Keep the results of params/rivals.yaml in git: python docs/store_rivals.py results/rivals

Writes results/reference/rivals/students.csv (one row an evaluated student) and the figure of
accuracy against cost. Then run `make readme`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mentor_kit.analysis.costs import accuracy_by_cost, evaluated_students
from mentor_kit.analysis.style import savefig

TARGET = Path(__file__).parents[1] / "results" / "reference" / "rivals"


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    rows = evaluated_students(sys.argv[1])
    rows.round(6).to_csv(TARGET / "students.csv", index=False, lineterminator="\n")
    savefig(accuracy_by_cost(rows).figure, TARGET / "accuracy_by_cost")
    (TARGET / "accuracy_by_cost.pdf").unlink()


if __name__ == "__main__":
    main()
