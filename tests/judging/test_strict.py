"""The strict judge, by kind of answer. It runs here in this process: the texts are ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mentor_kit.judging.strict import equal

ANSWERS = json.loads((Path(__file__).parents[1] / "data/strict_answers.json").read_text("utf-8"))


@pytest.mark.parametrize(("one", "other"), sum(ANSWERS["equal"].values(), []))
def test_equal_whichever_is_the_gold(one, other):
    assert equal(one, other) and equal(other, one)


@pytest.mark.parametrize(("one", "other"), sum(ANSWERS["unequal"].values(), []))
def test_unequal_whichever_is_the_gold(one, other):
    assert not equal(one, other) and not equal(other, one)
