"""Converting a GGUF file: what is refused. The conversion itself:
tests/teachers/test_real_server.py."""

from __future__ import annotations

import pytest

from mentor_kit.errors import UserError
from mentor_kit.students import gguf
from mentor_kit.students.gguf import convert_gguf


def test_what_cannot_be_converted_is_one_line_and_writes_nothing(tmp_path, monkeypatch):
    file, folder = tmp_path / "model.gguf", tmp_path / "model"
    with pytest.raises(UserError, match="There is no GGUF file"):
        convert_gguf(file, folder)
    file.write_bytes(b"GGUF")
    with pytest.raises(UserError, match="exists already"):
        convert_gguf(file, tmp_path)
    monkeypatch.setattr(gguf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package gguf"):
        convert_gguf(file, folder)
    assert not folder.exists()
