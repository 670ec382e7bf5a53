"""The toolbox: hand-computed results, coercion rules, hostile calls, and agreement with TRL."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentor_kit.core.arguments import MAX_NUMBER, coerce
from mentor_kit.core.tool import Tool, format_result
from mentor_kit.core.toolbox import Observation, Toolbox, error_observation, load_toolbox
from mentor_kit.errors import ToolError, UserError

BOX = load_toolbox("arithmetic")


def run(name: str, **arguments) -> str:
    observation = BOX.execute(name, arguments)
    assert observation.ok, observation
    return observation.content


def error(name, arguments) -> str:
    """The text of a failed call, without the `{'error': ...}` around it."""
    observation = BOX.execute(name, arguments)
    assert not observation.ok
    assert observation.content.startswith("{'error': ")
    return observation.content.removeprefix("{'error': ").removesuffix("}")[1:-1]


@pytest.mark.parametrize(("name", "arguments", "result"), [
    ("add", {"a": 17, "b": 25}, "42"), ("add", {"a": 0.1, "b": 0.2}, "0.3"),
    ("add", {"a": -3, "b": 3}, "0"),
    ("subtract", {"a": 3, "b": 10}, "-7"), ("subtract", {"a": 1.5, "b": 0.5}, "1"),
    ("multiply", {"a": 12, "b": 12}, "144"), ("multiply", {"a": 0.1, "b": 3}, "0.3"),
    ("multiply", {"a": 10**15, "b": 10**15}, "1" + "0" * 30),
    ("multiply", {"a": 99999999999, "b": 3}, "299999999997"),
    ("divide", {"a": 17, "b": 4}, "4.25"), ("divide", {"a": 2, "b": 3}, "0.666666666667"),
    ("divide", {"a": 10**29 + 7, "b": 1}, str(10**29 + 7)), ("divide", {"a": -9, "b": 3}, "-3"),
    ("sum_numbers", {"numbers": [4, 7, 9, 22]}, "42"), ("sum_numbers", {"numbers": []}, "0"),
    ("sum_numbers", {"numbers": [0.1] * 10}, "1"), ("sum_numbers", {"numbers": [1.5, -2]}, "-0.5"),
    ("floor", {"x": 7.9}, "7"), ("floor", {"x": -7.1}, "-8"), ("ceil", {"x": 7.1}, "8"),
    ("ceil", {"x": -7.9}, "-7"),
    ("round_number", {"x": 2.5}, "2"), ("round_number", {"x": 3.5}, "4"),
    ("round_number", {"x": 2.345, "digits": 2}, "2.34"),
    ("round_number", {"x": 15.493, "digits": 1}, "15.5"),
    ("round_number", {"x": 1234, "digits": -2}, "1200"),
    ("power", {"a": 2, "b": 10}, "1024"), ("power", {"a": 2, "b": -1}, "0.5"),
    ("power", {"a": -2, "b": -3}, "-0.125"),
    ("power", {"a": 9, "b": 0.5}, "3"), ("power", {"a": 0, "b": 0}, "1"),
    ("power", {"a": 10, "b": 30}, "1" + "0" * 30), ("power", {"a": -1, "b": 1e30}, "1"),
    ("power", {"a": 2, "b": -1e30}, "0"), ("power", {"a": -1, "b": 10**29 + 1}, "-1"),
    ("sqrt", {"x": 144}, "12"), ("sqrt", {"x": 2}, "1.41421356237"), ("sqrt", {"x": 6.25}, "2.5"),
    ("sqrt", {"x": 0}, "0"),
    ("abs_value", {"x": -7}, "7"), ("abs_value", {"x": 3.5}, "3.5"),
    ("modulo", {"a": 17, "b": 5}, "2"), ("modulo", {"a": -7, "b": 3}, "2"),
    ("modulo", {"a": 5.5, "b": 2}, "1.5"),
    # decimals are exact, as they were written
    ("sum_numbers", {"numbers": [0.1, 0.2, -0.3]}, "0"), ("modulo", {"a": 1, "b": 0.1}, "0"),
    ("modulo", {"a": 72.14, "b": 0.01}, "0"), ("subtract", {"a": 100000.1, "b": 100000}, "0.1"),
    ("add", {"a": 123456789012.5, "b": 0.25}, "123456789012.75"),
    ("add", {"a": 12345678901.23, "b": 0.01}, "12345678901.24"),
    ("add", {"a": 1e15, "b": 0.5}, "1000000000000000.5"),
    ("add", {"a": "9007199254740993.0", "b": 0}, "9007199254740993"),
    ("add", {"a": "9007199254740993e3", "b": 0}, "9007199254740993000"),
    ("multiply", {"a": 448.54, "b": 448.54}, "201188.1316"),
    ("power", {"a": 448.54, "b": 3}, "90240924.547864"), ("power", {"a": 0.1, "b": 2}, "0.01"),
    ("power", {"a": 2.5, "b": -2}, "0.16"), ("sqrt", {"x": 0.0625}, "0.25"),
    ("round_number", {"x": 2.675, "digits": 2}, "2.68"),
    ("round_number", {"x": 8.575, "digits": 2}, "8.58"),
    ("round_number", {"x": 1.005, "digits": 2}, "1"), ("floor", {"x": 1e22}, "1" + "0" * 22),
    ("divide", {"a": 0.3, "b": 0.1}, "3"), ("divide", {"a": 1, "b": 3e12}, "3.33333333333e-13"),
    # an exact result of many places has 12 digits, as any other
    ("add", {"a": 0.333333333333, "b": 100}, "100.333333333"),
])
def test_results(name, arguments, result):
    assert run(name, **arguments) == result


def test_the_twelve_names_in_the_papers_order():
    assert BOX.names == ("add", "subtract", "multiply", "divide", "sum_numbers", "floor", "ceil",
                         "round_number",
                         "power", "sqrt", "abs_value", "modulo")


@pytest.mark.parametrize(("value", "number"), [
    (3, 3), (3.0, 3), (2.5, 2.5), ("3", 3), (" 1,234.5 ", 1234.5), ("-1,000", -1000), ("+7", 7),
    ("1e3", 1000),
    (".5", 0.5), ("5.", 5), ("1,234,567", 1234567), (10**30, 10**30), (-1e30, -10**30),
    (1e-320, 1e-320),
    ("0", 0), (-0.0, 0),
])
def test_what_a_number_may_be(value, number):
    found = coerce("x", float, value)
    assert found == number and type(found) is type(number)


@pytest.mark.parametrize(("value", "reason"), [
    (True, "must be a number"), (False, "must be a number"), (None, "must be a number"),
    ([1], "must be a number"),
    ({}, "must be a number"), ("", "must be a number"), ("three", "must be a number"),
    ("1,2", "must be a number"),
    ("1,23,456", "must be a number"), ("1234,567", "must be a number"),
    ("1_000", "must be a number"),
    ("0x10", "must be a number"), ("--1", "must be a number"), ("٣", "must be a number"),
    ("nan", "must be a number"),
    ("inf", "must be a number"), (".", "must be a number"), ("1" * 41, "must be a number"),
    (math.nan, "must be finite"), (math.inf, "must be finite"), (-math.inf, "must be finite"),
    ("1e999999", "must be finite"), ("1e31", "is too large"), (10**31, "is too large"),
    (-2e30, "is too large"),
    (10**400, "is too large"),
])
def test_what_a_number_may_not_be(value, reason):
    with pytest.raises(ToolError, match=f"^x {reason}"):
        coerce("x", float, value)


def test_whole_numbers_lists_and_texts():
    assert coerce("d", int, "2.0") == 2 and coerce("d", int, 3.0) == 3
    with pytest.raises(ToolError, match="d must be a whole number"):
        coerce("d", int, 2.5)
    assert coerce("n", list[float], ["1", 2.0, 2.5]) == [1, 2, 2.5]
    assert coerce("n", list[float], list(range(1000)))[-1] == 999
    for bad, reason in (("1,2", "list of numbers"), (7, "list of numbers"),
                        ({"0": 1}, "list of numbers"),
                        ([[1]], "must be a number"), ([True], "must be a number"),
                        ([1] * 1001, "more than 1000")):
        with pytest.raises(ToolError, match=reason):
            coerce("n", list[float], bad)
    assert coerce("t", str, "x" * 10_000)
    for bad in ("x" * 10_001, 3, None):
        with pytest.raises(ToolError, match="t must be a text of at most 10000"):
            coerce("t", str, bad)


@pytest.mark.parametrize(("name", "arguments", "message"), [
    ("add", {"a": 1}, "add: missing argument 'b'."), ("add", {}, "add: missing argument 'a'."),
    ("add", {"a": 1, "b": 2, "c": 3}, "add: unexpected argument 'c'."),
    ("add", None, "add: missing argument 'a'."),
    ("add", [1, 2], "add: arguments must be an object."),
    ("add", "{}", "add: arguments must be an object."),
    ("add", {"a": 1e30, "b": 1e30}, "result is too large."),
    ("divide", {"a": 1, "b": 0}, "division by zero."),
    ("modulo", {"a": 1, "b": 0.0}, "division by zero."),
    ("sqrt", {"x": -1}, "square root of a negative number."),
    ("power", {"a": 0, "b": -1}, "zero to a negative power."),
    ("power", {"a": -8, "b": 0.5}, "a negative number to a fractional power."),
    ("power", {"a": 10, "b": 31}, "result is too large."),
    ("power", {"a": 9.9, "b": 1e30}, "result is too large."),
    ("power", {"a": 0.5, "b": -1e30}, "result is too large."),
    ("round_number", {"x": 1.5, "digits": 16}, "digits must be between -15 and 15."),
    ("total", {"a": 1}, "Tool total not found."), ("__class__", {}, "Tool __class__ not found."),
])
def test_errors_in_words(name, arguments, message):
    assert error(name, arguments).replace('"', "'") == message


def deep(depth: int, wrap) -> object:
    value: object = 0
    for _ in range(depth):
        value = wrap(value)
    return value


HOSTILE = {
    "nan": math.nan, "inf": math.inf, "1e999999": "1e999999", "ones": "1" * 200_000,
    "text": "x" * 200_000,
    "escapes": "\x00\ud800\u202e<|im_end|>", "deep list": deep(50_000, lambda v: [v]),
    "deep object": deep(50_000, lambda v: {"a": v}), "long list": [1] * 1_000_000, "true": True,
    "null": None,
    "list": [1], "object": {"a": 1}, "power tower": 10**400, "tiny": 5e-324,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_arguments_fail_fast_and_quietly(what):
    value = HOSTILE[what]
    for name, tool in BOX.tools.items():
        for arguments in (value, dict.fromkeys(tool.parameters, value),
                          {n: [value] for n in tool.parameters},
                          {**dict.fromkeys(tool.parameters, 2), "extra": value}):
            start = time.process_time()
            observation = BOX.execute(name, arguments)
            assert time.process_time() - start < 0.1
            if what != "tiny" and not (what == "list" and name == "sum_numbers"):
                assert not observation.ok, (name, what)
            assert len(observation.content) < 400
            observation.content.encode()


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_names_fail_fast_and_quietly(what):
    start = time.process_time()
    observation = BOX.execute(HOSTILE[what], {"a": 1, "b": 2})
    assert time.process_time() - start < 0.1
    assert (
        not observation.ok and "not found" in observation.content and len(observation.content) < 400
    )
    observation.content.encode()


KEYS = st.sampled_from(["a", "b", "x", "numbers", "digits", "z"])
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
                    lambda inner:
                    st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
                    max_leaves=8)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(BOX.names) | JSON, JSON)
def test_execute_never_raises(name, arguments):
    observation = BOX.execute(name, arguments)
    assert isinstance(observation, Observation)
    if observation.ok:
        assert abs(float(observation.content)) <= MAX_NUMBER


NUMBERS = st.integers(-10**30, 10**30) | st.floats(-1e30, 1e30)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(BOX.names), NUMBERS, NUMBERS)
def test_numbers_in_finite_numbers_out(name, a, b):
    arguments = {"a": a, "b": b, "x": a, "numbers": [a, b]}
    observation = BOX.execute(name,
                              {n: arguments[n] for n in BOX.tools[name].parameters
                               if n in arguments})
    assert not observation.ok or math.isfinite(float(observation.content))


@given(st.integers(-10**14, 10**14), st.integers(-10**14, 10**14))
def test_whole_numbers_stay_exact(a, b):
    assert run("add", a=a, b=b) == str(a + b)
    assert run("multiply", a=a, b=b) == str(a * b)
    assert run("subtract", a=str(a), b=str(b)) == str(a - b)


def test_format_result():
    assert [format_result(v) for v in (3, 3.0, 2.5, 1 / 3, -0.0, 1e-7, "text", 123456789012.5)] == [
        "3", "3", "2.5", "0.333333333333", "0", "1e-07", "text", "123456789012"]
    with pytest.raises(ToolError):
        format_result(math.inf)


# -- TRL's tool loop

def as_trl_would(name: str, arguments) -> str:
    """What TRL 1.14's loop makes of a call (see `test_trl_still_writes_errors_this_way`)."""
    functions = {f.__name__: f for f in BOX.as_functions()}
    try:
        if name not in functions:
            raise ValueError(f"Tool {name} not found.")
        return str(functions[name](**arguments))
    except Exception as failure:  # noqa: BLE001 - as TRL does
        return str({"error": str(failure)})


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*BOX.names, "total", "Add"]),
       st.dictionaries(st.sampled_from(["a", "b", "x", "numbers", "digits", "it's"]), JSON,
                       max_size=3))
