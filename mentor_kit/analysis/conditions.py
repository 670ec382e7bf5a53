"""Under which conditions a student was trained and evaluated, and which of them belong together.

A condition is a parameter that a study may vary beside method and seed. It is read from the runs
that the student comes from, never from those that only ask it questions: a student trained on a
quirky teacher may be evaluated on a clean one's problems. A condition that a method does not have
(no references, no cold start of a level) is nan, and the method then stands beside every value.

- `train_size`: references that a method learnt from.
- `cold_start_level`: how often the student succeeds before fine-tuning (easy, mid, hard, vhard).
- `quirk`: the teacher's dose, its chance that a call is made twice; 0 for a clean teacher.
- `hops`: shortest and longest chain of calls that a prompt asks for.
- `temperature`: of the evaluation; 0 is greedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mentor_kit.analysis.summaries import IN_DOMAIN, in_and_out, refuse_empty
from mentor_kit.errors import UserError
from mentor_kit.runs.run import Run

SIZE, LEVEL, QUIRK, HOPS, TEMPERATURE = (
    "train_size", "cold_start_level", "quirk", "hops", "temperature")
CONDITIONS = (SIZE, LEVEL, QUIRK, HOPS, TEMPERATURE)
LEVELS = ("easy", "mid", "hard", "vhard")
DOSE = 0.5  # of the quirky teacher, where a study does not name another
# what these learn does not depend on the teacher
TEACHERLESS = ("base", "cold_start", "cold_start_constrained", "sparse", "no_tool_match", "opd",
               "rft", "dpo")
UNTRAINED = TEACHERLESS[:3]
CLEAN = "sft_clean"  # SFT on the clean teacher, beside methods that learn from a quirky one
# of equally many methods the value with the smallest rank is the main one
RANK: dict[str, Callable[[Any], float]] = {
    SIZE: lambda v: -v, LEVEL: lambda v: ("mid", *LEVELS).index(v) if v in LEVELS else 9,
    QUIRK: lambda v: abs(v - DOSE), HOPS: lambda v: 0, TEMPERATURE: lambda v: v}


def run_conditions(run: Run, load: Callable[[Path], Run]) -> dict[str, Any]:
    """The conditions of a run's student; `load` opens the run of a folder."""
    student = run
    while (before := _input(student, "student_run", load)) is not None:
        student = before
    teacher = _input(student, "teacher_run", load)
    asked = teacher.params if teacher else {}
    start = student  # a cold start may name a run, too, whose vocabulary it takes
    while start.params.get("method") != "cold_start" and (
            before := _input(start, "start_run", load)) is not None:
        start = before
    level = start.params.get("cold_start_level")
    quirk = float(_option(asked.get("teacher_options"), "repeat") or DOSE)
    return {SIZE: _train_size(student, asked), LEVEL: level or np.nan,
            QUIRK: quirk if asked.get("teacher") == "quirky" else 0.0,
            HOPS: _option(asked.get("problem_options"), "hops") or np.nan,
            TEMPERATURE: float(run.params.get("temperature", 0))
            if run.stage.startswith("evaluate") else np.nan}


def _input(run: Run, name: str, load: Callable[[Path], Run]) -> Run | None:
    named = run.inputs.get(name)
    folder = run.dir.parent.parent / named if isinstance(named, str) else None
    return load(folder) if folder is not None and (folder / "DONE").exists() else None


def _option(options: Sequence[str] | None, name: str) -> str:
    """The value of `name:value` in a list of options; "" where it is not there."""
    found = (str(option).partition(":") for option in options or ())
    return next((value.strip() for key, _, value in found if key.strip() == name), "")


def _train_size(student: Run, asked: dict[str, Any]) -> float:
    """`references` where a training was limited to so many, else N of `train:N` in its collection's
    split sizes, else nan."""
    if limited := student.params.get("references"):
        return float(limited)
    sizes = (re.fullmatch(r"train\s*[:=]\s*(\d+)", str(s)) for s in asked.get("split_sizes", ()))
    return next((float(match[1]) for match in sizes if match), float("nan"))


def without_teacher(frame: pd.DataFrame) -> pd.DataFrame:
    """The quirk of methods that do not read the teacher is nan, unless a study varies it for them;
    so is the number of references of untrained ones."""
    frame = frame.copy()
    for methods, column in ((TEACHERLESS, QUIRK), (UNTRAINED, SIZE)):
        rows = frame["method"].isin(methods)
        values = frame[rows].groupby(["study", "method"])[column].nunique()
        if rows.any() and values.max() <= 1:
            frame.loc[rows, column] = np.nan
    return frame


def cells(frame: pd.DataFrame, varying: Iterable[str]) -> list[dict[str, Any]]:
    """The combinations of these conditions for which there are results, in order."""
    names = [c for c in varying if frame[c].notna().any()]
    if not names:
        return [{}] if len(frame) else []
    found = frame[names].drop_duplicates()
    whole = found.dropna() if len(found.dropna()) else found
    rows = [{n: None if pd.isna(v) else v for n, v in zip(names, row, strict=True)}
            for row in whole.itertuples(index=False)]
    return sorted(rows, key=lambda cell: [_place(n, v) for n, v in cell.items()])


def _place(name: str, value: Any) -> tuple[float, str]:
    if name == LEVEL:
        return (LEVELS.index(value) if value in LEVELS else len(LEVELS), str(value))
    return (0, value) if isinstance(value, str) else (float(value), "")


