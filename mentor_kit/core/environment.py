"""A problem that brings its own tools, under way: what comes back after each assistant turn.

Most problems are solved with a toolbox that keeps nothing between calls. A problem with
`meta["tool_schemas"]` has tools of its own; if nobody can carry them out, its first turn is the
answer (BFCL's single-turn items). Where `meta["environment"]` names an Environment, by its name in
`plugins.ENVIRONMENTS` or as 'package.module:name', that class answers: it executes calls on a state
that lasts for the attempt, speaks for the user when a turn calls no tool, and may have a say in
whether an attempt is right (BFCL's multi-turn items, the registry whose entries change).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from mentor_kit.core.chat_markup import escape_chat_markup, render_environment, render_user
from mentor_kit.core.plugins import ENVIRONMENTS, load_object
from mentor_kit.core.problem import Problem
from mentor_kit.core.tool import Tool
from mentor_kit.core.toolbox import Toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn

OWN = "own"  # names the toolbox of problems that bring their own tools: it holds none
OWN_TOOLBOX = Toolbox(OWN, [])
# facts of a problem that brings its own tools
OWN_FACTS = ("tool_schemas", "prompt_messages", "environment", "later_turns", "calls_per_message")


@dataclass(frozen=True)
class EnvResponse:
    """What follows an assistant turn: the results of its well-formed calls, in order, or the user's
    next message.

    `tools`: schemas of tools that the user's message adds. Neither can speak for the chat: marks
    are escaped.
    """

    results: Sequence[str] = ()
    message: str = ""
    tools: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "results", tuple(escape_chat_markup(r) for r in self.results))
        object.__setattr__(self, "message", escape_chat_markup(self.message))

    @property
    def text_with_tools(self) -> str:
        """The user's message after the added tools, one a line, for a model that is told its tools
        in text."""
        return (
            "".join(escape_chat_markup(json.dumps(tool)) + "\n" for tool in self.tools)
            + self.message
        )

    @property
    def text(self) -> str:
        """The text between this turn and the next, as `Turn.env_response` keeps it."""
        return (
            render_environment(self.results) if self.results else render_user(self.text_with_tools)
        )


class Environment:
    """One attempt at a problem whose tools nobody can carry out: its first turn is its answer.

    `schemas`: the tools on offer now; `max_turns`: the most assistant turns an attempt has;
    `boxed`: the answer stands in a box, else the verdict is all that counts; `toolbox`: the tools
    where they are functions.
    """

    max_turns = 1
    boxed = True
    toolbox = OWN_TOOLBOX

    def __init__(self, problem: Problem) -> None:
        self.schemas: list[Mapping[str, Any]] = list(problem.meta["tool_schemas"])

    def step(self, turn: Turn) -> EnvResponse | None:
        """What follows this turn; None where the attempt is over."""
        return None

    def answered(self, text: str) -> Turn:
        """An assistant turn of this text, with what follows it."""
        response = self.step(Turn(text))
        return Turn(text, "eos", response.text if response else "")

    def verdict(self, trajectory: Trajectory) -> tuple[bool, str] | None:
        """Whether a stored attempt did what was asked for, and who says so; None where the answer
        alone counts. Asked of an environment in which nothing has happened yet."""
        return None


class StatefulTools(Environment):
    """Tools with a state of their own in every attempt, in the shape of TRL's
    `environment_factory`: a subclass has `reset`, and its other public methods are the tools.

        class Till(StatefulTools):
            def reset(self, problem):
                self.coins = 0

            def put(self, amount: int) -> int:
                "Put coins into the till."
                self.coins += amount
                return self.coins

        Problem("q", "Put 2 and 3 into the till. How much is in it?", ("5",), "till", "train",
                OWN, Till.facts())

    What the user says later stands in `meta["later_turns"]`, as {"message": text, "tools": []}: a
    turn that opens no call brings the next of them. `words`: see `Toolbox`.
    """

    max_turns = 5
    words: tuple[str, ...] = ()

    def __init__(self, problem: Problem) -> None:
        tools = [tool.carried_out_by(getattr(self, name))
                 for name, tool in unbound_tools(type(self)).items()]
        self.toolbox = Toolbox(OWN, tools, self.words)
        super().__init__(problem)
        self.later = list(problem.meta.get("later_turns", ()))
        self.reset(problem)

    def reset(self, problem: Problem) -> None:
        """Bring the state to where this problem begins."""

    def step(self, turn: Turn) -> EnvResponse | None:
        """The results of a turn's calls, else the user's next message."""
        results = [self.toolbox.execute(c.name, c.arguments).content for c in turn.runnable_calls]
        if results:
            return EnvResponse(results)
        if turn.n_opened_calls or not self.later:
            return None
        user = self.later.pop(0)
        self.schemas += user["tools"]
        return EnvResponse(message=user["message"], tools=user["tools"])

    @classmethod
    def tool_names(cls) -> list[str]:
        """The public methods that the subclass adds, in the order in which they are written."""
        return [name for c in reversed(cls.__mro__) for name, value in vars(c).items()
                if callable(value) and not name.startswith("_")
                and not hasattr(StatefulTools, name)]

    @classmethod
    def facts(cls) -> dict[str, Any]:
        """What `Problem.meta` needs to be answered with these tools."""
        return {"tool_schemas": [tool.schema for tool in unbound_tools(cls).values()],
                "environment": f"{cls.__module__}:{cls.__name__}"}


@cache
def unbound_tools(stateful: type[StatefulTools]) -> dict[str, Tool]:
    """The tools of a class, of no attempt."""
    blank = object.__new__(stateful)
    return {name: Tool(getattr(blank, name)) for name in stateful.tool_names()}


def make_environment(problem: Problem) -> Environment | None:
    """A new attempt at a problem with tools of its own; None for a problem that is solved with its
    toolbox.

    Raises:
        UserError: `meta["environment"]` cannot be imported.
    """
    found = environment_class(problem)
    return found(problem) if found else None


def environment_class(problem: Problem) -> type[Environment] | None:
    """The class of which `make_environment` makes one."""
    if "tool_schemas" not in problem.meta:
        return None
    name = problem.meta.get("environment")
    return load_object(ENVIRONMENTS.get(name, name), "environment") if name else Environment
