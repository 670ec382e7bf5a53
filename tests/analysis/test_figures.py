"""Frames, figures, tables and the report, on a made-up study of real runs."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from legible import assert_legible, texts
from matplotlib.colors import to_hex
from other_process import printed_by
from synthetic_results import (
    SPLITS,
    curve_rows,
    student_record,
    teacher_record,
    write_run,
    write_study,
)

from mentor_kit.analysis import figures as f
from mentor_kit.analysis import style, summaries, tables
from mentor_kit.analysis.frame import load_results
from mentor_kit.analysis.macros import macro_name, numbers_tex
from mentor_kit.analysis.report import WALL_TIMES, write_report
from mentor_kit.errors import UserError
from mentor_kit.metrics.trajectories import tool_counts, tool_similarity

METHODS = ("cold_start", "cold_start_constrained", "sft", "sparse", "mentor")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two seeds, the demo's methods."""
    return write_study(tmp_path_factory.mktemp("two"), METHODS, seeds=(0, 1), items=8, steps=20)


@pytest.fixture(scope="module")
def results(folder):
    return load_results(folder)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One seed, SFT missing."""
    return load_results(write_study(tmp_path_factory.mktemp("one"), ("cold_start", "mentor"),
                                    seeds=(0,), items=6, steps=20))


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    """Two seeds at three data sizes, and a method of one's own."""
    root = tmp_path_factory.mktemp("sizes")
    return load_results(write_study(root, ("cold_start", "mentor"), seeds=(0, 1), items=6, steps=20,
                                    sizes=(32, 128, 512)))


@pytest.fixture(scope="module")
def attempts():
    made = [teacher_record("train", i, i % 30) for i in range(90)]
    return [(r.problem, i % 7 > 0 and i % 30 != 4, "accepted" if i % 7 and i % 30 != 4 else
             ("needs_floor", "ungrounded_argument")[i % 2], r.trajectory) for i,
            r in enumerate(made)]


def rewards():
    return pd.DataFrame({"sparse": [1, 0.1, 0.0], "mentor": [1.1, 0.16, 0.1],
                         "set_f1": [1.1, 0.16, 0.05]},
                        index=["perfect", "wrong answer, right tools", "no box"])


# ----------------------------------------------------------------------------------------------

def test_frames_hold_one_row_a_run_a_step_and_an_item(results):
    assert results.studies == ["demo"]
    assert results.runs.groupby("stage").size().to_dict() == {"collect": 1, "evaluate": 8,
                                                              "evaluate_constrained": 2,
                                                              "train": 6}
    assert len(results.items) == len(METHODS) * 2 * len(SPLITS) * 8
    assert set(results.training["method"]) == {"sft", "sparse", "mentor"}
    assert len(results.training) == 3 * 2 * (21 + 3)  # every step, and three validations
    assert set(results.budgets["optimizer_steps"]) == {20}
    assert results.wall_times["seconds"].sum() == 3 * (95 + 96)


def test_items_carry_the_records_own_method_and_metrics(results):
    rng = np.random.default_rng([0, len("mentor"), 0])
    records = [student_record(teacher_record(s, i, i % 7), "mentor", rng) for s in SPLITS
               for i in range(8)]
    items = results.items.query("method == 'mentor' and seed == 0")
    assert items["problem_id"].tolist() == [r.problem.id for r in records]
    assert items["correct"].tolist() == [r.trajectory.meta["correct"] for r in records]
    assert items.loc[items["split"] == "teacher_rejected", "teacher_tools"].isna().all()


def test_teacher_counts_take_each_problem_once(results):
    wanted = [teacher_record(s, i).reference for s in SPLITS for i in range(8)
              if s != "teacher_rejected"]
    assert results.teacher_counts == tool_counts(wanted,
                                                 ["multiply", "add", "subtract", "sum_numbers",
                                                  "divide"])


def test_data_size_is_that_of_the_collection_a_run_goes_back_to(sizes):
    assert set(sizes.items["train_size"]) == {32, 128, 512}
    assert set(sizes.main_items["train_size"]) == set(sizes.training["train_size"]) == {512}


