"""Committed notebooks: stripped, thin, and with parameters that papermill, the configs and the
studies agree on."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import parameter_cells
import pytest

from mentor_kit.batch.params import LIST, SCALARS, declared_parameters
from mentor_kit.batch.preflight import CONFIGS, check_values
from mentor_kit.batch.study import load_study
from mentor_kit.runs.run import NOTEBOOK_VERSIONS, STAGE_NOTEBOOKS

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "params").glob("*.yaml"))


def path(name: str) -> Path:
    return ROOT / "notebooks" / f"{name}.ipynb"


def code_cells(name: str) -> list[dict]:
    return [c for c in json.loads(path(name).read_text())["cells"] if c["cell_type"] == "code"]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def parameters_cell(name: str) -> dict:
    found = [c for c in code_cells(name) if "parameters" in c["metadata"].get("tags", [])]
    assert len(found) == 1
    return found[0]


def test_the_five_notebooks_and_the_one_for_colab():
    found = sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb"))
    assert found == sorted([*CONFIGS, "colab"])
    assert set(NOTEBOOK_VERSIONS) == set(CONFIGS) == set(STAGE_NOTEBOOKS.values())


@pytest.mark.parametrize("name", CONFIGS)
def test_it_carries_no_outputs_and_a_portable_kernel(name):
    notebook = json.loads(path(name).read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in code_cells(name):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.parametrize("name", CONFIGS)
def test_it_opens_with_its_title_and_question(name):
    first = json.loads(path(name).read_text())["cells"][0]
    assert first["cell_type"] == "markdown"
    assert source(first).startswith(f"# {name[:2]} ")
    assert "?" in source(first)


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_flat_annotated_explained_and_seen_by_papermill(name):
    text = source(parameters_cell(name))
    declared = declared_parameters(path(name))
    assignments = ast.parse(text).body
    assert all(isinstance(node, ast.AnnAssign) for node in assignments)
    # papermill drops lines it cannot read
    assert [node.target.id for node in assignments] == list(declared)
    for node, parameter in zip(assignments, declared.values(), strict=True):
        assert ast.literal_eval(node.value) == parameter.default
        assert parameter.kind in SCALARS or LIST.match(parameter.kind)
        assert parameter.help, f"{parameter.name} has no trailing comment"


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_those_of_the_config_word_for_word(name):
    """Names, types, defaults and help: `python tests/tools/parameter_cells.py` writes them."""
    text = source(parameters_cell(name))
    assert text == parameter_cells.cell(text, CONFIGS[name])
    declared = declared_parameters(path(name))
    assert set(declared) == set(CONFIGS[name].model_fields) | {"run_dir"}
    assert "# new" not in text, "give the new parameter its place"
    CONFIGS[name](**{n: p.default for n, p in declared.items() if n != "run_dir"})


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_thin(name):
    for cell in code_cells(name):
        text = source(cell)
        is_parameters = "parameters" in cell["metadata"].get("tags", [])
        assert is_parameters or len(text.splitlines()) <= 30
        assert not re.search(r"^\s*[!%]", text, re.MULTILINE), (
            "a notebook installs nothing and uses no magic"
        )
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.end_lineno - node.lineno < 10, f"{node.name} belongs into the package"


@pytest.mark.parametrize("name", CONFIGS)
def test_it_names_no_path_of_a_machine_and_does_not_ask_who_runs_it(name):
    text = path(name).read_text()
    assert not re.search(r"(?<![\w.:/])/(home|root|work|tmp|Users|mnt|usr)/", text)
    assert "papermill" not in "".join(source(cell) for cell in code_cells(name))


@pytest.mark.parametrize("name", CONFIGS)
def test_it_starts_one_run_and_finishes_it_last(name):
    cells = [source(cell) for cell in code_cells(name)]
    assert "run.finish(" in cells[-1]
    assert sum("run.finish(" in cell for cell in cells) == 1


@pytest.mark.parametrize("file", STUDIES, ids=lambda p: p.stem)
def test_every_study_of_the_repository_fits_the_notebooks(file):
    study = load_study(file)
    check_values(study, study.jobs)


def test_no_two_studies_share_a_results_folder():
    assert len({load_study(file).name for file in STUDIES}) == len(STUDIES)


def test_the_notebook_for_colab_names_studies_that_are_there():
    text = "".join(source(cell) for cell in code_cells("colab"))
    named = re.findall(r"params/[\w-]+\.yaml", text)
    assert len(named) == 2
    for study in named:
        load_study(ROOT / study)
    cells = json.loads(path("colab").read_text())["cells"]
    assert all(not c.get("outputs") and not c.get("execution_count") for c in cells)
