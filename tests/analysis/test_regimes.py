"""Conditions of runs, which of them are compared, and the figures and sentences about them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from legible import assert_legible, texts
from synthetic_results import student_record, teacher_record, write_run

from mentor_kit.analysis import conditions, figures, findings, report
from mentor_kit.analysis.conditions import HOPS, LEVEL, QUIRK, SIZE, TEMPERATURE
from mentor_kit.analysis.frame import load_results
from mentor_kit.errors import UserError

QUIRKY = {"teacher": "quirky", "teacher_options": ["repeat:0.25", "reasoning:none"]}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The clean questions, a quirky teacher, one cold start; every student is asked the clean
    questions."""
    root = tmp_path_factory.mktemp("regimes")
    asked = {"teacher": "worked_solution", "problem_options": ["hops:2-3"],
             "split_sizes": ["train:64", "in_domain:2"]}
    clean = write_run(root, "demo", "questions", asked)
    quirky = write_run(root, "demo", "collect", asked | QUIRKY)
    start = write_run(root, "demo", "cold_start",
                      {"method": "cold_start", "seed": 0, "cold_start_level": "hard"},
                      inputs={"teacher_run": clean})
    students = [start]
    for stage, method, teacher in (("train", "sparse", quirky), ("train", "mentor", quirky),
                                   ("train", "sft", quirky), ("train_clean", "sft", clean)):
        # `fixed` gives every stage the study's level: that of the cold start holds
        params = {"method": method, "seed": 0, "cold_start_level": "mid", "references": 16}
        metrics = [{"step": step, "reward": 0.5, "frac_reward_zero_std": 0.25,
                    "varies/answer_right": 0.5} for step in (1, 2)] if method != "sft" else ()
        students.append(write_run(root, "demo", stage, params, metrics=metrics,
                                  inputs={"teacher_run": teacher, "start_run": start}))
    for student in students:
        method = student.params["method"]
        records = [student_record(teacher_record("in_domain", i), method,
                                  np.random.default_rng(i)) for i in range(2)]
        for temperature in (0.0, 1.0):
            write_run(root, "demo", "evaluate", {"seed": 0, "temperature": temperature},
                      inputs={"teacher_run": clean, "student_run": student}, records=records)
    return load_results(root)


def test_conditions_are_those_of_the_student_not_of_who_asks_it(results):
    items = results.items[results.items["temperature"] == 0].drop_duplicates(["method", QUIRK])
    found = {(row["method"], row[QUIRK]): row for _, row in items.iterrows()
             if not pd.isna(row[QUIRK])}
    assert set(found) == {("mentor", 0.25), ("sft", 0.25), ("sft", 0.0)}
    assert items.loc[items[QUIRK].isna(), "method"].tolist() == ["cold_start", "sparse"]
    assert set(items[LEVEL]) == {"hard"} and set(items[HOPS]) == {"2-3"}
    sizes = items.set_index("method")[SIZE]
    assert set(sizes[["sparse", "mentor", "sft"]]) == {16} and np.isnan(sizes["cold_start"])
    assert set(results.items[TEMPERATURE]) == {0.0, 1.0}
    assert results.curves[TEMPERATURE].isna().all()


def test_main_items_are_greedy_and_show_sft_on_the_clean_teacher_beside(results):
    items = results.main_items
    assert items.groupby("method").size().to_dict() == dict.fromkeys(
        ("cold_start", "mentor", "sft", "sft_clean", "sparse"), 2)
    assert set(items[TEMPERATURE]) == {0.0}
    held = conditions.held_text(items)
    assert held == ("Held: cold start hard, quirky teacher (dose 0.25), 16 references, prompts of "
                    "2-3 calls, greedy.")
    picture = figures.accuracy_by_split(items)
    assert held in picture.caption and "SFT on a clean teacher's trajectories" in picture.caption


def test_one_seed_draws_and_says_so(results):
    picture = figures.sampled_and_greedy(results.items)
    assert "over items: one cold start" in picture.caption
    signal = findings.groups_with_signal(results.curves)
    assert signal == ("Cold start hard: groups whose rewards differ in the first fifth of the "
                      "steps (one seed a method): Sparse RL 75% (50% by right and wrong answers); "
                      "MENTOR 75% (50% by right and wrong answers).")
    assert "To compare methods, 3 seeds are needed" in findings.answer(results.items)
    told = report.show_conditions(results)
    assert told.startswith("Not drawn, regime map: ") and "quirk dose" not in told
    with pytest.raises(UserError, match="cold_start_level"):
        figures.regime_map(results.items)


# A made-up study as a frame ---------------------------------------------------------------------

RIGHT = {"mid": {"cold_start": 0.2, "sft": 0.9, "sparse": 0.9, "mentor": 0.8, "strict": 0.8},
         "hard": {"cold_start": 0.1, "sft": 0.9, "sparse": 0.6, "mentor": 0.4, "strict": 0.1}}