def test_unfinished_runs_are_left_out_and_counted_interactive_ones_left_out(tmp_path):
    write_study(tmp_path, ("cold_start",), seeds=(0,), items=1)
    for place in ("demo/train/stopped", "interactive/train/mine", "demo/figures/this"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "params.yaml").write_text("{}")
    results = load_results(tmp_path)
    assert results.unfinished == 1 and set(results.runs["study"]) == {"demo"}
    runs = [r.folder for r in results.runs.itertuples()]
    assert load_results(runs).items.equals(results.items)


def test_a_run_that_is_there_twice_is_refused(tmp_path):
    write_study(tmp_path, ("mentor",), seeds=(0,), items=1)
    write_run(tmp_path, "demo", "train", {"method": "mentor", "seed": 0, "steps": 7},
              metrics=curve_rows("mentor", 0, 5))
    with pytest.raises(UserError, match=r"'mentor', seed 0 .* there twice \(runs \w+, \w+\)"):
        load_results(tmp_path)


def test_missing_empty_and_damaged_results_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="No results folder"):
        load_results(tmp_path / "nowhere")
    with pytest.raises(UserError, match="No finished run"):
        load_results(tmp_path)
    run = write_run(tmp_path, "demo", "train", {"method": "mentor"}, metrics=[{"step": 1}])
    (run.dir / "metrics.jsonl").write_text('{"stap": \n')
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        load_results(tmp_path)


# ----------------------------------------------------------------------------------------------

def test_item_values_are_means_over_seeds_and_a_short_run_shrinks_nobody_elses():
    items = pd.DataFrame([("a", 0, "p", 1), ("a", 1, "p", 0), ("b", 0, "p", 1), ("a", 0, "q", 1)],
                         columns=["method", "seed", "problem_id",
                                  "correct"]).assign(split="in_domain")
    assert summaries.per_item(items, "correct")["a"].to_dict() == {"p": 0.5, "q": 1.0}
    rows = summaries.metric_intervals(items, "correct").set_index("method")
    assert rows["n"].to_dict() == {"a": 2, "b": 1} and rows.loc["a", "estimate"] == 0.75
    assert summaries.fewer_items_text(rows.reset_index()) == (
        "Fewer items than others: B 1 of 2 (in domain).")
    assert summaries.paired_difference(items, "correct", "b", "a").estimate == 0.5
    assert summaries.paired_difference(items, "correct", "b", "c") is None


def test_pooled_similarity_of_a_frame_is_that_of_its_records(results):
    items = results.items.query("method == 'cold_start' and split == 'in_domain' and seed == 0")
    teacher, student = (Counter(n for names in items[c] for n in names)
                        for c in ("teacher_tools", "tools"))
    assert summaries.pooled_similarity(items) == pytest.approx(tool_similarity(teacher, student))
    row = summaries.similarity_intervals(items).iloc[0]
    assert row["low"] < row["estimate"] < row["high"] and row["n"] == 8


def test_out_of_domain_is_every_shifted_split_and_not_what_the_teacher_rejected(results):
    pooled = summaries.in_and_out(results.items)
    assert (pooled["split"] == "out_of_domain").sum() == len(METHODS) * 2 * 8 * (len(SPLITS) - 2)


# ----------------------------------------------------------------------------------------------

def drawn(results, attempts):
    own = results.main_items.assign(
        method=results.main_items["method"].replace({"sparse": "my_own reward"})
    )
    training = results.training
    return {
        "training_curves": f.training_curves(training), "reward_terms": f.reward_terms(training),
        "accuracy_by_split": f.accuracy_by_split(results.main_items),
        "similarity_vs_accuracy": f.similarity_vs_accuracy(results.main_items),
        "tool_usage": f.tool_usage(results.main_items),
        "ablation_bars": f.ablation_bars(results.main_items),
        "seeds_summary": f.seeds_summary(results.main_items), "own": f.accuracy_by_split(own),
        "teacher_yield": f.teacher_yield(attempts), "tool_histogram": f.tool_histogram(attempts),
        "tool_transitions": f.tool_transitions(attempts),
        "reward_heatmap": f.reward_heatmap(rewards()),
        "reward_distribution": f.reward_distribution(rewards()),
        "advantage_bars": f.advantage_bars({"one right": [1, 0.1, 0.1, 0.1, 0.1],
                                            "all wrong": [0.16, 0.1, 0.1]})}


