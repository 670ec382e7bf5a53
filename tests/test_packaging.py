"""pyproject.toml, constraints.txt and environment.yml say the same; importing the package is
light."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from other_process import printed_by
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
NAMED = ("jupyterlab", "papermill", "torch", "transformers", "unsloth", "trl", "datasets",
         "matplotlib", "seaborn")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines) -> dict[str, str]:
    found = {}
    for line in lines:
        name, equals, version = line.partition("==")
        assert equals, f"{line!r} is not pinned"
        found[normal(name)] = version
    return found


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return pins(line for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def conda() -> dict[str, str]:
    content = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert content[:2] == ["python=3.11", "pip"]
    return pins(content[2]["pip"])


def test_every_core_and_dev_dependency_is_pinned_within_its_range(project, constraints):
    for text in project["dependencies"] + project["optional-dependencies"]["dev"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(constraints[normal(wanted.name)]), text


def test_the_conda_environment_equals_the_pins_of_core_gpu_and_api(project, constraints, conda):
    core = {normal(Requirement(text).name): constraints[normal(Requirement(text).name)]
            for text in project["dependencies"]}
    extras = pins(project["optional-dependencies"]["gpu"] + project["optional-dependencies"]["api"])
    assert conda == core | extras
    assert set(NAMED) <= set(conda)


def test_unsloth_accepts_the_pins(constraints, project):
    caps = {"torch": "<2.15.0,>=2.4.0", "transformers": "<=5.17.0", "trl": "<=1.15.0",
            "datasets": "<5.0.0,!=4.5.0",
            "peft": ">=0.18.0"}  # what unsloth 2026.10.9 asks for
    assert "unsloth==2026.10.9" in project["optional-dependencies"]["gpu"]
    for name, cap in caps.items():
        assert SpecifierSet(cap).contains(constraints[name]), name


def test_what_is_installed_here_is_what_is_pinned(project, constraints):
    for text in project["dependencies"]:
        name = normal(Requirement(text).name)
        assert metadata.version(name).split("+")[0] == constraints[name]


def test_the_makefile_installs_the_pinned_torch_first_and_by_itself(constraints):
    text = (ROOT / "Makefile").read_text()
    installs = re.findall(r"pip install .*", text)
    assert f"torch=={constraints['torch']} -c constraints.txt" in installs[0]
    assert "-e '.[dev]' -c constraints.txt" in installs[1]


def test_unsloths_environment_takes_the_versions_of_the_gpu_extra(project):
    line = next(x for x in (ROOT / "Makefile").read_text().splitlines() if "--no-deps unsloth" in x)
    asked = [word for word in line.split() if word.startswith("unsloth")]
    assert asked and set(asked) <= set(project["optional-dependencies"]["gpu"])


def test_the_package_carries_its_data_files():
    package = ROOT / "mentor_kit"
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]["mentor_kit"]
    carried = {path for pattern in patterns for path in package.glob(pattern)}
    data = {path for path in package.rglob("*") if path.is_file()
            and path.suffix not in (".py", ".pyc")}
    assert data <= carried
    assert {path.suffix for path in carried} == {".yaml", ".jinja", ".mplstyle"}


def test_importing_the_package_and_its_command_line_loads_nothing_heavy():
    heavy = "torch transformers datasets pandas numpy matplotlib papermill pydantic yaml"
    code = ("import sys, mentor_kit, mentor_kit.cli.app, mentor_kit.runs.run; print([m for m in "
            f"'{heavy}'.split() if m in sys.modules])")
    assert printed_by(code) == "[]"


def test_scoring_analysis_and_the_nouns_do_not_import_torch():
    modules = ("judging.judge rewards cli.app cli.score core.trajectory core.toolbox core.records "
               "problems teachers analysis.figures analysis.report batch.study batch.run")
    code = ("import importlib, sys\n"
            f"for name in '{modules}'.split():\n"
            "    importlib.import_module('mentor_kit.' + name)\n"
            "    assert not {'torch', 'transformers'} & set(sys.modules), name")
    printed_by(code)


def test_the_wheel_makes_a_project_in_an_empty_folder(tmp_path):
    """Built as for a package index; its code alone, in a folder of its own, plans the demo."""
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("mentor_kit", "notebooks", "params"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", ".", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "-w", str(tmp_path)], cwd=copy, check=True, timeout=120,
                   capture_output=True)
    site, project = tmp_path / "site", tmp_path / "mine"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    project.mkdir()

    def kit(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "mentor_kit", *words], cwd=project,
                              env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True,
                              text=True, timeout=120, check=False)

    assert kit("init").returncode == 0
    for name in ("notebooks", "params"):
        written = {p.relative_to(project) for p in (project / name).rglob("*") if p.is_file()}
        ours = {p.relative_to(ROOT) for p in (ROOT / name).rglob("*") if p.is_file()}
        assert written == {p for p in ours if not any(x.startswith((".", "__")) for x in p.parts)}
    planned = kit("batch", "params/demo.yaml", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "figures" in planned.stdout
    (project / "params" / "demo.yaml").write_text("name: mine\n")
    refused = kit("init")
    assert refused.returncode == 2
    assert "params/demo.yaml" in refused.stderr and "nothing was written" in refused.stderr
    assert "0 files" not in refused.stdout
