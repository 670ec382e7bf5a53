"""One study run under several CPU settings, side by side: which claims stay, which orders turn.

    python tests/tools/cpu_settings.py avx512=results/reference/demo avx2=/path/to/report ...

Each folder holds the tables of a report: `main_table.csv` and `claims.csv`. Prints Markdown:
accuracy of every student in domain and on average over the other splits, then every claim's
difference in points with what its interval over items says, and whether the settings agree.
"""

import sys
from pathlib import Path

import pandas as pd

KEYS = ["claim", "split", "quirk"]


def accuracies(folder: Path) -> pd.Series:
    """(method, in or out of domain) -> percent."""
    rows = pd.read_csv(folder / "main_table.csv").query("metric == 'correct'")
    rows["domain"] = rows["split"].where(rows["split"] == "in_domain", "other splits")
    return 100 * rows.groupby(["method", "domain"])["estimate"].mean()


def told(row: pd.Series) -> str:
    """A difference in points, and what its interval says of these students."""
    says = "ahead" if row["low"] > 0 else "behind" if row["high"] < 0 else "cannot be told"
    return f"{100 * row['estimate']:+.1f} {says}"


def claims(folder: Path) -> pd.Series:
    """(claim, split, quirk) -> `told`."""
    return pd.read_csv(folder / "claims.csv").set_index(KEYS).apply(told, axis=1)


def agreement(row: pd.Series) -> str:
    """`yes`; `turns` where one setting says ahead and another behind; else `partly`."""
    said = {text.split(maxsplit=1)[1] for text in row}
    return "yes" if len(said) == 1 else "turns" if {"ahead", "behind"} <= said else "partly"


def main() -> None:
    folders = {name: Path(folder) for name, folder in (a.split("=", 1) for a in sys.argv[1:])}
    if not folders:
        sys.exit(__doc__)
    accuracy = pd.DataFrame({name: accuracies(folder) for name, folder in folders.items()})
    print(accuracy.round(1).reset_index().to_markdown(index=False), end="\n\n")
    judged = pd.DataFrame({name: claims(folder) for name, folder in folders.items()})
    judged["agree"] = judged.apply(agreement, axis=1)
    print(judged.reset_index().to_markdown(index=False))


if __name__ == "__main__":
    main()
