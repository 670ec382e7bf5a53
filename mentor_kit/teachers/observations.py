"""Where a stored tool result is not the one that our toolbox gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mentor_kit.core.environment import EnvResponse
from mentor_kit.core.toolbox import Toolbox
from mentor_kit.core.trajectory import Trajectory

MAX_SHOWN = 200  # characters of an observation that is told


def differences(trajectory: Trajectory, box: Toolbox) -> list[dict[str, Any]]:
    """Calls whose stored result is not that of `box`: turn, tool, both results, and whether ours
    succeeded. Calls of tools that it has not are left out."""
    found = []
    for number, turn in enumerate(trajectory.turns):
        for call in turn.calls:
            if call.observation is None or call.name not in box.names:
                continue
            ours = box.execute(call.name, call.arguments)
            if not _same(call.observation.content, ours.content):
                found.append({"turn": number, "tool": call.name, "ok": ours.ok,
                              "theirs": call.observation.content[:MAX_SHOWN],
                              "ours": ours.content[:MAX_SHOWN]})
    return found


def _same(theirs: str, ours: str) -> bool:
    """Whether two results say the same: equal texts, or equal as JSON (5 and 5.0)."""
    if theirs.strip() == ours.strip():
        return True
    try:
        return json.loads(theirs) == json.loads(ours)
    except (ValueError, RecursionError):
        return False


def with_ours(trajectory: Trajectory, box: Toolbox) -> Trajectory:
    """The trajectory with the results of `box` in the place of its own."""
    turns = []
    for turn in trajectory.turns:
        if turn.runnable_calls and turn.calls[0].executed:
            results = [box.execute(c.name, c.arguments).content for c in turn.runnable_calls]
            turn = replace(turn, env_response=EnvResponse(results).text)
        turns.append(turn)
    return replace(trajectory, turns=tuple(turns))


def describe(difference: Mapping[str, Any]) -> str:
    """A difference in words."""
    return (f"{difference['tool']} gave {difference['theirs']!r} there and gives "
            f"{difference['ours']!r} here")
