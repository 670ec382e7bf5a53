"""Is learning unchanged? Draws the training curves of both rollout engines and compares them.

    mentor-kit batch params/engines.yaml --workers 2
    python tests/tools/engine_curves.py results/engines results/reference/engines

Writes curves.png, curves.pdf and summary.md. Both engines start from the same students and see the
same prompts in the same order, but draw other random numbers: their difference is to be compared
with that of seeds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from mentor_kit.analysis.curves import seed_table, training_curves
from mentor_kit.analysis.frame import run_frame
from mentor_kit.analysis.style import savefig
from mentor_kit.core.records import load_records
from mentor_kit.evaluation.stage import repeat_check
from mentor_kit.runs.files import write_atomic
from mentor_kit.runs.open import load_run

ENGINES = {"kit": "train_kit", "TRL": "train_trl"}  # stages of params/engines.yaml
COLUMNS = {"val/accuracy": "validation accuracy", "val/set_match": "tool-set match",
           "val/unknown_tool": "unknown-tool rate", "judge_accuracy": "training accuracy",
           "reward": "reward", "response_length": "response tokens"}


def load_curves(study: Path) -> pd.DataFrame:
    """The curves of all finished trainings; `method` is the engine."""
    frames = [run_frame(load_run(done.parent)).assign(method=engine)
              for engine, stage in ENGINES.items()
              for done in sorted((study / stage).glob("*/DONE"))]
    return pd.concat(frames, ignore_index=True)


def summary(curves: pd.DataFrame) -> pd.DataFrame:
    """By column: each engine's mean over steps after the start and over seeds, the mean and the
    largest difference of a seed's two trainings, and the spread of seeds within an engine."""
    rows = {}
    for column, title in COLUMNS.items():
        tables = [seed_table(curves, engine, column) for engine in ENGINES]
        means = pd.DataFrame({e: t[t.index > 0].mean() for e, t in zip(ENGINES, tables,
                                                                      strict=True)})
        apart = means["kit"] - means["TRL"]
        rows[title] = {**means.mean().round(3).to_dict(), "kit - TRL": round(apart.mean(), 3),
                       "largest of a seed": round(apart.abs().max(), 3),
                       "spread of seeds": round((means.max() - means.min()).mean(), 3),
                       "seeds": len(means)}
    return pd.DataFrame(rows).T


def repeats(study: Path) -> str:
    """The repeat check over every stored rollout of every training."""
    counts = {}
    for engine, stage in ENGINES.items():
        files = sorted((study / stage).glob("*/trajectories.parquet"))
        counts[engine] = sum(repeat_check(load_records(file)) for file in files)
    return "".join(
        f"{engine}: {c['rollouts']:,} rollouts, {c['executed_calls']:,} executed calls, "
        f"{c['exact_repeats']:,} repeat the teacher's calls exactly, {c['of_these_wrong']:,} of "
        f"these are wrong ({c['miscopied']:,} mis-copied, {c['never_boxed']:,} never boxed), "
        f"{c['unexplained']:,} unexplained.\n\n" for engine, c in counts.items())


def main(study: str, out: str) -> None:
    curves, folder = load_curves(Path(study)), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    figure, caption = training_curves(curves, expected=())
    savefig(figure, folder / "curves")
    table = summary(curves)
    head = "| | " + " | ".join(table.columns) + " |\n|---|" + "---|" * len(table.columns) + "\n"
    lines = "".join(f"| {name} | " + " | ".join(f"{v:g}" for v in row) + " |\n"
                    for name, row in zip(table.index, table.to_numpy(), strict=True))
    note = ("Means over the steps after the start. `spread of seeds`: highest minus lowest seed, "
            "the mean of both engines.\n")
    title = ("# Learning by the kit's engine and by TRL's loop\n\n`params/engines.yaml`, drawn by "
             "`tests/tools/engine_curves.py`.\n\n![curves](curves.png)\n\n")
    write_atomic(folder / "summary.md", f"{title}{head}{lines}\n{note}\n{repeats(Path(study))}"
                 f"{' '.join(caption.split())}\n")
    print(table.to_string())


if __name__ == "__main__":
    main(*sys.argv[1:3])
