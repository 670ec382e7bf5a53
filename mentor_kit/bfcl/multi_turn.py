"""BFCL's multi-turn items: a dialogue of several user messages over tools with a state, by the
official executor.

As the leaderboard runs them: within a user's turn the model calls tools until it stops (or has
called in more than 20
steps: the attempt is over); then the user says the next thing. Text that holds no call, or a call
that cannot be read, ends a user's turn. The answer is right when, after each user's turn, the
executor's state equals that of the gold calls and their results were seen (official
`multi_turn_checker`). What a model wrote is executed in `mentor_kit.bfcl.executor` only, and only
calls of the item's own tools with plain JSON arguments get there.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mentor_kit.bfcl.checker import decode_calls, unfinished
from mentor_kit.bfcl.executor import Sandbox, sandbox
from mentor_kit.core.environment import Environment, EnvResponse
from mentor_kit.core.problem import Problem, known_tools
from mentor_kit.core.toolbox import MAX_NAME, Observation, error_observation
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import ERROR_PREFIXES, Turn
from mentor_kit.errors import ToolError

# steps with calls in one user's turn, as the leaderboard allows; it ends an attempt at the next one
STEPS = 20
MAX_CALL = 20_000  # characters of a call's arguments as JSON
MAX_DEPTH = 20  # lists and objects within each other
NAME_RE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
REASONS = {"timeout": "took too long", "memory": "needed too much memory",
           "crash": "could not be executed",
           "long": "gave a result that is too long"}
Call = tuple[str, Mapping[str, Any]]


def check_call(name: str, arguments: Mapping[str, Any], known: Sequence[str]) -> None:
    """Whether this is a plain call of a known tool with literal arguments: nothing else may reach
    the executor.

    Raises:
        ToolError: why not.
    """
    if name not in known:
        raise ToolError(f"Tool {name[:MAX_NAME]} not found.")
    wrong = next((n for n in arguments if not NAME_RE.fullmatch(n) or keyword.iskeyword(n)), None)
    if wrong is not None:
        raise ToolError(f"{name}: {wrong[:40]!r} is no argument name.")
    if _depth(arguments) > MAX_DEPTH:
        raise ToolError(f"{name}: the arguments are nested too deeply.")
    try:
        size = len(json.dumps(arguments, allow_nan=False))
    except ValueError:  # nan and infinities; whole numbers of thousands of digits
        raise ToolError(f"{name}: a number is too large.") from None
    if size > MAX_CALL:
        raise ToolError(f"{name}: the arguments have more than {MAX_CALL} characters.")


def _depth(value: Any) -> int:
    """How deep lists and objects lie within each other; it stops counting beyond MAX_DEPTH."""
    layer, depth = [value], 0
    while layer and depth <= MAX_DEPTH:
        inner = [list(v.values()) if isinstance(v, Mapping) else v for v in layer
                 if isinstance(v, Mapping | list)]
        depth, layer = depth + bool(inner), [v for values in inner for v in values]
    return depth


class MultiTurnEnvironment(Environment):
    """One attempt at a multi-turn item. Every call is executed by replaying the attempt's earlier
    calls first, so a call that has to be killed harms nothing, and no state outlives a request. No
    answer is boxed: the official checker says whether an attempt is right."""

    boxed = False

    def __init__(self, problem: Problem, box: Sandbox | None = None) -> None:
        super().__init__(problem)
        self.problem, self.box, self.known = problem, box or sandbox(), known_tools(problem)
        self.later, self.made, self.steps = list(problem.meta["later_turns"]), [], 0
        self.max_turns = (len(self.later) + 1) * (STEPS + 1)

    def step(self, turn: Turn) -> EnvResponse | None:
        """The results of the turn's calls, else the user's next message; None at the end or after
        too many steps."""
        calls = [call for step in decode_calls(turn) or [] for call in step.items()]
        if calls:
            self.steps += 1
            return EnvResponse([self.execute(*c).content
                                for c in calls]) if self.steps <= STEPS else None
        if not self.later:
            return None
        user, self.steps = self.later.pop(0), 0
        self.schemas += user["tools"]
        return EnvResponse(message=user["message"], tools=user["tools"])

    def verdict(self, trajectory: Trajectory) -> tuple[bool, str]:
        """The official checker's, see `multi_turn_verdicts`."""
        facts = _verdict(self.problem, trajectory, self.box)
        return facts["correct"], facts["judged_by"]

    def execute(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Carry out one call, as `Toolbox.execute` does: every failure is an observation with
        `ok=False`."""
        try:
            check_call(name, arguments, self.known)
        except ToolError as error:
            return error_observation(str(error))
        reply = self.box.ask("execute", category=self.problem.meta["category"],
                             entry=self.problem.meta["entry"],
                             earlier=self.made, calls=[(name, arguments)])
        if "failure" in reply:
            return error_observation(f"{name} {REASONS[reply['failure']]}.")
        self.made.append((name, arguments))
        (result,) = reply["results"]
        return Observation(result, ok=not result.startswith(ERROR_PREFIXES))


def user_turns(trajectory: Trajectory, known: Sequence[str]) -> list[list[list[Call | None]]]:
    """The answer in the checker's form: user turns of steps of calls. A refused call is None: it
    stays a call that failed. Steps without a call, or with one that cannot be read, are left out,
    as the leaderboard does."""
    turns: list[list[list[Call | None]]] = [[]]
    for turn in trajectory.turns:
        step = [call for made in decode_calls(turn) or [] for call in made.items()]
        if step:
            turns[-1].append([call if _plain(*call, known) else None for call in step])
        if turn.user is not None:
            turns.append([])
    return turns


def _plain(name: str, arguments: Mapping[str, Any], known: Sequence[str]) -> bool:
    try:
        check_call(name, arguments, known)
    except ToolError:
        return False
    return True


def multi_turn_verdicts(
    problems: Sequence[Problem], trajectories: Sequence[Trajectory]
) -> list[dict[str, Any]]:
    """The official checker's verdict on each answer, each in a process of its own.

    An answer that was cut off or crashed is wrong; one that did not reach the user's last message
    is wrong, and a `max_turns` where the turn limit was why.
    """
    return [_verdict(p, t, sandbox()) for p, t in zip(problems, trajectories, strict=True)]


def _verdict(problem: Problem, trajectory: Trajectory, box: Sandbox) -> dict[str, Any]:
    if facts := unfinished(trajectory):
        return facts
    turns = user_turns(trajectory, known_tools(problem))
    reply = box.ask("check", category=problem.meta["category"], entry=problem.meta["entry"],
                          turns=turns)
    if "failure" in reply:
        return {"correct": False, "judged_by": f"bfcl:multi_turn:{reply['failure']}",
                "failure": None}
    stopped = trajectory.finish == "max_turns" and len(turns) <= len(problem.meta["later_turns"])
    return {"correct": reply["valid"], "judged_by": reply["by"], "failure": "max_turns" if stopped
            else None}
