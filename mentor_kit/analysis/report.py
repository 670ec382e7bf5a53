"""Everything a paper takes from a study: figures, tables, macros, captions and a contact sheet.

    mentor-kit figures results/demo

The same results give the same bytes. What cannot be drawn from them (one seed, no data sizes, ...)
is named with its reason in the contact sheet. Wall times are the one exception to "same parameters,
same bytes": they are in `wall_times.csv` and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from mentor_kit.analysis import figures, findings
from mentor_kit.analysis.claims import answer, claims_table
from mentor_kit.analysis.figures import STUDY_FIGURES
from mentor_kit.analysis.findings import study_findings
from mentor_kit.analysis.frame import Results, load_results
from mentor_kit.analysis.macros import numbers_tex
from mentor_kit.analysis.sentences import Finding
from mentor_kit.analysis.style import Picture, savefig, show
from mentor_kit.analysis.tables import (
    Table,
    budget_table,
    difference_table,
    main_table,
    process_table,
    summary_markdown,
)
from mentor_kit.errors import UserError
from mentor_kit.runs.files import write_atomic

WALL_TIMES = "wall_times.csv"
STUDY_TABLES: dict[str, Callable[[Results], Table]] = {
    "main_table": lambda r: main_table(r.main_items),
    "claims": lambda r: claims_table(r.items),
    "differences": lambda r: difference_table(r.main_items),
    "process": lambda r: process_table(r.main_items),
    "budgets": lambda r: budget_table(r.budgets),
}
STUDY_TEXTS: dict[str, Callable[[Results], str]] = {
    "numbers.tex": lambda r: numbers_tex(r.main_items),
    "summary.md": lambda r: f"{summary_markdown(r.main_items)}\n" + "".join(
        f"- {line}\n" for line in answer(r.items).splitlines()),
    "findings.md": lambda r: study_findings(r),
}
CONDITIONS = ("regime_map", "quirk_dose", "data_scaling", "sampled_and_greedy",
              "groups_with_signal")
SHEET = Path(__file__).with_name("contact_sheet.html.jinja")


def write_report(results: Results | Path | str | Iterable[Path | str],
                 out_dir: Path | str) -> list[Path]:
    """Make every figure and table that the results allow; returns the paths written, in order.

    Args:
        results: loaded results, a results folder, or run folders. Several studies get a subfolder
            each.
        out_dir: where to write; files of an earlier report are replaced.

    Raises:
        UserError: as `mentor_kit.analysis.frame.load_results`.
    """
    if not isinstance(results, Results):
        results = load_results(results)
    if len(results.studies) > 1:
        return [path for study in results.studies
                for path in _write_study(results.of_study(study), Path(out_dir) / study)]
    return _write_study(results, Path(out_dir))


def show_conditions(results: Results) -> Finding:
    """Show every figure of `mentor_kit.analysis.regimes` that the results allow, with its sentence;
    returns why the others cannot be drawn."""
    absent = []
    for name in CONDITIONS:
        data = results.curves if name == "groups_with_signal" else results.items
        try:
            show(getattr(figures, name)(data))
            show(getattr(findings, name)(data))
        except UserError as reason:
            absent.append(f"Not drawn, {name.replace('_', ' ')}: {reason}")
    return Finding("\n".join(absent))


def _write_study(results: Results, out: Path) -> list[Path]:
    missing: dict[str, str] = {}
    figures: dict[str, Picture] = _made(STUDY_FIGURES, results, missing)
    tables: dict[str, Table] = _made(STUDY_TABLES, results, missing)
    texts: dict[str, str] = _made(STUDY_TEXTS, results, missing)
    paths = [path for name, drawn in figures.items() for path in savefig(drawn.figure, out / name)]
    for name, table in tables.items():
        for kind, text in (("tex", table.to_latex()), ("csv", table.to_csv()),
                           ("html", table.to_html())):
            paths.append(write_atomic(out / f"{name}.{kind}", text))
    paths += [write_atomic(out / name, text) for name, text in texts.items()]
    for name in missing:  # from an earlier report of other results
        for kind in (".pdf", ".png", ".tex", ".csv", ".html", ""):
            (out / f"{name}{kind}").unlink(missing_ok=True)
    captions = {"figures": {n: p.caption for n, p in figures.items()},
                "tables": {n: t.caption for n, t in tables.items()}, "not_drawn": missing}
    paths.append(write_atomic(out / "captions.json",
                              json.dumps(captions, indent=1, ensure_ascii=False) + "\n"))
    sheet = _contact_sheet(results, captions, tables, texts)
    paths.append(write_atomic(out / "figures.html", sheet))
    paths.append(write_atomic(out / WALL_TIMES,
                              wall_times(results).to_csv(index=False, lineterminator="\n")))
    return paths


def _made(makers: dict[str, Callable], results: Results, missing: dict[str, str]) -> dict:
    """What can be made of these results; the reason of each that cannot goes into `missing`."""
    made = {}
    for name, make in makers.items():
        try:
            made[name] = make(results)
        except UserError as reason:
            missing[name] = str(reason)
    return made


def wall_times(results: Results) -> pd.DataFrame:
    """Seconds by stage, method, seed and timed name."""
    return results.wall_times[["study", "stage", "key", "method", "seed", "name", "seconds"]]


def _contact_sheet(results: Results, captions: dict[str, dict[str, str]],
                   tables: dict[str, Table], texts: dict[str, str]) -> str:
    from jinja2 import Template

    template = Template(SHEET.read_text(encoding="utf-8"), autoescape=True, trim_blocks=True)
    return template.render(title=", ".join(results.studies), runs=len(results.runs),
                           unfinished=results.unfinished, tables=tables,
                           files=[*texts, "captions.json", WALL_TIMES], figures=captions["figures"],
                           answer=answer(results.items)._repr_html_() if texts else "",
                           not_drawn=captions["not_drawn"]) + "\n"