def test_every_figure_is_legible_at_print_size_and_has_a_caption(results, attempts, sizes):
    pictures = drawn(results, attempts) | {"data_scaling": f.data_scaling(sizes.items)}
    for name, (figure, caption) in pictures.items():
        assert style.SINGLE <= figure.get_figwidth() <= style.TEXT + 1e-9, name
        assert len(caption) > 60 and "\n" not in caption and "  " not in caption, name
        assert_legible(figure)


def test_a_student_that_can_do_nothing_is_drawn_too(single):
    items = single.main_items.assign(correct=False, set_match=False,
                                     tools=[()] * len(single.main_items))
    curves = single.training.assign(reward=0.0, tool_calls=0.0, **{"val/similarity": 0.0})
    for draw, frame in ((f.accuracy_by_split, items), (f.similarity_vs_accuracy, items),
                        (f.tool_usage, items),
                        (f.ablation_bars, items), (f.training_curves, curves)):
        assert_legible(draw(frame).figure)


def test_captions_state_seeds_intervals_and_n(results, single):
    caption = f.accuracy_by_split(results.main_items).caption
    assert "2 seeds a method" in caption and "95% intervals over items" in caption
    assert "(n = 8)" in " ".join(t.get_text()
                                 for t in texts(f.accuracy_by_split(results.main_items).figure))
    assert "1 seed a method" in f.accuracy_by_split(single.main_items).caption


def bands(figure) -> int:
    return sum(len(ax.collections) for ax in figure.axes)


def test_bands_over_seeds_only_with_two_seeds(results, single):
    # two RL methods; SFT has validation only
    assert bands(f.training_curves(results.training).figure) == 8 * 2 + 4
    assert bands(f.training_curves(single.training).figure) == 0
    assert "no bands: one seed" in f.training_curves(single.training).caption
    with pytest.raises(UserError, match="at least two seeds"):
        f.seeds_summary(single.main_items)


def test_a_missing_method_is_said_in_figure_and_caption(single, results):
    note = "Not in these results: SFT, Sparse RL."
    for figure, caption in (f.training_curves(single.training),
                            f.accuracy_by_split(single.main_items),
                            f.similarity_vs_accuracy(single.main_items)):
        assert note in caption
        assert note in [t.get_text() for t in texts(figure)]
        assert_legible(figure)
    assert "Not in these results" not in f.accuracy_by_split(results.main_items).caption
    # a base model is where RL starts, too
    assert style.missing_note(["base", "sft", "sparse", "mentor"]) == ""


def test_bands_are_said_of_the_methods_that_have_them(results):
    curves = results.training.query("method != 'sparse' or seed == 0")
    caption = f.training_curves(curves).caption
    assert "bands: lowest to highest seed of SFT, MENTOR; one seed has no band" in caption
    assert "SFT: no training rollouts, so no line in the top row." in caption


def test_bands_of_a_crowd_are_left_out_above_and_the_caption_says_so(results):
    extra = [results.training.query("method == 'mentor'").assign(method=m)
             for m in ("any_overlap", "set_f1", "my:own")]
    figure, caption = f.training_curves(pd.concat([results.training, *extra]))
    assert bands(figure) == 4 * 6 and "bottom row only" in caption  # validation of six methods


def test_splits_at_the_floor_are_named_and_not_drawn(results):
    items = results.main_items
    many = pd.concat([items.assign(problem_id=items["problem_id"] + f"/{i}") for i in range(7)])
    figure, caption = f.accuracy_by_split(
        many.assign(correct=many["correct"] & (many["split"] != "longer_solutions"))
    )
    assert "longer solutions (at most 0.000)" in caption
    shown = [t.get_text().replace("\n", " ") for t in texts(figure)]
    assert "No method above 0.02 and not drawn: longer solutions." in shown
    assert len(figure.axes[0].get_xticks()) == len(SPLITS) - 1
    assert "Not drawn" not in f.accuracy_by_split(many.assign(correct=False)).caption


