"""Studies: expansion into jobs, and everything that is refused before a kernel starts."""

from __future__ import annotations

import pytest
from tiny_project import STUDY, make_project, write_notebook, write_study

from mentor_kit.batch.params import Parameter, check_value, yaml_float
from mentor_kit.batch.study import load_study
from mentor_kit.errors import UserError


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path).parent.parent


def labels(study) -> list[str]:
    return [str(job) for job in study.jobs]


def test_jobs_are_stages_times_grid_times_seeds_in_order(project):
    study = load_study(project / "params/tiny.yaml")
    assert labels(study) == ["make", "fit method=ok seed=0", "fit method=ok seed=1",
                             "fit method=fine seed=0",
                             "fit method=fine seed=1", "figures"]
    make, fit, *_, figures = study.jobs
    assert dict(make.given) == {"size": 4, "run_dir": f"results/tiny/make/{make.key}"}
    assert fit.params == {"seed": 0, "method": "ok", "rate": 0.5, "names": ["a"]}
    assert fit.given["data_run"] == f"results/tiny/make/{make.key}"
    assert len(figures.given["runs"]) == 5
    assert len({job.key for job in study.jobs}) == 6


def test_keys_follow_the_parameters_and_the_inputs(project):
    before = {str(c): c.key for c in load_study(project / "params/tiny.yaml").jobs}
    rate = {str(c): c.key
            for c in load_study(project / "params/tiny.yaml", overrides=["rate=0.25"]).jobs}
    size = {str(c): c.key
            for c in load_study(project / "params/tiny.yaml", overrides=["make.size=5"]).jobs}
    assert before["make"] == rate["make"]
    assert not {k for k in before if k != "make" and before[k] == rate[k]}
    assert not set(before.values()) & set(size.values())


SCORE = """
run_dir: str = ""
data_run: str = ""
student_run: str = ""
seed: int = 0
masked: bool = False
"""
SCORED = """
    name: scored
    extends: tiny.yaml
    stages:
      score: {notebook: score, needs: {data_run: make, student_run: [start, fit]}}
      start: {notebook: fit, needs: {data_run: make}, set: {method: cold}}
"""


def test_a_scalar_input_from_several_stages_makes_a_job_for_each_run_of_the_same_seed(project):
    write_notebook(project / "notebooks/score.ipynb", SCORE)
    study = load_study(write_study(project, SCORED, "scored"))
    scores = [job for job in study.jobs if job.stage == "score"]
    assert [str(c) for c in scores] == [
        "score of start seed=0", "score of fit method=ok seed=0", "score of fit method=fine seed=0",
        "score of start seed=1", "score of fit method=ok seed=1", "score of fit method=fine seed=1"]
    assert all(c.params["seed"] == c.inputs["student_run"].params["seed"] for c in scores)
    figures = next(job for job in study.jobs if job.stage == "figures")
    assert len(figures.given["runs"]) == len(study.jobs) - 1
    assert [c.stage for c in study.jobs].index("start") < [c.stage for c in study.jobs].index(
        "score"
    )


def test_a_study_extends_another_and_uses_fragments(project):
    (project / "params/students").mkdir()
    (project / "params/students/small.yaml").write_text("rate: 0.125\nnames: [z]\n")
    file = write_study(project, """
        name: more
        extends: tiny.yaml
        use: [students/small.yaml]
        fixed: {names: [b, c]}
        seeds: [7]
    """, "more")
    study = load_study(file)
    assert labels(study) == ["make", "fit method=ok seed=7", "fit method=fine seed=7", "figures"]
    assert study.jobs[1].params == {"seed": 7, "method": "ok", "rate": 0.125, "names": ["b", "c"]}


def test_overrides_set_fixed_values_axes_seeds_and_single_stages(project):
    overrides = ["rate=1e-6", "method=[a, b, c]", "seeds=[3]", "fit.names=[x]"]
    study = load_study(project / "params/tiny.yaml", overrides=overrides)
    assert labels(study)[1:-1] == [f"fit method={m} seed=3" for m in "abc"]
    assert study.jobs[1].params["rate"] == 1e-6
    assert study.jobs[1].params["names"] == ["x"]
    assert labels(load_study(project / "params/tiny.yaml",
                             overrides=["method=a", "seeds=2"]))[1:-1] == [
        "fit method=a seed=2"]


