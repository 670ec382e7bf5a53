"""A tool's types, docstrings, async functions and time limits."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from mentor_kit.core.limited import limited
from mentor_kit.core.tool import Tool, read_docstring
from mentor_kit.core.toolbox import SchemaFunction, Toolbox, ToolboxFailure
from mentor_kit.errors import ToolError, UserError


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Place(TypedDict):
    city: str
    zip: int


@dataclass
class Person:
    name: str
    home: Place


class Order(BaseModel):
    title: str
    person: Person
    tags: list[str] = []
    price: float | None = None


class Node(BaseModel):
    children: list[Node]


def paint(colour: Colour, size: Literal["s", "m"] = "m", gloss: bool = False) -> str:
    """Paint something.

    Twice, if need be.

    Args:
        colour: which one,
            of the two
        size (str): how big
        gloss: whether it shines

    Returns:
        Something else.
    """
    return f"{colour.name} {size} {gloss}"


def order(order: Order, note: str | None = None, sizes: list[int] | None = None) -> str:
    """Order something."""
    return f"{order.person.home['city']} {order.tags} {order.price} {note} {sizes}"


def join(words: list[str], table: dict[str, int]) -> list[Any]:
    """Join."""
    return [words, table]


async def later(x: float) -> float:
    """Twice x, after a while."""
    await asyncio.sleep(0.01)
    return 2 * x


BOX = Toolbox("typed", [paint, order, join, later])


def test_schemas_of_any_type():
    schema = BOX.tools["paint"].schema["function"]
    assert schema["description"] == "Paint something."
    assert schema["parameters"] == {
        "type": "object", "required": ["colour"], "properties": {
            "colour": {"enum": ["red", "blue"], "type": "string",
                       "description": "which one, of the two"},
            "size": {"enum": ["s", "m"], "type": "string", "description": "how big"},
            "gloss": {"type": "boolean", "description": "whether it shines"}}}
    properties = BOX.tools["order"].schema["function"]["parameters"]["properties"]
    assert properties["note"] == {"type": "string"}
    assert properties["sizes"] == {"type": "array", "items": {"type": "integer"}}
    inner = properties["order"]["properties"]
    assert inner["title"] == {"type": "string"} and inner["price"] == {"type": "number"}
    assert inner["person"]["properties"]["home"]["properties"]["zip"] == {"type": "integer"}
    assert "$" not in str(properties)


ORDER = {"title": "x", "person": {"name": "A", "home": {"city": "Rome", "zip": 1}}}


@pytest.mark.parametrize(("name", "arguments", "result"), [
    ("paint", {"colour": "red"}, "RED m False"),
    ("paint", {"colour": "blue", "size": "s", "gloss": True}, "BLUE s True"),
    ("order", {"order": ORDER}, "Rome [] None None None"),
    ("order", {"order": {**ORDER, "tags": ["a"], "price": "2.5"}, "note": None, "sizes": ["3"]},
     "Rome ['a'] 2.5 None [3]"),
    ("join", {"words": ["a", "ü"], "table": {"a": 1}}, '[["a", "ü"], {"a": 1}]'),
    ("later", {"x": "1,000"}, "2000")])
def test_calls_of_any_type(name, arguments, result):
    seen = BOX.execute(name, arguments)
    assert seen.ok and seen.content == result


@pytest.mark.parametrize(("name", "arguments", "reason"), [
    ("paint", {"colour": "green"}, "paint: colour: Input should be 'red' or 'blue'."),
    ("paint", {"colour": "red", "gloss": "perhaps"}, "paint: gloss: Input should be a valid bool"),
    ("paint", {"colour": None}, "paint: colour: "),
    ("order", {"order": {"title": "x"}}, "order: order.person: Field required."),
    ("order", {"order": {**ORDER, "tags": [1]}}, "order: order.tags.0: Input should be a valid"),
    ("join", {"words": "a", "table": {}}, "join: words: Input should be a valid list."),
    ("join", {"words": ["a"] * 9000, "table": {}}, "join: words has more than 20000 characters."),
    ("join", {"words": [float("nan")], "table": {}}, "nested too deep or not JSON"),
    ("later", {"x": True}, "later: x must be a number.")])
def test_what_does_not_fit_is_an_observation(name, arguments, reason):
    seen = BOX.execute(name, arguments)
    assert not seen.ok and reason in seen.content.replace('\\"', '"').replace("\\'", "'")


def untyped(x):
    """No."""


def recursive(x: Node) -> str:
    """No."""


def opaque(x: Tool) -> str:
    """No."""


@pytest.mark.parametrize("function", [untyped, recursive, opaque])
def test_a_type_without_a_schema_is_refused(function):
    with pytest.raises(UserError, match=f"Tool '{function.__name__}': parameter 'x' has .*annot"):
        Toolbox("none", [function])


def test_an_async_tool_is_waited_for_inside_a_running_loop_too():
    async def notebook():
        return BOX.execute("later", {"x": 4}).content

    assert asyncio.run(notebook()) == "8"


def test_docstrings():
    assert read_docstring("") == ("", {})
    assert read_docstring("One\ntwo.\n\nMore.") == ("One two.", {})
    text = ("Do.\n\nArguments:\n    a (int, optional): first: of\n        all\n    b: c\n"
            "Returns:\n    x")
    assert read_docstring(text) == ("Do.", {"a": "first: of all", "b": "c"})


def test_trl_and_transformers_take_tools_of_any_type():
    from transformers.utils.chat_template_utils import render_jinja_template

    functions = BOX.as_functions()
    assert [f.__name__ for f in functions] == list(BOX.names)
    assert isinstance(functions[0], SchemaFunction) and not isinstance(functions[3], dict)
    text = render_jinja_template([[{"role": "user", "content": ""}]], tools=functions,
                                 chat_template="{{ tools | tojson }}")[0][0]
    assert "which one, of the two" in text and "later" in text
    assert functions[0](colour="red") == "RED m False"
    with pytest.raises(ToolError, match="paint: colour"):
        functions[0](colour=7)


# --- limits ---------------------------------------------------------------------------------------
@limited(seconds=30)
def own_process(x: int = 0) -> str:
    """Its process."""
    print("noise")
    return f"{os.getpid()} {os.getcwd()}"


@limited(seconds=0.5)
def sleepy(seconds: float) -> str:
    """Sleep."""
    time.sleep(seconds)
    return "awake"


@limited(seconds=30)
async def fragile(how: Literal["exit", "raise", "error", "fine"]) -> str:
    """Break."""
    if how == "exit":
        os._exit(3)
    if how == "raise":
        raise KeyError("lost")
    if how == "error":
        raise ToolError("not today")
    return how


LIMITED = Toolbox("limited", [own_process, sleepy, fragile])


def test_a_limited_tool_runs_in_a_process_of_its_own():
    assert LIMITED.waits and not Toolbox("x", [later]).waits
    first, second = (LIMITED.execute("own_process", {}).content for _ in range(2))
    pid, folder = first.split()
    assert first == second and int(pid) != os.getpid() and folder == os.getcwd()


def test_a_late_call_is_killed_and_the_next_one_answered():
    assert LIMITED.execute("sleepy", {"seconds": 0}).content == "awake"
    late = LIMITED.execute("sleepy", {"seconds": 60})
    assert not late.ok and "sleepy: no answer within 0.5 seconds." in late.content
    assert LIMITED.execute("sleepy", {"seconds": 0}).content == "awake"


@pytest.mark.parametrize(("how", "content"), [
    ("fine", "fine"), ("raise", '{\'error\': "\'lost\'"}'), ("error", "{'error': 'not today'}"),
    ("exit", "{'error': 'fragile: its process ended during the call.'}"),
    ("odd", None)])
def test_what_a_limited_tool_raises_is_the_same_observation(how, content):
    seen = LIMITED.execute("fragile", {"how": how})
    assert seen.ok == (how == "fine")
    assert content is None and "Input should be" in seen.content or seen.content == content


def test_a_limited_tool_that_cannot_be_imported_is_refused():
    @limited(seconds=1)
    def inner() -> str:
        """No."""

    with pytest.raises(UserError, match="Tool 'inner' has a time limit.*\\.py file"):
        Toolbox("none", [inner])
    with pytest.raises(UserError, match="seconds above 0"):
        limited(seconds=0)
    inner.__qualname__, inner.__module__ = "gone", "test_tool"
    with pytest.raises(UserError, match="cannot be imported by a child process.*gone"):
        Toolbox("none", [inner]).execute("inner", {})


# --- failures that are no model's fault -----------------------------------------------------------
def broken() -> str:
    """Broken."""
    raise UserError("The server is gone: start it.")


def test_a_tool_that_does_not_work_stops_the_run_in_every_engine():
    box = Toolbox("broken", [broken])
    with pytest.raises(UserError, match="server is gone"):
        box.execute("broken", {})
    try:
        box.as_functions()[0]()
    except Exception:  # noqa: BLE001 - as TRL does
        pytest.fail("TRL would take it for a call that failed")
    except BaseException as error:
        assert isinstance(error, ToolboxFailure) and "server is gone" in str(error)
