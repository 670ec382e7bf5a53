"""Write the numbers of README.md and docs/ from the stored tables under results/reference/.

    python docs/fill.py            # rewrite the marked blocks
    python docs/fill.py --check    # exit 1 if a block is not what the tables say

A block stands between `<!-- generated: NAME -->` and `<!-- end -->`; BLOCKS says what makes each.
Another headline study is one changed line here: HEADLINE.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mentor_kit.analysis.conditions import LEVELS
from mentor_kit.analysis.style import label, split_label

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results" / "reference"
HEADLINE = "regime-map"
LEVEL, REFERENCES = "mid", 64  # of the headline's table
DOSES = {0.0: "clean", 0.5: "quirky"}
NUMBERS = ("quirk", "train_size", "temperature")
HOME_AND_AWAY = {"in_domain": "in domain", "out_of_domain": "out of domain"}
SHOWN = ("cold_start", "sft", "sparse", "strict", "mentor")
HERO = "demo"  # whose curves and question docs/make_hero.py draws
GSM = "cpu-5-seeds"
WHITE_BOX, TEACHER_LEVEL = "white_box_teacher", "clean"
RIVALS = ("opd", "rft", "dpo", "mixed", "turn_credit")
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
MAIN = ("cold_start", "cold_start_constrained", "sft", "sparse", "mentor")
ALL = (*MAIN, "any_overlap", "no_tool_match", "set_f1")
SPLITS = {"in_domain": "in domain", "distractor_seen": "seen distractor",
          "distractor_unseen": "unseen distractor"}


def read(study: str, name: str) -> list[dict[str, str]]:
    with open(REFERENCE / study / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def estimate(rows: list[dict[str, str]], metric: str, split: str, method: str) -> float:
    """The estimate of one metric; raises StopIteration where the table lacks it."""
    return next(float(r["estimate"]) for r in rows if
                (r["metric"], r["split"], r["method"]) == (metric, split, method))


def short(value: float) -> str:
    """.704, 1.000, 0."""
    return "0" if value == 0 else f"{value:.3f}".removeprefix("0")


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def method_table(study: str, methods: tuple[str, ...], columns: dict[str, tuple[str, str]]) -> str:
    """A row a method; `columns`: heading -> (metric, split)."""
    rows = read(study, "main_table")
    body = [[f"**{label(m)}**" if m == "mentor" else label(m),
             *(short(estimate(rows, metric, split, m)) for metric, split in columns.values())]
            for m in methods]
    return table(["", *columns], body)


def headline() -> str:
    """Accuracy of each method at one level of the cold start, by teacher; then the claims there."""
    rows = conditions(cold_start_level=LEVEL, train_size=REFERENCES)
    found = {(r["method"], r["quirk"], r["split"]): r for r in rows}
    methods = [m for m in SHOWN if (m, 0.0, "in_domain") in found]
    body = [[f"**{label(m)}**" if m == "mentor" else label(m),
             *(with_bounds(found[m, dose, split]) for dose in DOSES for split in HOME_AND_AWAY)]
            for m in methods]
    head = ["", *(f"{teacher} teacher, {where}" for teacher in DOSES.values()
                  for where in HOME_AND_AWAY.values())]
    return (f"Accuracy, {rows[0]['seeds']} cold starts of a student of 0.2M parameters, "
            f"{REFERENCES} references, 50 steps, 95% intervals\nover cold starts and items "
            f"([more](results/reference/{HEADLINE}/README.md)):\n\n"
            + table(head, body) + "\n"
            + table(["claim, out of domain", *(f"{t} teacher" for t in DOSES.values())], claims()))


def claims() -> list[list[str]]:
    """A row for each of the paper's claims: verdict and difference in points, out of domain."""
    rows = [r for r in read(HEADLINE, "claims") if r["cold_start_level"] == LEVEL
            and float(r["train_size"]) == REFERENCES and r["split"] == "out_of_domain"
            and r["metric"] == "correct"]
    told: dict[str, dict[float, str]] = {}
    for row in rows:
        told.setdefault(row["claim"], {})[float(row["quirk"])] = verdict(row)
    return [[claim, *(by_dose[dose] for dose in DOSES)]
            for claim, by_dose in told.items() if by_dose.keys() >= DOSES.keys()][:3]


def with_bounds(row: dict[str, str]) -> str:
    """.95 [.85, 1.0]"""
    values = [float(row[name]) for name in ("estimate", "low", "high")]
    value, low, high = (f"{v:.2f}".removeprefix("0") for v in values)
    return f"{value} [{low}, {high}]"


def regimes(study: str = HEADLINE) -> str:
    """Every method from each level of a study, by teacher, in and out of domain."""
    return pivot(conditions(study, train_size=REFERENCES), ("cold_start_level", "method"),
                 ("quirk", "split"), {(dose, split): f"{teacher} teacher, {where}"
                                      for dose, teacher in DOSES.items()
                                      for split, where in HOME_AND_AWAY.items()})


