"""README.md and docs/ say what is there: links, names, files, commands, parameters, messages,
numbers. No site tool is needed."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import sys
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import typer
import yaml
from synthetic_results import write_study
from test_layers import FLOORS

import mentor_kit
from mentor_kit.analysis.frame import load_results
from mentor_kit.batch.study import load_study
from mentor_kit.cli.app import commands
from mentor_kit.core.plugins import PROBLEM_SOURCES, TEACHERS, TOOLBOXES
from mentor_kit.core.records import load_records
from mentor_kit.evaluation.benchmarks.registry import benchmark_names
from mentor_kit.rewards import PRESETS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import fill  # noqa: E402  (scripts beside the pages)
import make_hero  # noqa: E402
import store_reference  # noqa: E402

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md", "params/README.md",
                                  "results/reference/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
PLACES = ("mentor_kit/", "tests/", "params/", "docs/", "notebooks/", "results/reference/", ".ci/")
MADE = ("my_problems.py", "my_rewards.py", "my_tools.py", "params/mine.yaml", "params/NAME.yaml")

NOT_OURS = {"PIP_EXTRA_INDEX_URL", "HF_HOME", "base_masked"}  # others' variables, an old name

pages = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    return FENCE.sub("", text(page))


def inline(page: Path) -> list[str]:
    """What stands in backticks; one that a line break divides is one."""
    return [" ".join(code.split()) for code in CODE.findall(prose(page))]


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(text(page)) if language in languages]


@cache
def source() -> str:
    """All code that a page may name something of."""
    files = [*(ROOT / "mentor_kit").rglob("*.py"), *(ROOT / "mentor_kit").rglob("*.yaml"),
             *(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "params").rglob("*.yaml"),
             *(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").glob("*.py")]
    found = "\n".join(file.read_text(encoding="utf-8") for file in files
                      if file != Path(__file__))
    return found + (ROOT / "pyproject.toml").read_text() + (ROOT / "Makefile").read_text()


def anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def test_the_pages_are_short():
    assert len(text(ROOT / "README.md").splitlines()) <= 150
    for page in (ROOT / "docs").glob("*.md"):
        assert len(text(page).splitlines()) <= 200, page.name


@pages
def test_lines_end_at_100_but_for_tables_and_commands(page):
    for number, line in enumerate(prose(page).splitlines(), 1):
        assert len(line) <= 100 or line.lstrip().startswith(("|", "![")), (number, line)


@pages
def test_links_lead_somewhere(page):
    for link in LINK.findall(prose(page)):
        if link.startswith("http"):
            continue
        path, _, part = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        if part:
            titles = re.findall(r"^#+ (.*)$", text(target), re.MULTILINE)
            assert part in map(anchor, titles), f"{link}: no such heading"


def test_every_page_is_in_the_navigation():
    site = yaml.safe_load(text(ROOT / "mkdocs.yml"))
    assert all((ROOT / page).is_file() for page in site["nav"])
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    assert pages <= set(site["nav"])


@pages
def test_files_that_are_named_exist(page):
    for code in inline(page):
        named = code.startswith(PLACES) and not re.search(r"[\s<…]|NAME|KEY", code)
        if named and code not in MADE:
            assert (ROOT / code).exists(), code


@pages
def test_objects_that_are_named_exist(page):
    for module, name in re.findall(r"\b(mentor_kit(?:\.\w+)+):(\w+)", text(page)):
        assert hasattr(importlib.import_module(module), name), f"{module}:{name}"
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)
        assert set(re.findall(r"\bmk\.(\w+)", block)) <= set(mentor_kit.__all__)


@pages
def test_names_in_backticks_are_used_somewhere(page):
    """A parameter, method, stage, column or function that was renamed is not found."""
    for code in inline(page):
        for name in re.findall(r"^(\w+)(?:$|[:=] ?\S)", code):
            snake_case = re.fullmatch(r"[a-z]+(_[a-z0-9]+)+|[A-Z]+(_[A-Z]+)+", name)
            if snake_case and name not in NOT_OURS:
                assert re.search(rf"\b{name}\b", source()), name


@pages
def test_commands_and_their_options_exist(page):
    known = typer.main.get_command(commands).commands
    lines = [*inline(page), *"\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()]
    for line in lines:
        command = re.search(r"\bmentor-kit ([a-z]+)\b(.*)", line.partition(" #")[0])
        if not command:
            continue
        assert command[1] in known, line
        options = {option for parameter in known[command[1]].params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--[\w-]+", command[2])) <= options, line


@pages
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    lines = [*inline(page), *"\n".join(blocks(page, "bash")).splitlines()]
    named = {found for line in lines for found in re.findall(r"\bmake ([a-z-]+)", line)}
    assert named <= targets


@pages
def test_parameters_of_the_examples_are_declared(page):
    declared = set(re.findall(r'^\s*"(\w+): \w+ = ', source(), re.MULTILINE))
    named = [name for line in blocks(page, "bash")
             for name in re.findall(r"--set (?:\w+\.)?(\w+)=", line)]
    for block in blocks(page, "yaml"):
        content = yaml.safe_load(block)
        if isinstance(content, dict) and not {"apiVersion"} & content.keys():
            flat = {} if {"name", "stages", "use"} & content.keys() else content
            named += [*flat, *content.get("fixed", {}), *content.get("grid", {})]
    assert set(named) <= declared | {"seeds"}


def test_what_is_built_in_is_on_its_page():
    for_benchmarks = {"question_set", "multihop", "bfcl"}
    for page, names in {"teachers.md": {*PROBLEM_SOURCES, *TEACHERS} - for_benchmarks,
                        "toolboxes.md": TOOLBOXES, "rewards.md": PRESETS,
                        "evaluation.md": benchmark_names()}.items():
        assert set(names) <= set(inline(ROOT / "docs" / page)), page


def test_the_messages_of_the_faq_are_in_the_code():
    messages = []
    for file in (ROOT / "mentor_kit").rglob("*.py"):
        for node in ast.walk(ast.parse(text(file))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…"
                         for part in node.values]
                messages.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                messages.append(node.value)
    shown = re.findall(r"^- \*\*`(.*?)`\*\*", text(ROOT / "docs" / "faq.md"), re.MULTILINE)
    assert len(shown) == 20
    for message in shown:
        assert any(message in written for written in messages), message


def test_the_floors_of_the_design_page_are_the_tested_ones():
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", text(ROOT / "docs" / "design.md"), re.MULTILINE)
    shown = [CODE.findall(rooms) for number, rooms in sorted(rows, key=lambda row: int(row[0]))]
    assert shown == FLOORS


def test_the_file_tree_names_every_room_and_no_other():
    tree = next(block for block in blocks(ROOT / "README.md", "") if "mentor_kit/\n" in block)
    rooms = {room for rooms in FLOORS for room in rooms} - {"errors"}
    assert rooms <= set(re.findall(r"\b(\w+)/", tree))
    assert len(tree.splitlines()) <= 20


def test_the_numbers_are_those_of_the_stored_tables():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert fill.filled(text(page)) == text(page), f"{page.name}: run `make readme`"


def test_the_hero_is_drawn_from_stored_results():
    folder = fill.REFERENCE / fill.HERO
    figure = make_hero.hero(load_records(folder / "before_after.parquet"),
                            pd.read_csv(folder / "curves.csv"))
    shown = " ".join(words.get_text() for axes in figure.axes for words in axes.texts)
    assert "✗ wrong" in shown and "✓ right" in shown
    assert (ROOT / "docs" / "hero.png").stat().st_size < 300_000


def test_a_study_is_stored_with_what_the_pages_need(tmp_path):
    write_study(tmp_path / "results", methods=("cold_start", "sft", "sparse", "mentor"),
                seeds=(0,), items=6, steps=10)
    store_reference.store(load_results(tmp_path / "results"), tmp_path)
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert list(curves) == ["method", "seed", "step", "accuracy", "set_match"]
    assert len(curves) == 3 * 2  # methods, validations
    before, after = load_records(tmp_path / "before_after.parquet")
    assert before.problem == after.problem
    assert not before.trajectory.meta["correct"] and after.trajectory.meta["correct"]
    assert make_hero.hero([before, after], curves).axes
    kept = {path.name for path in tmp_path.iterdir()}
    assert {"main_table.csv", "differences.csv", "summary.md", "numbers.tex"} <= kept
    assert "wall_times.csv" not in kept


def test_the_examples_of_a_study_are_studies(tmp_path, monkeypatch):
    """The readme's and the studies page's `mine`, with the reward that the readme shows."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    reward = next(b for b in blocks(ROOT / "README.md", "python") if "def fewer_calls" in b)
    (tmp_path / "my_rewards.py").write_text(reward)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)
    studies = [b for page in ("README.md", "docs/studies.md") for b in blocks(ROOT / page, "yaml")
               if b.startswith("name: mine")]
    assert len(studies) == 2
    for content in studies:
        file = tmp_path / "params" / "mine.yaml"
        file.write_text(content)
        assert load_study(file).jobs


def test_the_snippets_of_the_readme_have_at_most_five_lines():
    use = text(ROOT / "README.md").partition("## Use it")[2].partition("\n## ")[0]
    snippets = [body.strip().splitlines() for _, body in FENCE.findall(use)]
    assert len(snippets) == 5
    for lines in snippets:
        assert len([line for line in lines if line]) <= 5


def test_params_readme_lists_every_study():
    listed = re.findall(r"^\| `([\w.-]+\.yaml)`", text(ROOT / "params" / "README.md"),
                        re.MULTILINE)
    assert sorted(listed) == sorted(p.name for p in (ROOT / "params").glob("*.yaml"))