def rows_of(level: str, method: str, quirk: float, size: float = 64, temperature: float = 0.0,
            n: int = 10) -> list[dict]:
    """Items of three seeds, as many of them right as the table says; half of them where SFT has a
    quirky teacher."""
    right = RIGHT[level][method] * (0.5 if method == "sft" and quirk else 1)
    return [{"study": "s", "method": method, "seed": seed, "split": split,
             "problem_id": f"{split}/{i}", "correct": i < right * n, "set_match": True,
             "unknown_tool": False, "tools": ("add",), "teacher_tools": ("add",),
             SIZE: size, LEVEL: level, QUIRK: quirk, HOPS: "2-3", TEMPERATURE: temperature}
            for seed in range(3) for split in ("in_domain", "longer") for i in range(n)]


@pytest.fixture(scope="module")
def reference() -> pd.DataFrame:
    rows = []
    for level, methods in RIGHT.items():
        for method in methods:
            alone = method in ("cold_start", "sparse")
            for quirk in (np.nan,) if alone else (0.0, 0.5):
                rows += rows_of(level, method, quirk)
            rows += rows_of(level, method, np.nan if alone else 0.5, temperature=1.0)
    for size in (16, 512):
        rows += rows_of("mid", "sft", 0.0, size) + rows_of("mid", "sparse", np.nan, size)
    return pd.DataFrame(rows).astype({SIZE: float})


@pytest.mark.parametrize("name", ["regime_map", "quirk_dose", "data_scaling",
                                  "sampled_and_greedy"])
def test_figures_of_conditions_are_legible_and_say_what_intervals_are_over(reference, name):
    picture = getattr(figures, name)(reference)
    assert_legible(picture.figure)
    assert "95% intervals over cold starts and items" in picture.caption
    assert "3 seeds a method" in picture.caption


def test_the_regime_map_has_a_number_a_cell_for_both_teachers(reference):
    figure = figures.regime_map(reference).figure
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["In domain, clean teacher", "Out of domain, clean teacher",
                      "In domain, quirky teacher (dose 0.5)",
                      "Out of domain, quirky teacher (dose 0.5)"]
    for axes, sft in zip(figure.axes, (".90", ".90", ".40", ".40"), strict=True):
        shown = [t.get_text() for t in axes.texts]
        assert len(shown) == 2 * 2 * 5 and sft in shown
    assert findings.regime_map(reference).splitlines()[1].startswith(
        "Most accurate in domain by cold start, quirky teacher (dose 0.5) (3 seeds a method): mid "
        "Sparse RL 90.0%")


def test_doses_and_sizes_are_drawn_at_the_values_most_methods_share(reference):
    assert "Held: cold start mid, 64 references" in figures.quirk_dose(reference).caption
    sizes = figures.data_scaling(reference)
    assert "16" in [t.get_text() for t in texts(sizes.figure)]
    told = findings.quirk_dose(reference)
    assert told.startswith("In domain (10 items, 3 seeds a method), SFT from 90.0% [")
    assert "with dose 0 to 50.0% [" in told
    assert "SFT from 90.0%" in findings.data_scaling(reference)


def test_the_main_cell_is_that_of_most_methods(reference):
    cell = conditions.main_cell(reference)
    assert cell == {SIZE: 64, LEVEL: "mid", QUIRK: 0.5, HOPS: "2-3", TEMPERATURE: 0.0}
    some = reference[(reference["method"] != "mentor") | (reference[LEVEL] == "hard")]
    assert conditions.main_cell(some)[LEVEL] == "hard"
    lonely = reference[(reference["method"] != "mentor") | (reference[QUIRK] == 0)]
    assert (conditions.at_main(lonely)["method"] == "mentor").any()  # at its own conditions


def test_a_study_that_varies_a_teacherless_method_with_the_teacher_keeps_its_runs_apart():
    rows = rows_of("mid", "sparse", 0.0) + rows_of("mid", "sparse", 0.5)
    assert set(conditions.without_teacher(pd.DataFrame(rows))[QUIRK]) == {0.0, 0.5}
    assert conditions.without_teacher(pd.DataFrame(rows[:60]))[QUIRK].isna().all()


def test_without_results_or_conditions_there_is_one_clear_line(reference):
    plain = reference[(reference[LEVEL] == "mid") & (reference[SIZE] == 64)
                      & (reference[QUIRK] != 0) & (reference[TEMPERATURE] == 0)]
    for name in ("regime_map", "quirk_dose", "data_scaling", "sampled_and_greedy"):
        for draw in (getattr(figures, name), getattr(findings, name)):
            with pytest.raises(UserError):
                draw(plain)
            with pytest.raises(UserError):
                draw(reference.iloc[:0])