def doses() -> str:
    """Accuracy against the teacher's idle calls."""
    rows = conditions(cold_start_level=LEVEL, train_size=REFERENCES)
    return pivot(only_varied(rows, "quirk"), ("method", "split"), ("quirk",),
                 {(dose,): f"dose {dose:g}" for dose in values(rows, "quirk")})


def references() -> str:
    """Accuracy against the number of references, clean teacher."""
    rows = conditions(cold_start_level=LEVEL, quirk=0.0)
    return pivot(only_varied(rows, "train_size"), ("method", "split"), ("train_size",),
                 {(size,): f"{size:g} references" for size in values(rows, "train_size")})


def sampled() -> str:
    """Accuracy of greedy answers and of samples, in domain."""
    warm = conditions(temperature=1.0, split="in_domain")
    methods = {r["method"] for r in warm}
    rows = warm + [r for r in conditions(train_size=REFERENCES, split="in_domain")
                   if r["method"] in methods and r["quirk"] in DOSES]
    levels = {r["cold_start_level"] for r in warm}
    return pivot([r for r in rows if r["cold_start_level"] in levels],
                 ("cold_start_level", "method"), ("quirk", "temperature"),
                 {(dose, warmth): f"{teacher} teacher, {word}" for dose, teacher in DOSES.items()
                  for warmth, word in ((0.0, "greedy"), (1.0, "sampled"))})


def conditions(study: str = HEADLINE, **wanted: Any) -> list[dict[str, Any]]:
    """Rows of a study under these conditions; greedy unless a temperature is wanted."""
    wanted = {"temperature": 0.0} | wanted
    rows = [row | {name: float(row[name]) for name in NUMBERS}
            for row in read(study, "conditions") if row["split"] in HOME_AND_AWAY]
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def values(rows: list[dict[str, Any]], name: str) -> list[float]:
    return sorted({row[name] for row in rows})


