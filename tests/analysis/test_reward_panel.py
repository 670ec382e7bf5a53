"""The panel of notebook 02: still in a batch, alive in JupyterLab, and showing the numbers of the
reward itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mentor_kit.analysis.reward_figures import reward_correlation
from mentor_kit.analysis.reward_panel import groups_of, panel, term_array, with_weights
from mentor_kit.analysis.style import Picture
from mentor_kit.core.records import Record
from mentor_kit.errors import UserError
from mentor_kit.rewards import PRESETS, load_reward
from mentor_kit.rewards.behaviours import PROBLEM, REFERENCE, behaviours
from mentor_kit.rewards.diagnostics import (
    correlations,
    pathologies,
    rollout_kind,
    score_frame,
    scores_by_kind,
)

WRONG = {"wrong answer, right tools", "wrong answer, hallucinated tool", "no box", "not ended"}
GROUP = [replace(r, trajectory=r.trajectory.with_meta(correct=name not in WRONG)) for name,
         r in behaviours()]
EQUAL = [replace(r, problem=replace(PROBLEM, id="same")) for r in (GROUP[0], GROUP[0])]


def test_in_a_batch_it_is_a_picture(monkeypatch):
    monkeypatch.setenv("MENTOR_KIT_QUIET", "1")
    assert isinstance(panel(EQUAL + GROUP), Picture)


def test_in_the_lab_sliders_change_the_picture(monkeypatch):
    monkeypatch.delenv("MENTOR_KIT_QUIET", raising=False)
    menu, *sliders, image = panel(EQUAL + GROUP).children
    assert menu.options == (PROBLEM.id, "same")  # the group that differs most comes first
    assert [(s.description, s.value) for s in sliders] == [("answer_right", 0.7),
                                                           ("same_tools", 0.3),
                                                           ("no_unknown_tool", 0.1)]
    before = image.value
    sliders[1].value = 0.9
    assert "<img" in image.value and image.value != before


def test_weights_by_hand():
    heavier = with_weights(load_reward("mentor"), {"same_tools": 0.9})
    assert heavier(PROBLEM, REFERENCE, REFERENCE).total == pytest.approx(1.7)
    with pytest.raises(UserError, match="no term 'same_tool'"):
        with_weights(load_reward("mentor"), {"same_tool": 1})
    with pytest.raises(UserError, match="at least two rollouts"):
        groups_of(GROUP[:1], heavier)


def test_terms_of_a_group_sum_to_its_rewards():
    scores = [load_reward("mentor")(r.problem, r.reference, r.trajectory) for r in GROUP]
    assert np.allclose(term_array(scores).sum(axis=2)[0], [s.total for s in scores])


def test_pathologies_are_those_of_the_paper():
    table = pathologies()
    assert table.loc["hallucinated tool"].tolist()[1:5] == pytest.approx([1.0, 0.8, 0.85, 0.95])
    wrong = table.loc["wrong answer, hallucinated tool"]
    assert wrong["mentor: rollout"] < wrong["mentor: compared"]
    assert wrong["mentor_fixed: rollout"] > wrong["mentor_fixed: compared"]
    costs = table["mentor_fixed: rollout"] < table["mentor_fixed: compared"] - 1e-9
    # what stays
    assert set(costs[~costs].index) == {"wrong answer, hallucinated tool", "dummy calls",
                                        "other order"}


def test_kinds_of_rollouts_and_their_means():
    kinds = {name: rollout_kind(r) for name, r in behaviours()}
    assert (
        kinds["perfect"] == "right, teacher's tools"
        and kinds["extra valid tool"] == "right, other tools"
    )
    assert (
        kinds["hallucinated tool"] == "right, invented tool"
        and kinds["no tools"] == "right, no tools"
    )
    assert (kinds["no box"], kinds["not ended"]) == ("no box", "not ended")
    means = scores_by_kind(GROUP, ["mentor", "sparse"])
    # extra tool and missing tool
    assert means.loc["right, other tools (2)", "mentor"] == pytest.approx(0.8)


def test_correlation_picture_survives_rewards_that_never_vary():
    assert "Correlation" in reward_correlation(correlations(score_frame(GROUP, PRESETS))).caption
    same = [Record(PROBLEM, GROUP[0].trajectory, REFERENCE)] * 2
    assert isinstance(reward_correlation(correlations(score_frame(same, ["mentor"]))), Picture)