REFUSED = [
    ("rate: 0.5", "rat: 0.5",
     r"tiny.yaml:6: no notebook of this study declares 'rat'; did you mean 'rate'\?"),
    ("rate: 0.5", "rate: 1e-6",
     r"tiny.yaml:6: rate = '1e-6' is of type str, not float; write 1.0e-6"),
    ("rate: 0.5", "rate: true", "rate = True is of type bool, not float; give a number"),
    ("size: 4", "size: 4.0", "size = 4.0 is of type float, not int; write 4"),
    ("size: 4", "size: 4, names: a", r"names = 'a' must be a list\[str\]; write \[a\]"),
    ("size: 4", "size: 4, names: [1]", 'names = 1 is of type int, not str; put it in quotes: "1"'),
    ("size: 4", "size: 4, seed: 3", "'seed' is set by the batch from `seeds:`"),
    ("size: 4", "size: 4, run_dir: x", "'run_dir' is set by the batch"),
    ("method: [ok, fine]", "method: []", r"tiny.yaml:8: grid.method = \[\] is empty"),
    ("method: [ok, fine]", "method: [ok, ok]",
     "lists 'ok' twice, which would make duplicate jobs"),
    ("method: [ok, fine]", "method: [ok, 3]", "method = 3 is of type int, not str"),
    ("seeds: [0, 1]", "seeds: [0, 0]", "seeds lists 0 twice"),
    ("seeds: [0, 1]", "seeds: []", "seeds = .* is empty"),
    ("seeds: [0, 1]", "sedes: [0]", r"tiny.yaml:9: a study has no 'sedes'; did you mean 'seeds'\?"),
    ("data_run: make", "data_run: mak",
     r"tiny.yaml:4: there is no stage 'mak'; did you mean 'make'\?"),
    ("data_run: make", "data_rn: make",
     r"fit.ipynb declares no 'data_rn'; did you mean 'data_run'\?"),
    ("data_run: make", "data_run: [make, make]",
     r"tiny.yaml:4: stage 'fit' makes the same job twice"),
    ("data_run: make", "data_run: fit", "wait for each other in a circle"),
    ("{notebook: make}", "{notebook: mke}", r"there is no notebook 'mke'; did you mean 'make'\?"),
    ("{notebook: make}", "{book: make}", r"stage 'make' needs at least"),
    (", grid: [method]", "", r"no stage is run over 'method'; add `grid: \[method\]`"),
    ("grid: [method]", "grid: [method, rate]",
     r"'fit' is run over 'rate', which is no axis of `grid:`; .* `grid: \[\]`"),
    ("grid: [method]", "grid: [method], set: {method: ok}", "both sets 'method' and runs over it"),
    ("fixed: {size: 4", "size: 3\nfixed: {size: 4", "a study has no 'size'"),
    ("fixed: {size: 4", "fixed: {size: 4, size: 5",
     r"tiny.yaml:6: 'size' is written twice \(first in line 6\)"),
    ("fixed: {", "fixed: {[", r"tiny.yaml:\d+: not valid YAML"),
    ("name: tiny", "name: ../tiny", "names a folder"),
    ("name: tiny", "name: 3", "`name:` = 3 must be a text"),
    ("name: tiny", "name: tiny\nextends: [a.yaml]",
     r"tiny.yaml:2: `extends:` = \['a.yaml'\] must name one study"),
    ("name: tiny", "name: tiny\nextends: a.yaml",
     r"tiny.yaml:2: there is no study file .*/a.yaml'; .*/ has tiny.yaml"),
    ("name: tiny", "name: tiny\nuse: a.yaml",
     r"tiny.yaml:2: `use:` = 'a.yaml' must be a list of files"),
    ("size: 4", "size: null",
     r"tiny.yaml:6: 'size' is empty or null, and nothing of that name is inherited"),
    ("fixed: {size: 4, rate: 0.5}", "fixed:", "tiny.yaml:6: `fixed:` is empty; delete the line"),
    ("seeds: [0, 1]", "subsets: {q: }", r"tiny.yaml:9: 'q' is empty or null"),
    ("seeds: [0, 1]", "subsets: {q: {}}", "subset 'q' must name some of seeds, grid and stages"),
    ("seeds: [0, 1]", "subsets: {q: {seed: [0]}}",
     r"a subset has no 'seed'; did you mean 'seeds'\?"),
    ("seeds: [0, 1]", "subsets: {q: {seeds: []}}",
     r"`seeds:` = \[\] of subset 'q' is empty or not a list"),
    ("seeds: [0, 1]", "subsets: {q: {seeds: [3]}}",
     r"tiny.yaml:9: subset 'q' takes 3, .* study's seeds; it has 0\."),
    ("seeds: [0, 1]", "subsets: {q: {stages: [fti]}}",
     "takes 'fti', which is not in the study's stages; it has make"),
    ("seeds: [0, 1]", "subsets: {q: {grid: {rate: [1.0]}}}",
     "'rate' is no axis of `grid:`; known: method"),
    ("seeds: [0, 1]", "subsets: {q: {grid: {method: [ko]}}}",
     "takes 'ko', which is not in the study's grid.method"),
    ("seeds: [0, 1]", "subsets: {q: {grid: {method: ok}}}",
     "grid.method = 'ok' of subset 'q' is empty or not a list"),
]


