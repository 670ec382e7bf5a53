"""Why a bonus paid for no call becomes as large as a right answer once a group is normalised."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mentor_kit.analysis.figures import advantage_by_calls
from mentor_kit.errors import UserError
from mentor_kit.rewards.behaviours import WRONG, behaviours, rollout
from mentor_kit.rewards.diagnostics import advantages, headroom, price_of_hygiene

BEHAVIOURS = dict(behaviours())
RIGHT = BEHAVIOURS["perfect"]
CLEAN = replace(RIGHT, trajectory=rollout([], WRONG))
INVENTED = BEHAVIOURS["wrong answer, hallucinated tool"]


def group(name, *rollouts):
    return [replace(r, problem=replace(r.problem, id=name),
                    trajectory=replace(r.trajectory, problem_id=name, sample=i,
                                       meta={"correct": r is RIGHT}))
            for i, r in enumerate(rollouts)]


GROUPS = [*group("hard", CLEAN, INVENTED, INVENTED, INVENTED),
          *group("easier", RIGHT, INVENTED, INVENTED, INVENTED)]


def test_no_call_is_worth_as_much_as_a_right_answer_until_the_bonus_is_scaled():
    price = price_of_hygiene(GROUPS)
    assert price.loc["mentor", "none right"] == 0.5
    # one of four stands out: 0.75 / sqrt(0.25) = 1.5, whatever the difference is
    assert price.loc["mentor", "right answer"] == pytest.approx(1.5, abs=0.01)
    assert price.loc["mentor", "wrong, none invented"] == pytest.approx(1.5, abs=0.01)
    assert price.loc["mentor", "per call"] < 0, "it teaches to call less"
    assert price.loc["mentor_no_hygiene", "wrong, none invented"] == pytest.approx(0, abs=0.01)


def test_an_advantage_is_the_groups_own_and_names_what_the_rollout_did():
    frame = advantages(GROUPS, ["mentor"])
    assert frame.groupby("problem_id")["advantage"].sum().abs().max() < 1e-9
    first = frame.iloc[0]
    assert (first["calls"], first["invented"], first["group"]) == (0, False, "none right")
    figure, caption = advantage_by_calls(frame)
    assert len(figure.axes[0].lines) == 2 and "50% of groups" in caption


def test_groups_of_other_sizes_are_refused_and_no_empty_group_is_said():
    with pytest.raises(UserError, match=r"\[3, 4\] a problem"):
        advantages(GROUPS[:7], ["mentor"])
    _, caption = advantage_by_calls(advantages(GROUPS[4:], ["mentor"]))
    assert caption.startswith("Every group has a right answer")


def test_a_cold_start_is_judged_by_its_samples():
    found = headroom([*GROUPS, *group("easy", RIGHT, RIGHT, RIGHT, RIGHT)])
    assert found["sampled accuracy"] == pytest.approx(5 / 12)
    assert found["groups partly right"] == pytest.approx(1 / 3)
    assert found["valid arguments"] == 1, "of existing tools"
    assert "valid arguments" not in headroom(group("hard", CLEAN, CLEAN))