def at(frame: pd.DataFrame, cell: dict[str, Any]) -> pd.DataFrame:
    """The rows of these conditions, and of the methods that do not have them."""
    kept = np.ones(len(frame), bool)
    for name, value in cell.items():
        kept &= ((frame[name] == value) | frame[name].isna()).to_numpy()
    return frame[kept]


def main_cell(frame: pd.DataFrame, varying: Sequence[str] = ()) -> dict[str, Any]:
    """The values of all other conditions that hold for most methods (and values of the varying
    conditions); of equally many the largest number of references, level mid, the dose nearest .5,
    and the lowest temperature."""
    names = [c for c in CONDITIONS if c not in varying]
    rows = frame[["method", *CONDITIONS]].drop_duplicates()

    def rank(cell: dict[str, Any]) -> tuple[float, ...]:
        covered = at(rows, cell)[["method", *varying]].drop_duplicates()
        return (-len(covered), *(RANK[n](v) for n, v in cell.items() if not pd.isna(v)))

    return min(cells(rows, names), key=rank, default={})


def at_main(frame: pd.DataFrame, varying: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of `main_cell`, study by study; of a method that has none there, those of its own.
    Where the teacher is quirky, SFT on a clean one stands beside the others as `sft_clean`."""
    kept = [frame.iloc[:0]]
    for _, study in frame.groupby("study"):
        cell = main_cell(study, varying)
        for _, rows in study.groupby("method"):
            here = at(rows, cell)
            kept.append(here if len(here) else at(rows, main_cell(rows, varying)))
        if cell.get(QUIRK):
            clean = at(study[study["method"] == "sft"], cell | {QUIRK: 0.0})
            kept.append(clean.assign(method=CLEAN))
    return pd.concat(kept).sort_index(kind="stable").reset_index(drop=True)


def condition_text(cell: dict[str, Any]) -> str:
    """`cold start mid, quirky teacher (dose 0.5), 64 references`; a value may be a tuple of
    several."""
    texts = []
    for name, words in WORDS.items():
        values = cell.get(name)
        values = [v for v in (values if isinstance(values, tuple) else (values,)) if not pd.isna(v)]
        if values:
            texts.append(words(values))
    return ", ".join(texts)


def _listed(values: Sequence[Any]) -> str:
    texts = [v if isinstance(v, str) else f"{v:g}" for v in values]
    return ", ".join(texts[:-1]) + " and " + texts[-1] if len(texts) > 1 else texts[0]


WORDS: dict[str, Callable[[list[Any]], str]] = {
    LEVEL: lambda v: f"cold start {_listed(v)}",
    QUIRK: lambda v: f"quirky teacher (dose {_listed(v)})" if any(v) else "clean teacher",
    SIZE: lambda v: f"{_listed(v)} references", HOPS: lambda v: f"prompts of {_listed(v)} calls",
    TEMPERATURE: lambda v: f"temperature {_listed(v)}" if any(v) else "greedy"}


def held_text(items: pd.DataFrame) -> str:
    """`Held: cold start mid, quirky teacher (dose 0.5), 64 references.`: what all rows share, where
    a study has cold starts of several levels to choose from; else ""."""
    if LEVEL not in items or items[LEVEL].isna().all():
        return ""
    learnt = items[items["method"] != CLEAN]
    shared = {c: learnt[c].dropna().iloc[0] for c in CONDITIONS if learnt[c].nunique() == 1}
    return f"Held: {condition_text(shared)}."


def levels_of(frame: pd.DataFrame) -> list[str]:
    """The levels of the cold start, easiest first."""
    found = set(frame[LEVEL].dropna())
    return [level for level in LEVELS if level in found]


def map_cells(items: pd.DataFrame) -> tuple[pd.DataFrame, list[float]]:
    """The items of the regime map, and the doses of the teacher that have several levels."""
    refuse_empty(items)
    items = in_and_out(at_main(items, (LEVEL, QUIRK)))
    if len(levels_of(items)) < 2:
        raise UserError("A regime map needs cold starts of at least two levels: put "
                        "cold_start_level into the study's grid.")
    several = items.groupby(QUIRK)[LEVEL].nunique()
    return items, sorted(several[several > 1].index) or [float("nan")]


def varying_items(items: pd.DataFrame, name: str) -> pd.DataFrame:
    """Items of methods with several values of a condition, and of those without it; other
    conditions at their main values."""
    refuse_empty(items)
    items = at_main(items, (name,))
    several = items.groupby("method")[name].nunique()
    if not (several > 1).any():
        raise UserError(f"No method of these results has two values of {name!r}: put it into the "
                        "study's grid.")
    return items[items["method"].map(several) != 1]


def decoded_items(items: pd.DataFrame) -> tuple[pd.DataFrame, list[float]]:
    """In-domain items of students that were evaluated at several temperatures, and these."""
    refuse_empty(items)
    items = at_main(items[items["split"] == IN_DOMAIN], (TEMPERATURE, LEVEL))
    warm = sorted(items[TEMPERATURE].dropna().unique())
    if len(warm) < 2:
        raise UserError("Sampled beside greedy needs evaluations at two temperatures.")
    items = items[items.groupby(["method", LEVEL], dropna=False)[TEMPERATURE].transform("nunique")
                  > 1]
    return items, warm
