"""`import mentor_kit as mk`: the names a notebook needs, lazily and without torch."""

from __future__ import annotations

import pytest
from other_process import printed_by

import mentor_kit as mk


@pytest.mark.parametrize("name", mk.FACE)
def test_every_name_is_what_its_module_defines(name):
    found = getattr(mk, name)
    assert found.__name__ == name and found.__module__.startswith("mentor_kit.") and found.__doc__
    assert name in dir(mk) and name in mk.__all__


def test_only_what_needs_a_student_loads_torch():
    code = ("import sys, mentor_kit as mk\nassert len(sys.modules) < 120, len(sys.modules)\n"
            "for name in mk.FACE:\n    if name not in ('load_student', 'Sampling'):\n"
            "        getattr(mk, name)\nassert 'torch' not in sys.modules\n"
            "mk.load_student\nassert 'torch' in sys.modules")
    printed_by(code)


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(AttributeError, match="'load_studnet'; it offers .*load_student"):
        mk.load_studnet  # noqa: B018
