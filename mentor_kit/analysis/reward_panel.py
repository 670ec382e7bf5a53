"""The panel of notebook 02: turn a preset's weights, see a group's rewards and advantages change.

In JupyterLab it is a widget; in a batch (MENTOR_KIT_QUIET=1) the same picture stands still.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mentor_kit.core.records import Record
from mentor_kit.errors import UserError
from mentor_kit.rewards.advantages import per_term_advantages
from mentor_kit.rewards.reward import Reward, Score, load_reward

if TYPE_CHECKING:
    from mentor_kit.analysis.style import Picture


def with_weights(reward: Reward, weights: Mapping[str, float]) -> Reward:
    """The reward with other weights (term name -> weight); terms that are not named keep theirs.

    Raises:
        UserError: a name that is no term of the reward.
    """
    unknown = sorted(set(weights) - {t.name for t in reward.terms})
    if unknown:
        raise UserError(f"Reward {reward.name!r} has no term {unknown[0]!r}: its terms are "
                        f"{', '.join(t.name for t in reward.terms)}.")
    return replace(reward,
                   terms=tuple(replace(t, weight=weights.get(t.name, t.weight))
                               for t in reward.terms))


def group_picture(title: str, group: Sequence[Record], reward: Reward) -> Picture:
    """Rewards of the rollouts of one problem and the advantages that three schemes make of them."""
    from mentor_kit.analysis.reward_figures import SCHEMES, advantage_bars

    scores = [reward(r.problem, r.reference, r.trajectory) for r in group]
    own = {t.name: t.weight for t in reward.terms}
    # normalising a term loses its weight: give it again
    weights = [own.get(name, 1.0) for name in term_names(scores)]
    schemes = {**SCHEMES, "per term": lambda _: per_term_advantages(term_array(scores), weights)}
    return advantage_bars({title: [s.total for s in scores]}, schemes)


def term_array(scores: Sequence[Score]) -> np.ndarray:
    """(1, rollouts, terms): the weighted terms of a group; a gate is a term of its own, absent
    terms are 0."""
    return np.array([[[s.terms.get(name, 0.0) for name in term_names(scores)] for s in scores]])


def term_names(scores: Sequence[Score]) -> list[str]:
    """Names of the terms (and the gate) that occur in some scores, in the order of their first
    occurrence."""
    return list(dict.fromkeys(name for s in scores for name in s.terms))


def groups_of(rollouts: Sequence[Record], reward: Reward) -> dict[str, list[Record]]:
    """Problem id -> its rollouts, groups whose rewards differ most first.

    Raises:
        UserError: no problem has two rollouts.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for r in rollouts:
        groups[r.problem.id].append(r)
    spread = {i: np.std([reward(r.problem, r.reference, r.trajectory).total for r in g])
              for i, g in groups.items() if len(g) > 1}
    if not spread:
        raise UserError("No group to show: advantages need at least two rollouts of one problem.")
    return {i: groups[i] for i in sorted(spread, key=lambda i: -round(float(spread[i]), 9))}


def panel(rollouts: Sequence[Record], preset: str | Reward = "mentor") -> Any:
    """A slider a term, a menu of groups and the picture; in a batch only that of the group that
    differs most."""
    reward = load_reward(preset)
    groups = groups_of(rollouts, reward)
    if os.environ.get("MENTOR_KIT_QUIET") == "1":
        first = next(iter(groups))
        return group_picture(f"{reward.name}: {first}", groups[first], reward)
    return _widget(groups, reward)


def _widget(groups: Mapping[str, Sequence[Record]], reward: Reward) -> Any:
    import ipywidgets as widgets

    menu = widgets.Dropdown(options=list(groups), description="group")
    sliders = {t.name: widgets.FloatSlider(t.weight, min=0, max=1, step=0.05, description=t.name,
                                           style={"description_width": "9em"})
               for t in reward.terms}
    image = widgets.HTML()

    def draw(_: Any = None) -> None:
        turned = with_weights(reward, {name: slider.value for name, slider in sliders.items()})
        image.value = group_picture(f"{reward.name}: {menu.value}", groups[menu.value],
                                    turned)._repr_html_()

    for control in (menu, *sliders.values()):
        control.observe(draw, "value")
    draw()
    return widgets.VBox([menu, *sliders.values(), image])