def test_a_reward_of_ones_own_goes_by_its_functions_name_unless_two_share_it():
    assert style.label("my_rewards:fewer_calls") == "Fewer calls"
    labels = {style.method_style(m, ("a:own", "b:own")).label for m in ("a:own", "b:own")}
    assert labels == {"a:own", "b:own"}


def test_turns_have_whole_ticks_and_name_only_what_occurs(attempts):
    passed = [a for a in attempts if a[1]]
    figure, caption = f.turns_histogram(passed)
    assert all(float(tick).is_integer() for tick in figure.axes[0].get_yticks())
    assert (
        "rejected" not in [t.get_text() for t in texts(figure)] and "of 0 rejected ones" in caption
    )
    assert_legible(f.turns_histogram(attempts).figure)


def test_yield_of_many_whole_templates_shows_the_largest(attempts):
    figure = f.teacher_yield([(p, True, "accepted", t) for p, _, _, t in attempts]).figure
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert len(labels) == 11 and labels[-1] == "20 others"


def test_one_colour_scale_for_all_heat_maps_of_rewards():
    low, high = (f.reward_heatmap(rewards() * factor).figure.axes[0].images[0].get_clim()
                 for factor in (0.1, 1))
    assert low == high


def test_a_method_without_a_curve_leaves_the_panel_and_says_so(single):
    curves = single.training.drop(columns="reward")
    assert "not logged" in [t.get_text() for t in texts(f.training_curves(curves).figure)]


def test_curves_are_means_over_seeds(results):
    line = next(ln for ln in f.training_curves(results.training).figure.axes[4].lines
                if ln.get_label() == "MENTOR")
    wanted = (
        results.training.query("method == 'mentor'").groupby("step")["val/accuracy"].mean().dropna()
    )
    assert np.allclose(line.get_ydata(), wanted) and list(line.get_xdata()) == [0, 10, 20]


def test_controls_are_level_lines_and_points_are_accuracies(results):
    axes = f.accuracy_by_split(results.main_items).figure.axes[0]
    levels = {to_hex(c.get_color()[0]): [s[0, 1] for s in c.get_segments()]
              for c in axes.collections
              if len(c.get_segments()) == len(SPLITS)
              and c.get_segments()[0][0, 1] == c.get_segments()[0][1, 1]}
    means = results.items.groupby(["method", "split"])["correct"].mean()
    order = summaries.ordered_splits(SPLITS)
    for method in ("sft", "cold_start_constrained"):
        assert np.allclose(levels[style.METHODS[method].color], means[method][order])


def test_paper_points_are_hollow_and_the_published_ones(results):
    paper = f.similarity_vs_accuracy(results.main_items).figure.axes[-1]
    assert {(ln.get_xdata()[0], ln.get_ydata()[0]) for ln in paper.lines} == {
        (0.479, 21.46), (0.447, 22.75), (0.868, 25.35), (0.886, 27.88)}
    assert {ln.get_markerfacecolor() for ln in paper.lines} == {"white"}
    assert "Qwen2.5-7B" in paper.get_title(loc="left") or "Qwen2.5-7B" in paper.get_title()


def test_stack_of_terms_ends_at_the_reward(results):
    figure = f.reward_terms(results.training).figure
    wanted = results.training.query("method == 'mentor'").groupby("step")["reward"].mean()
    mentor = next(ax for ax in figure.axes
                  if "MENTOR" in (ax.get_title(), ax.get_title(loc="left")))
    assert np.allclose(mentor.lines[-1].get_ydata(), wanted)


def test_run_curves_show_what_a_run_logged(results, tmp_path):
    run = write_run(tmp_path, "demo", "train", {"method": "sft", "seed": 3},
                    metrics=curve_rows("sft", 3, 20))
    figure, caption = f.run_curves(run)
    # loss and four of validation
    assert "seed 3" in caption and sum(ax.axison for ax in figure.axes) == 5
    assert_legible(figure)
    f.show(f.run_curves(run), run, "curves")
    assert (run.dir / "curves.png").stat().st_size > 5000
    empty = SimpleNamespace(params={}, inputs={}, stage="train", dir=tmp_path / "none")
    with pytest.raises(UserError, match="nothing to draw"):
        f.run_curves(empty)