def only_varied(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The rows of methods that ran at each value of a condition, and differ by it."""
    wanted = set(values(rows, name))
    return [row for row in rows if row["method"] != "cold_start" and wanted == {
        r[name] for r in rows if r["method"] == row["method"]}]


def pivot(rows: list[dict[str, Any]], index: tuple[str, ...], columns: tuple[str, ...],
          heads: dict[tuple[Any, ...], str]) -> str:
    """A row for each value of `index`, a column for each of `heads`: estimate, interval."""
    found: dict[tuple[Any, ...], dict[tuple[Any, ...], str]] = {}
    for row in rows:
        cell = found.setdefault(tuple(row[name] for name in index), {})
        cell[tuple(row[name] for name in columns)] = with_bounds(row)
    say = {"method": label, "split": HOME_AND_AWAY.get, "cold_start_level": str}
    head = ["cold start" if name == "cold_start_level" else "" for name in index]
    return table([*head, *heads.values()],
                 [[*(say[n](v) for n, v in zip(index, key, strict=True)),
                   *(cell.get(column, "") for column in heads)] for key, cell in found.items()])


def notebooks() -> str:
    """A row a notebook: thumbnail and executed copy where they are there, its own question."""
    rows = []
    for row in read("demo", "minutes"):
        file = f"notebooks/{row['notebook']}.ipynb"
        first = json.loads((ROOT / file).read_text(encoding="utf-8"))["cells"][0]["source"]
        question = " ".join(re.search(r"\*\*(.*?)\*\*", "".join(first), re.DOTALL)[1].split())
        thumbnail = f"docs/img/{row['notebook'][:2]}.png"
        shown = f"![]({thumbnail})" if (ROOT / thumbnail).exists() else ""
        executed = f"results/reference/{file}"
        link = f"[executed]({executed})" if (ROOT / executed).exists() else ""
        rows.append([shown, f"[{row['notebook'][:2]}]({file})", question, row["minutes"], link])
    return table(["", "notebook", "its question", "minutes", "with outputs"], rows)


def study() -> str:
    """The study on GSM-Symbolic, all methods, and MENTOR minus each of the others."""
    columns = {f"accuracy, {words}": ("correct", split) for split, words in SPLITS.items()}
    columns |= {"set match": ("set_match", "in_domain"),
                "unknown-tool rate": ("unknown_tool", "in_domain"),
                "1 - JSD": ("similarity", "in_domain")}
    differences = read(GSM, "differences")
    rows = [[f"MENTOR - {label(m)}", *(difference(differences, split, m) for split in SPLITS)]
            for m in ALL if m != "mentor"]
    return ("Means of five seeds; the last three columns are in domain; 200 items a split.\n\n"
            + method_table(GSM, ALL, columns)
            + "\nDifferences of accuracy in points, with 95% paired bootstrap intervals over "
            "items. An\ninterval that holds 0 supports no difference.\n\n"
            + table(["", *SPLITS.values()], rows))


def difference(rows: list[dict[str, str]], split: str, other: str) -> str:
    return interval(next(r for r in rows if r["split"] == split and r["other"] == other))


def interval(row: dict[str, str]) -> str:
    """+4.6 [1.9, 7.3], in points"""
    value, low, high = (100 * float(row[name]) for name in ("estimate", "low", "high"))
    return f"{value:+.1f} [{low:.1f}, {high:.1f}]"


def verdict(row: dict[str, str]) -> str:
    """supported: +4.6 [1.9, 7.3]"""
    return f"{row['verdict']}: {interval(row)}"


def stories() -> str:
    columns = {"accuracy, in domain": ("correct", "in_domain"),
               "set match": ("set_match", "in_domain")}
    return method_table("demo-stories", MAIN, columns)


def broad(study: str) -> str:
    """Accuracy by split after a broad cold start; then the claims, judged over cold starts."""
    rows = read(study, "main_table")
    columns = {split_label(r["split"]): ("correct", r["split"]) for r in rows}
    judged = [r for r in read(study, "claims") if r["metric"] == "correct"]
    seeds = listed_range({int(r["seeds"]) for r in judged if r["seeds"]})
    told: dict[str, dict[str, str]] = {}
    for row in judged:
        told.setdefault(row["claim"], {})[row["split"]] = verdict(row)
    methods = tuple(m for m in MAIN if any(r["method"] == m for r in rows))
    return (f"Means over {seeds} cold starts:\n\n" + method_table(study, methods, columns)
            + "\n" + table(["claim", *HOME_AND_AWAY.values()],
                           [[claim, *(by_split.get(s, "") for s in HOME_AND_AWAY)]
                            for claim, by_split in told.items()]))


def rivals() -> str:
    """Accuracy and cost of each method from each cold start's level; means over cold starts."""
    if not (REFERENCE / "rivals").is_dir():
        return "`params/rivals.yaml` was not run to its end yet: no numbers.\n"
    found: dict[tuple[str, str], dict[str, list[dict[str, str]]]] = {}
    for row in read("rivals", "students"):
        by_teacher = found.setdefault((row["level"], row["method"]), {})
        by_teacher.setdefault(row["teacher"], []).append(row)
    order = (TEACHER_LEVEL, *LEVELS)
    rows = []
    for (level, method), by_teacher in sorted(found.items(), key=lambda c: order.index(c[0][0])):
        counts = {len(students) for students in by_teacher.values()}
        rows.append([level, label(method),
                     "" if method == WHITE_BOX else listed_range(counts),
                     *(" / ".join(dict.fromkeys(say(mean_of(students, name))
                                           for students in by_teacher.values()))
                       for name, say in COLUMNS.items())])
    return ("Means over cold starts; with two numbers, from references of the clean and of the "
            "quirky teacher.\n128 items a split; out of domain is the mean of eight splits. Level "
            "`clean`: the white-box teacher.\n\n"
            + table(["level", "method", "cold starts",
                     *(name.replace("_", " ") for name in COLUMNS)], rows))


def mean_of(rows: list[dict[str, str]], name: str) -> float:
    return sum(float(row[name]) for row in rows) / len(rows)


def evidence(method: str) -> str:
    """One method of the rivals' study minus MENTOR, in and out of domain, a column a condition."""
    if not (REFERENCE / "rivals").is_dir():
        return "No results of `params/rivals.yaml` yet.\n"
    rows = [r for r in read("rivals", "differences") if r["method"] == method]
    columns = list(dict.fromkeys((r["cold_start_level"], float(r["quirk"])) for r in rows))
    found = {(r["cold_start_level"], float(r["quirk"]), r["split"]): r for r in rows}
    seeds = listed_range({int(r["seeds"]) for r in rows})
    return (f"Minus MENTOR in points, {seeds} cold starts, 95% intervals over cold starts and "
            "items:\n\n"
            + table(["", *(f"{level}, {DOSES[dose]} teacher" for level, dose in columns)],
                    [[words, *(interval(found[(*c, split)]) for c in columns)]
                     for split, words in HOME_AND_AWAY.items()]))


def listed_range(numbers: set[int]) -> str:
    """3, or 1 to 3."""
    return " to ".join(str(n) for n in sorted({min(numbers), max(numbers)}))


COLUMNS = {"in_domain": short, "out_of_domain": short, "sampled_tokens": "{:,.0f}".format,
           "teacher_tokens": "{:,.0f}".format, "teacher_forwards": "{:,.0f}".format}
BLOCKS: dict[str, Callable[[], str]] = {"headline": headline, "notebooks": notebooks,
                                        "study": study, "regimes": regimes, "doses": doses,
                                        "long": partial(regimes, "regime-map-long"),
                                        "references": references, "sampled": sampled,
                                        "broad_gsm": partial(broad, "broad-gsm"),
                                        "broad_stories": partial(broad, "broad-stories"),
                                        "stories": stories, "rivals": rivals,
                                        **{f"evidence_{m}": partial(evidence, m) for m in RIVALS}}


def filled(text: str) -> str:
    """The text with every marked block written anew."""
    return BLOCK.sub(lambda found: found[1] + BLOCKS[found[2]]() + found[3], text)


def main() -> int:
    stale = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            stale.append(str(page.relative_to(ROOT)))
            if "--check" not in sys.argv:
                page.write_text(filled(text), encoding="utf-8")
    if stale:
        print("not up to date:" if "--check" in sys.argv else "written:", *stale)
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
