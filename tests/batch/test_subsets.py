"""Named subsets: some jobs of a study, with the keys that they have in the whole, so that work is
shared."""

from __future__ import annotations

import pytest
from tiny_project import STUDY, make_project, write_study
from typer.testing import CliRunner

from mentor_kit.batch.run import run_batch
from mentor_kit.batch.study import load_study
from mentor_kit.cli.app import commands
from mentor_kit.errors import UserError

QUICK = STUDY + """
    subsets:
      quick: {seeds: [1], grid: {method: [fine]}}
      fits: {stages: [fit]}
"""


@pytest.fixture
def file(tmp_path):
    return make_project(tmp_path, QUICK)


def labels(study) -> list[str]:
    return [str(job) for job in study.jobs]


def test_its_jobs_have_the_keys_of_the_whole_study(file):
    whole = {str(job): job.key for job in load_study(file).jobs}
    quick = load_study(file, subset="quick")
    assert labels(quick) == ["make", "fit method=fine seed=1", "figures"]
    assert [job.key for job in quick.jobs[:2]] == [whole["make"],
                                                      whole["fit method=fine seed=1"]]
    assert [job.key for job in quick.jobs[2].inputs["runs"]] == [job.key
                                                                    for job in quick.jobs[:2]]
    assert quick.jobs[2].key != whole["figures"]  # it gathers the subset's runs alone
    assert quick.folder == load_study(file).folder
    fits = load_study(file, subset="fits")
    assert [job.key for job in fits.jobs] == [key for label, key in whole.items()
                                                 if label != "figures"]


def test_it_is_taken_after_overrides_and_must_exist(file):
    assert labels(load_study(file, overrides=["seeds=[1, 5]"],
                             subset="quick"))[1] == "fit method=fine seed=1"
    with pytest.raises(
        UserError, match=r"subset 'quick' takes 1, which is not in the study's seeds; it has 5\."
    ):
        load_study(file, overrides=["seeds=[5]"], subset="quick")
    with pytest.raises(
        UserError, match=r"--subset quik: the study has no such subset; did you mean 'quick'\?"
    ):
        load_study(file, subset="quik")


def test_a_study_that_extends_another_has_its_subsets_too(file):
    text = "name: more\nextends: tiny.yaml\nsubsets: {fits: null, one: {seeds: [0]}}"
    more = write_study(file.parents[1], text, "more")
    assert labels(load_study(more, subset="one"))[1:-1] == ["fit method=ok seed=0",
                                                            "fit method=fine seed=0"]
    assert labels(load_study(more, subset="quick"))[1:-1] == ["fit method=fine seed=1"]
    with pytest.raises(UserError, match="no such subset; known: one, quick"):
        load_study(more, subset="fits")


def test_the_whole_study_does_not_repeat_what_a_subset_did(file, capsys):
    assert run_batch(load_study(file, subset="quick"), only=["fit"]) == 0
    assert "2 of 2 jobs are done" in capsys.readouterr().out
    whole = load_study(file)
    done = {job.run_dir for job in whole.jobs if (job.run_dir / "DONE").is_file()}
    assert len(done) == 2
    assert run_batch(whole, dry_run=True) == 0
    assert "dry run: 4 of 6 jobs would run" in capsys.readouterr().out


def test_the_command_line_takes_a_subset(file):
    for command in (["batch", str(file), "--dry-run"], ["status", str(file)]):
        shown = CliRunner().invoke(commands, [*command, "--subset", "quick"])
        assert shown.exit_code == 0, shown.output
        assert "fit method=fine seed=1" in shown.output
        assert "method=ok" not in shown.output


def test_a_stage_outside_the_subset_is_refused(file):
    with pytest.raises(UserError, match="--only figures: no job of that stage is in this subset"):
        run_batch(load_study(file, subset="fits"), only=["figures"], dry_run=True)