def test_penalties_stack_downwards(results):
    curves = results.training.query("method == 'mentor'").assign(**{"term/gate": -0.2})
    axes = f.reward_terms(curves).figure.axes[0]
    assert axes.get_ylim()[0] <= -0.2


def test_yield_figure_counts_and_names_the_lowest_templates(attempts):
    figure, caption = f.teacher_yield(attempts)
    assert f"{sum(ok for _, ok, *_ in attempts)} of 90 attempts" in caption
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels[0] == "4" and labels[-1].endswith("others")


def test_empty_input_is_refused(results):
    nothing = results.items.iloc[:0]
    for draw in (f.accuracy_by_split, f.similarity_vs_accuracy, f.tool_usage, f.ablation_bars,
                 f.seeds_summary,
                 tables.main_table, tables.process_table):
        with pytest.raises(UserError):
            draw(nothing)
    for draw in (f.teacher_yield, f.tool_histogram, f.tool_transitions):
        with pytest.raises(UserError):
            draw([])
    with pytest.raises(UserError):
        f.training_curves(results.training.iloc[:0])


def test_colours_are_seaborns_colorblind_and_no_two_methods_look_alike():
    import seaborn

    assert list(style.COLORBLIND) == [c.lower()
                                      for c in seaborn.color_palette("colorblind").as_hex()]
    looks = [s[1:3] for m, s in style.METHODS.items() if m != "cold_start"]
    assert len(set(looks)) == len(looks)
    assert style.method_style("b", ["a", "b"]) != style.method_style("a", ["a", "b"])
    assert style.method_style("b", ["mentor", "a", "b"]).color == style.method_style("b",
                                                                                     ["b",
                                                                                      "a"]).color


def test_files_bear_no_date_no_version_and_editable_fonts(results, tmp_path):
    pdf, png = f.savefig(f.tool_usage(results.main_items).figure, tmp_path / "usage")
    assert b"/CreationDate" not in pdf.read_bytes() and b"/FontFile2" in pdf.read_bytes()
    assert b"Software" not in png.read_bytes() and b"tIME" not in png.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["usage.pdf", "usage.png"]


def test_a_picture_shows_itself_with_its_caption(results):
    shown = f.tool_usage(results.main_items)._repr_html_()
    assert "data:image/png;base64," in shown and "figcaption" in shown


# ----------------------------------------------------------------------------------------------

def test_main_table_has_the_teacher_and_bold_best_students(results):
    table = tables.main_table(results.main_items)
    assert list(table.cells.index) == ["Teacher", *(style.label(m) for m in METHODS)]
    accuracy = results.items.groupby(["split", "method"])["correct"].mean()
    assert table.cells.iloc[1, 0].startswith(f"{100 * accuracy['in_domain', 'cold_start']:.1f} [")
    best = table.best.iloc[:, 0]
    assert (
        best[best].index[0] == style.label(accuracy["in_domain"].idxmax())
        and not table.best.loc["Teacher"].any()
    )
    # rejected ones may be right
    assert table.cells.loc["Teacher"].tolist()[:6] == ["100.0"] * 5 + ["50.0"]
    assert "rejected ones included; 83% of the items have an accepted one" in table.caption
    assert "2 seeds a method" in table.caption and "n = 8 items" in table.caption


def test_a_main_table_without_any_reference_has_accuracies_only(single):
    items = single.main_items.assign(teacher_tools=None, set_match=None, teacher_correct=None)
    table = tables.main_table(items)
    assert "Teacher" not in table.cells.index
    assert (table.cells["Similarity to the teacher (%), in domain"] == "n/a").any().any()


