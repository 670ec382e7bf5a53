"""A problem that brings its own tools, under way: what comes back after each assistant turn.

Most problems are solved with a toolbox that keeps nothing between calls. A problem with
`meta["tool_schemas"]` has tools of its own; if nobody can carry them out, its first turn is the
answer (BFCL's single-turn items). Where `meta["environment"]` names an Environment, by its name in
`plugins.ENVIRONMENTS` or as 'package.module:name', that class answers: it executes calls on a state
that lasts for the attempt, and speaks for the user when a turn calls no tool (BFCL's multi-turn
items).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mentor_kit.core.chat_markup import escape_chat_markup, render_environment, render_user
from mentor_kit.core.plugins import ENVIRONMENTS, load_object
from mentor_kit.core.problem import Problem
from mentor_kit.core.toolbox import Toolbox
from mentor_kit.core.turn import Turn

OWN = "own"  # names the toolbox of problems that bring their own tools: it holds none
OWN_TOOLBOX = Toolbox(OWN, [])
# facts of a problem that brings its own tools
OWN_FACTS = ("tool_schemas", "prompt_messages", "environment", "later_turns")


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

    `schemas`: the tools on offer now; `max_turns`: the most assistant turns an attempt has.
    """

    max_turns = 1

    def __init__(self, problem: Problem) -> None:
        self.schemas: list[Mapping[str, Any]] = list(problem.meta["tool_schemas"])

    def step(self, turn: Turn) -> EnvResponse | None:
        """What follows this turn; None where the attempt is over."""
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
    """

    max_turns = 5

    def __init__(self, problem: Problem) -> None:
        self.toolbox = Toolbox(OWN, [getattr(self, name) for name in self.tool_names()])
        super().__init__(problem)
        self.reset(problem)

    def reset(self, problem: Problem) -> None:
        """Bring the state to where this problem begins."""

    def step(self, turn: Turn) -> EnvResponse | None:
        """The results of a turn's calls."""
        results = [self.toolbox.execute(c.name, c.arguments).content for c in turn.runnable_calls]
        return EnvResponse(results) if results else None

    @classmethod
    def tool_names(cls) -> list[str]:
        """The public methods that the subclass adds, in the order in which they are written."""
        return [name for c in reversed(cls.__mro__) for name, value in vars(c).items()
                if callable(value) and not name.startswith("_")
                and not hasattr(StatefulTools, name)]

    @classmethod
    def facts(cls) -> dict[str, Any]:
        """What `Problem.meta` needs to be answered with these tools."""
        blank = object.__new__(cls)
        tools = Toolbox(OWN, [getattr(blank, name) for name in cls.tool_names()])
        return {"tool_schemas": tools.schemas, "environment": f"{cls.__module__}:{cls.__name__}"}


def make_environment(problem: Problem) -> Environment | None:
    """A new attempt at a problem with tools of its own; None for a problem that is solved with its
    toolbox.

    Raises:
        UserError: `meta["environment"]` cannot be imported.
    """
    if "tool_schemas" not in problem.meta:
        return None
    name = problem.meta.get("environment")
    return (
        load_object(ENVIRONMENTS.get(name, name), "environment")(problem)
        if name
        else Environment(problem)
    )