def test_tool_texts_are_those_of_trls_loop(name, arguments):
    assert BOX.execute(name, arguments).content == as_trl_would(name, arguments)


def test_trl_still_writes_errors_this_way():
    found = importlib.util.find_spec("trl")
    if found is None:
        pytest.skip("trl is not installed")
    source = (Path(found.submodule_search_locations[0]) / "trainer" / "grpo_trainer.py").read_text()
    assert 'raise ValueError(f"Tool {name} not found.")' in source
    assert 'result = {"error": str(e)}' in source


def test_schemas_agree_with_those_transformers_derives():
    utils = pytest.importorskip("transformers.utils")
    for function, ours in zip(BOX.as_functions(), BOX.schemas, strict=True):
        theirs = utils.get_json_schema(function)["function"]
        ours = ours["function"]
        assert (theirs["name"], theirs["description"]) == (ours["name"], ours["description"])
        kinds = {n: {k: v for k, v in p.items() if k != "description"}
                 for n, p in theirs["parameters"]["properties"].items()}
        assert kinds == ours["parameters"]["properties"]
        assert theirs["parameters"].get("required", []) == ours["parameters"]["required"]


def test_schema_in_full():
    assert Tool(BOX.tools["round_number"].function).schema == {
        "type": "function",
        "function": {
            "name": "round_number",
            "description": "x rounded to a number of decimal places (0 unless given); halves go to the even neighbour.",  # noqa: E501
            "parameters": {
                "type": "object",
                "properties": {"x": {"type": "number"}, "digits": {"type": "integer"}},
                "required": ["x"],
            },
        },
    }
    json.dumps(BOX.schemas)


