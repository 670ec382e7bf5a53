"""A toolbox made harder: what changes, what stays, and how often."""

from __future__ import annotations

import pytest

from mentor_kit.core.problem import Problem, known_tools
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.errors import UserError
from mentor_kit.toolboxes.perturbed import DISTRACTORS, keeps_names, read_perturbation

PLAIN = load_toolbox("arithmetic")


def box(how: str, toolbox: str = "arithmetic"):
    return load_toolbox(f"perturbed:{how}:{toolbox}")


def test_renamed_tools_work_under_their_new_names_only():
    renamed = box("renamed")
    assert sorted(renamed.names) == sorted(f"tool_{i}" for i in range(1, 13))
    name = next(n for n, t in renamed.tools.items() if t.inner.name == "add")
    assert renamed.execute(name, {"a": 1, "b": 2}).content == "3"
    assert renamed.execute("add", {"a": 1, "b": 2}).content == "{'error': 'Tool add not found.'}"
    assert f"{name}: missing argument" in renamed.execute(name, {"a": 1}).content
    assert renamed.tools[name].schema["function"]["description"] == \
        PLAIN.tools["add"].schema["function"]["description"]
    assert "add" not in str([s["function"]["name"] for s in renamed.schemas])


def test_descriptions_order_and_distractors():
    told = [s["function"]["description"] for s in box("described").schemas]
    plain = [s["function"]["description"] for s in PLAIN.schemas]
    assert all(t.endswith(p) and t != p for t, p in zip(told, plain, strict=True))
    assert all(s["function"]["description"] == s["function"]["name"]
               for s in box("undescribed").schemas)
    reordered = box("reordered").names
    assert reordered != PLAIN.names and sorted(reordered) == sorted(PLAIN.names)
    assert reordered != box("reordered+seed=1").names
    more = box("distracting=3")
    assert more.names[:12] == PLAIN.names and len(more.names) == 15
    assert more.execute(more.names[12], {n: "1" for n in more.tools[more.names[12]].parameters}
                        ).content == "Nothing found."
    assert len(box(f"distracting={len(DISTRACTORS)}").names) == 12 + len(DISTRACTORS)


def test_a_prompt_changes_only_where_it_is_asked_to():
    """What transformers renders of the tools."""
    from transformers.utils import get_json_schema

    plain = [get_json_schema(f) for f in PLAIN.as_functions()]
    assert [get_json_schema(f) for f in box("failing").as_functions()] == plain
    assert sorted(map(str, (get_json_schema(f) for f in box("reordered").as_functions()))) == \
        sorted(map(str, plain))
    with_more = [f if isinstance(f, dict) else get_json_schema(f)
                 for f in box("distracting").as_functions()]
    assert with_more[:12] == plain and len(with_more) == 17


CALLS = [{"a": a, "b": b} for a in range(40) for b in range(10)]


@pytest.mark.parametrize(("how", "kind"), [
    ("failing=0.3", "{'error': 'add: the service is not available.'}"),
    ("slow=0.3", "{'error': 'add: no answer within 10 seconds.'}"), ("empty=0.3", ""),
    ("wrong=0.3", None)])
def test_a_share_of_the_calls_is_hit_always_the_same_ones(how, kind):
    plain = [PLAIN.execute("add", c).content for c in CALLS]
    seen = [box(how).execute("add", c) for c in CALLS]
    hit = [s for s, p in zip(seen, plain, strict=True) if s.content != p]
    assert 0.22 < len(hit) / len(CALLS) < 0.38
    assert all(s.content == kind for s in hit) if kind is not None else \
        all(s.ok and float(s.content) >= 0 for s in hit)
    assert all(s.ok == ("error" not in s.content) for s in seen)
    functions = {f.__name__: f for f in box(how).as_functions()}
    for call, observation in zip(CALLS, seen, strict=True):
        try:
            told = functions["add"](**call)
        except Exception as error:  # noqa: BLE001 - as TRL does
            told = str({"error": str(error)})
        assert told == observation.content
    other = [box(f"{how}+seed=1").execute("add", c) for c in CALLS]
    assert other != seen


def test_shares_add_up_and_bad_calls_fail_as_they_do():
    both = box("failing=0.5+wrong=0.5")
    plain = [PLAIN.execute("multiply", c).content for c in CALLS]
    assert all(both.execute("multiply", c).content != p for c, p in zip(CALLS, plain, strict=True))
    assert both.execute("add", {"a": 1}).content == PLAIN.execute("add", {"a": 1}).content
    texts = box("wrong=1", "registry").execute("boss", {"person": "Anna"}).content
    right = load_toolbox("registry").execute("boss", {"person": "Anna"}).content
    assert sorted(texts) == sorted(right)


def test_a_problem_knows_the_perturbed_names():
    problem = Problem("1", "?", ("1",), "x", "x", toolbox="perturbed:renamed:arithmetic")
    assert set(known_tools(problem)) == {f"tool_{i}" for i in range(1, 13)}
    assert keeps_names("failing+distracting") and not keeps_names("failing+renamed")
    assert box("renamed").names == load_toolbox("perturbed:renamed:arithmetic").names
    assert len(box("reordered", "perturbed:distracting=2:arithmetic").names) == 14


@pytest.mark.parametrize(("how", "reason"), [
    ("renamd", "did you mean 'renamed'"), ("", "Unknown perturbation ''"),
    ("renamed=1", "renamed takes nothing"), ("failing=2", "takes a share up to 1"),
    ("failing=-0.1", "a share up to 1"), ("distracting=x", "a whole number"),
    ("failing=0.6+wrong=0.5", "more than 1"), ("distracting=99", "12 distracting tools"),
    ("slow+slow", "twice")])
def test_what_cannot_be_asked(how, reason):
    with pytest.raises(UserError, match=reason):
        read_perturbation(how)
    with pytest.raises(UserError, match=reason):
        box(how)


def test_the_toolbox_must_be_one():
    with pytest.raises(UserError, match="Unknown toolbox 'arithmetics'"):
        box("renamed", "arithmetics")
