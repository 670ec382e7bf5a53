"""Keep the small part of a study's results in git.

    python docs/store_reference.py results/reference-cpu cpu-5-seeds

Writes into results/reference/NAME:

- the report's tables, figures (PNG) and captions, as `mentor-kit figures` makes them;
- `curves.csv`: validation accuracy and tool-set match, by method, seed and step;
- `conditions.csv` (of a study that varies conditions): accuracy of every method under each, by
  split and out of domain, with intervals over cold starts and items;
- `before_after.parquet`: one question, answered before and after training with MENTOR's reward.

The question is chosen by rule: of the in-domain items of the lowest seed that the cold start gets
wrong (with an unknown tool, where there is such an item) and MENTOR's student gets right, the one
with the shortest text. Write
NAME/README.md by hand: command, commit, hardware. Then run `make readme`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from mentor_kit.analysis.conditions import LEVEL, QUIRK, SIZE, TEMPERATURE, at, cells
from mentor_kit.analysis.frame import Results, load_results
from mentor_kit.analysis.report import write_report
from mentor_kit.analysis.summaries import (
    OUT_OF_DOMAIN,
    in_and_out,
    ordered_splits,
    seed_intervals,
)
from mentor_kit.core.problem import known_tools
from mentor_kit.core.records import Record, load_records, save_records

REFERENCE = Path(__file__).parents[1] / "results" / "reference"
CONDITIONS = (LEVEL, QUIRK, SIZE, TEMPERATURE)
KEPT = (".png", ".csv", ".md", ".json")
CURVES = {"val/accuracy": "accuracy", "val/set_match": "set_match"}
ALSO, NOT_KEPT = "numbers.tex", "wall_times.csv"  # wall times are of one machine


def store(results: Results, target: Path) -> None:
    """Write everything that results/reference/NAME holds, but its README."""
    with TemporaryDirectory() as folder:
        for path in write_report(results, folder):
            if path.name == ALSO or path.suffix in KEPT and path.name != NOT_KEPT:
                shutil.copy(path, target / path.name)
    curves = results.training.dropna(subset=list(CURVES))[["method", "seed", "step", *CURVES]]
    curves.rename(columns=CURVES).to_csv(target / "curves.csv", index=False, lineterminator="\n")
    save_records(target / "before_after.parquet", before_and_after(results))
    if len(cells(results.items, CONDITIONS)) > 1:
        condition_rates(results.items).to_csv(target / "conditions.csv", index=False,
                                              lineterminator="\n", float_format="%.9g")


def condition_rates(items: pd.DataFrame) -> pd.DataFrame:
    """Accuracy under every combination of conditions: columns of CONDITIONS, method, split (their
    own names and out_of_domain), estimate, low, high, items, seeds."""
    rows = []
    for cell in cells(items, CONDITIONS):
        here = at(items, cell)
        shifted = in_and_out(here)
        for part in (here, shifted[shifted["split"] == OUT_OF_DOMAIN]):
            for split in ordered_splits(part["split"]) or part["split"].unique():
                found = seed_intervals(part[part["split"] == split])
                rows.append(found.rename(columns={"n": "items"}).assign(split=split, **cell))
    return pd.concat(rows)[[*cell, "method", "split", "estimate", "low", "high", "items", "seeds"]]


def before_and_after(results: Results) -> list[Record]:
    """The chosen question's two records: the cold start's and MENTOR's.

    Raises:
        ValueError: no item is as the rule says.
    """
    before, after = evaluated(results, "cold_start"), evaluated(results, "mentor")
    fitting = [key for key in before if not correct(before[key]) and correct(after[key])]
    invented = [key for key in fitting if invents(before[key])]
    chosen = min(invented or fitting, key=lambda key: len(before[key].problem.question))
    return [before[chosen], after[chosen]]


def evaluated(results: Results, method: str) -> dict[str, Record]:
    """problem id -> record of the in-domain items of a method's lowest seed."""
    items = results.main_items
    of_method = items[(items["method"] == method) & items["stage"].eq("evaluate")]
    key = of_method.sort_values("seed")["key"].iloc[0]
    folder = results.runs.set_index("key").loc[key, "folder"]
    records = load_records(folder / "trajectories.parquet")
    return {r.problem.id: r for r in records if r.problem.split == "in_domain"}


def invents(record: Record) -> bool:
    known = known_tools(record.problem)
    return any(call.name and call.name not in known for call in record.trajectory.calls)


def correct(record: Record) -> bool:
    return bool(record.trajectory.meta["correct"])


if __name__ == "__main__":
    where, name = sys.argv[1:]
    (REFERENCE / name).mkdir(parents=True, exist_ok=True)
    store(load_results(where), REFERENCE / name)
    print(f"written: {REFERENCE / name}")