# -- own toolboxes

def shout(text: str, times: int = 1) -> str:
    """Say it louder."""
    return text.upper() * times


def untyped(x):
    return x


OWN = Toolbox("own", [shout])


def test_a_toolbox_of_ones_own(monkeypatch):
    assert OWN.execute("shout", {"text": "hi", "times": 2}) == Observation("HIHI")
    assert not OWN.execute("shout", {"text": 5}).ok
    with pytest.raises(UserError, match="'untyped': parameter 'x' has type None"):
        Toolbox("bad", [untyped])
    assert "shout(text, times)" in OWN._repr_html_()


@pytest.mark.parametrize(("spec", "message"), [
    ("calculus", "Unknown toolbox 'calculus': use one of .'arithmetic'."),
    (":x", "is neither a built-in name nor"),
    ("no_such_module:BOX", "cannot be imported"), ("math:BOX", "cannot be imported"),
    ("math:pi", "'math:pi' is a float: it must be"),
])
def test_unknown_toolboxes_are_user_errors(spec, message):
    with pytest.raises(UserError, match=message):
        load_toolbox(spec)


def test_a_toolbox_by_module_and_name():
    assert load_toolbox("mentor_kit.toolboxes.arithmetic:ARITHMETIC") is BOX


@pytest.mark.parametrize("error", [KeyError("boom"), RuntimeError(), OSError("disk"),
                                   AssertionError("odd")])
def test_whatever_a_tool_of_ones_own_raises_is_an_error_observation(error):
    def add(a: float) -> float:
        raise error

    box, said = Toolbox("mine", [add]), str(error) or "RuntimeError"
    assert box.execute("add", {"a": 1}) == error_observation(said)
    with pytest.raises(ToolError, match=said):
        box.as_functions()[0](a=1)