@pytest.mark.parametrize("old, new, message", REFUSED, ids=[new or old for old, new, _ in REFUSED])
def test_what_does_not_fit_is_refused_with_place_and_fix(project, old, new, message):
    file = project / "params/tiny.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message) as error:
        load_study(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("override, message", [
    ("rat=1", r"--set rat=1: no notebook of this study declares 'rat'; did you mean 'rate'\?"),
    ("rate=fast", "--set rate=fast: rate = 'fast' is of type str, not float; give a number"),
    ("rate", "write --set name=value"),
    ("fti.rate=1", r"there is no stage 'fti'; did you mean 'fit'\?"),
    ("method=[]", r"--set method=\[\]: grid.method = \[\] is empty"),
])
def test_bad_overrides_are_refused(project, override, message):
    with pytest.raises(UserError, match=message):
        load_study(project / "params/tiny.yaml", overrides=[override])


def test_null_removes_what_a_study_inherits(project):
    def child(text: str):
        return load_study(write_study(project, f"name: more\nextends: tiny.yaml\n{text}", "more"))

    assert (
        labels(child("stages: {figures: null}"))
        == labels(load_study(project / "params/tiny.yaml"))[:-1]
    )
    assert child("fixed: {rate: null}").jobs[1].params["rate"] == 0.1  # the notebook's default
    one = child("grid: {method: null}\nstages: {fit: {grid: null}}\nfixed: {method: one}")
    assert labels(one) == ["make", "fit seed=0", "fit seed=1", "figures"]
    assert {job.params["method"] for job in one.jobs if job.stage == "fit"} == {"one"}
    with pytest.raises(
        UserError,
        match=r"tiny.yaml:4: stage 'fit' is run over 'method', which is no axis .*: \[\]`",
    ):
        child("grid: {method: null}")
    with pytest.raises(UserError, match="there is no stage 'make'"):
        child("stages: {make: null}\nfixed: {size: null}")
    with pytest.raises(
        UserError,
        match=r"tiny.yaml:6: .* declares 'size'; .* remove it by `fixed: {size: null}` in",
    ):
        child("stages: {make: null}")
    with pytest.raises(
        UserError,
        match=r"more.yaml:3: 'rat' is empty or null, and nothing of that name is inherited",
    ):
        child("fixed: {rat: null}")
    with pytest.raises(UserError, match=r"more.yaml:3: `fixed:` is empty; delete the line"):
        child("fixed:")  # all of it commented out: not a wish to lose what is inherited


def test_a_study_outside_a_project_is_told_where_to_go(project):
    with pytest.raises(
        UserError, match=r"/tiny.yaml: this file is in no project, .* put the study under params/"
    ):
        load_study(write_study(project.parent / "elsewhere", STUDY))


def test_a_missing_file_and_a_circle_of_files_are_refused(project):
    with pytest.raises(UserError, match=r"no study file .*none.yaml.*params/ has tiny.yaml"):
        load_study(project / "params/none.yaml")
    write_study(project, "name: a\nextends: b.yaml", "a")
    write_study(project, "name: b\nextends: a.yaml", "b")
    with pytest.raises(UserError, match="extend each other in a circle"):
        load_study(project / "params/a.yaml")


def test_a_results_folder_of_another_study_is_refused(project):
    load_study(project / "params/tiny.yaml").reserve()
    load_study(project / "params/tiny.yaml").reserve()
    copy = write_study(project, STUDY, "copy")
    with pytest.raises(
        UserError, match=r"belongs to the study tiny.yaml, not to copy.yaml; change `name: tiny`"
    ):
        load_study(copy).reserve()
    (project / "elsewhere/tiny").mkdir(parents=True)
    (project / "elsewhere/tiny/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no study"):
        load_study(copy, results=project / "elsewhere").reserve()


def test_a_notebook_without_literal_defaults_is_refused(project):
    write_notebook(project / "notebooks/make.ipynb", "run_dir: str = ''\nsize: int = 2 + 2\n")
    with pytest.raises(UserError, match=r"default of parameter 'size' is '2 \+ 2', not a literal"):
        load_study(project / "params/tiny.yaml")
    write_notebook(project / "notebooks/make.ipynb", "size: int = 4\n")
    with pytest.raises(UserError, match="must declare `run_dir: str"):
        load_study(project / "params/tiny.yaml")


def test_an_int_given_for_a_float_becomes_one_so_that_keys_agree():
    value = check_value(Parameter("rate", "float", 0.1), 1, "here")
    assert value == 1.0
    assert isinstance(value, float)
    assert [yaml_float(x) for x in (1e-6, 1.5e-7, 1e22, 0.1)] == ["1.0e-6", "1.5e-7", "1.0e+22",
                                                                  "0.1"]