def test_latex_is_booktabs_escaped_with_bold_cells(results):
    items = results.main_items.assign(
        method=results.main_items["method"].replace({"sparse": "50%_off"})
    )
    latex = tables.main_table(items).to_latex()
    assert all(rule in latex for rule in ("\\toprule", "\\midrule", "\\bottomrule", "\\textbf{"))
    assert "50\\% off" in latex and "Accuracy (\\%)" in latex
    body = "\n".join(line for line in latex.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[%_#]", body) and body.isascii()
    assert len({line.count("&") for line in body.splitlines() if line.endswith("\\\\")
                and "multicolumn" not in line}) == 1


def test_differences_are_paired_and_improvement_needs_two_seeds(results, single):
    table = tables.difference_table(results.main_items)
    found = summaries.paired_difference(results.items.query("split == 'in_domain'"), "correct",
                                        "mentor", "sft")
    assert table.cells.loc["SFT"].iloc[0] == tables.points(found)
    assert re.fullmatch(r"0\.\d\d \[.*\]|1\.00 \[.*\]", table.cells.loc["Cold start"].iloc[-1])
    assert tables.difference_table(single.main_items).cells.iloc[0, -1] == "n/a"


def test_budgets_are_printed_beside_each_other_without_wall_times(results):
    table = tables.budget_table(results.budgets)
    assert table.cells.loc["MENTOR"].tolist() == ["20", "90,000", "40,000"]
    assert table.cells.loc["SFT"].tolist() == ["20", "0", "40,000"]


def test_macros_have_names_of_letters_only(results):
    assert macro_name("set_f1", "in_domain", "accuracy") == "setFOneInDomainAccuracy"
    text = numbers_tex(results.main_items)
    names = re.findall(r"\\newcommand\{\\(.*?)\}\{", text)
    assert len(names) == len(set(names)) and all(re.fullmatch("[A-Za-z]+", n) for n in names)
    accuracy = results.items.query("method == 'mentor' and split == 'in_domain'")["correct"].mean()
    assert f"\\newcommand{{\\mentorInDomainAccuracy}}{{{100 * accuracy:.1f}}}" in text
    assert "\\newcommand{\\nSeedsMentor}{2}" in text and "\\mentorOutOfDomainAccuracyLow" in text


# ----------------------------------------------------------------------------------------------

def test_the_report_is_byte_identical_in_another_process(folder, tmp_path):
    first = write_report(folder, tmp_path / "first")
    code = (
        "import sys; from mentor_kit.analysis.report import write_report; "
        f"write_report({str(folder)!r}, {str(tmp_path / 'second')!r}); "
        "assert not {'torch', 'trl', 'transformers'} & set(sys.modules), 'analysis imported training'"  # noqa: E501
    )
    env = os.environ | {"PYTHONHASHSEED": "7",
                        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    printed_by(code, "-W", "error::UserWarning", **env)
    for path in first:
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name
    assert sorted(p.name for p in first) == sorted(p.name for p in (tmp_path / "second").iterdir())


def test_the_report_names_what_it_cannot_draw_and_drops_stale_files(single, tmp_path):
    (tmp_path / "seeds_summary.pdf").touch()
    paths = write_report(single, tmp_path)
    assert not (tmp_path / "seeds_summary.pdf").exists()
    captions = json.loads((tmp_path / "captions.json").read_text())
    assert "two seeds" in captions["not_drawn"]["seeds_summary"]
    sheet = (tmp_path / "figures.html").read_text()
    links = set(re.findall(r'(?:href|src)="([^"#]+)"', sheet))
    assert all((tmp_path / link).is_file() for link in links) and "Not drawn" in sheet
    assert {p.name for p in paths} == {p.name for p in tmp_path.iterdir()}
    assert (tmp_path / WALL_TIMES).read_text().count("\n") == 2


def test_several_studies_get_a_folder_each(tmp_path):
    for study in ("a", "b"):
        write_study(tmp_path / "results", ("cold_start",), seeds=(0,), items=2, study=study)
    paths = write_report(tmp_path / "results", tmp_path / "out")
    assert {p.parent.name for p in paths} == {"a", "b"}


def test_all_methods_of_the_kit_fit_into_one_legend(results):
    methods = [m for m in style.METHODS if m != "teacher"]
    items = results.main_items.query("split == 'in_domain' and method == 'mentor'")
    crowd = pd.concat([items.assign(method=m) for m in methods], ignore_index=True)
    for draw in (f.accuracy_by_split, f.seeds_summary, f.similarity_vs_accuracy):
        assert_legible(draw(crowd).figure)
