"""BM25 over passages: which words count, and an index that is made once and kept on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mentor_kit.errors import UserError
from mentor_kit.toolboxes import search
from mentor_kit.toolboxes.search import BM25Index, Passage, open_index, read_passages, words


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MENTOR_KIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(file: Path, passages: list[tuple[str, str]]) -> str:
    file.write_text("".join(json.dumps({"title": a, "text": b}) + "\n" for a, b in passages))
    return str(file)


PASSAGES = [("Vitamin C", "Found in lemons."), ("Vitamin D", "Made by the skin in the sun."),
            ("Plan 9", "A film of 1957."), ("Plan 10", "Another film."),
            ("东京", "日本的首都是东京。"), ("北京", "中国的首都是北京。"), ("서울", "한국의 수도"),
            ("Łódź", "A city in Poland."), ("C++", "A language.")]


@pytest.mark.parametrize(("query", "best"), [
    ("vitamin C", "Vitamin C"), ("vitamin d", "Vitamin D"), ("Plan 9", "Plan 9"),
    ("日本的首都", "东京"), ("中国的首都是哪里", "北京"), ("수도", "서울"), ("łódź", "Łódź"),
    ("Ｖｉｔａｍｉｎ Ｄ", "Vitamin D"), ("9", "Plan 9")])
def test_one_character_is_a_word_and_scripts_without_spaces_are_searched(query, best):
    index = BM25Index([Passage(*p) for p in PASSAGES])
    assert index.search(query, 5)[0].title == best


def test_words():
    assert words("The Plan 9 of C++") == ["plan", "9", "c"]
    assert words("東京 is Tokyo") == ["東", "京", "tokyo"]
    assert words("don't _x_ the") == ["don", "t", "_x_"]
    assert BM25Index([Passage("the", "of")]).search("the", 5) == []  # no word in all passages


def test_the_index_is_made_once_and_equals_one_in_memory(tmp_path, cache, monkeypatch):
    file = write(tmp_path / "wiki.jsonl", PASSAGES)
    fresh, stored = BM25Index(list(read_passages(file))), open_index(file)
    (folder,) = cache.iterdir()
    monkeypatch.setattr(search, "read_passages", None)  # nothing is read again
    for index in (stored, open_index(file)):
        for query in ("vitamin C", "film", "首都", "nothing"):
            assert index.search(query, 5) == fresh.search(query, 5)
        assert len(index.passages) == len(PASSAGES)
        assert list(index.passages) == list(fresh.passages)
    assert list(cache.iterdir()) == [folder]


def test_a_changed_file_gets_an_index_of_its_own(tmp_path):
    file = write(tmp_path / "wiki.jsonl", PASSAGES)
    assert open_index(file).search("vitamin", 9)
    write(Path(file), [*PASSAGES, ("Vitamin E", "Found in nuts.")])
    assert len(open_index(file).search("vitamin", 9)) == 3


def test_an_index_that_was_cut_off_is_not_taken_for_a_whole_one(tmp_path, cache, monkeypatch):
    file = write(tmp_path / "wiki.jsonl", PASSAGES)
    monkeypatch.setattr(search, "_bm25", lambda passages: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_index(file)
    assert not any(cache.iterdir())
    monkeypatch.undo()
    monkeypatch.setenv("MENTOR_KIT_CACHE", str(cache))
    assert open_index(file).search("vitamin c", 1)[0].title == "Vitamin C"


def test_a_big_file_is_streamed_with_a_warning_and_an_estimate(tmp_path, monkeypatch, capsys):
    file = write(tmp_path / "wiki.jsonl", PASSAGES)
    plain = list(read_passages(file))
    assert open_index(file) and not capsys.readouterr().err
    monkeypatch.setattr(search, "LARGE", 100)
    monkeypatch.setenv("MENTOR_KIT_CACHE", str(tmp_path / "other"))
    assert list(open_index(file).passages) == plain
    said = capsys.readouterr().err
    assert "minutes" in said and "GB of memory" in said and str(tmp_path / "other") in said


@pytest.mark.parametrize(("text", "reason"), [
    ("[1]", "line 1 is (a JSON list, )?not an object"),
    ('{"text": "a"}\n{"te', "line 2 is not JSON"),
    ('{"title": "x"}', "row 0 has neither 'text' nor 'contents'"),
    ("", "has no passage|holds no row")])
@pytest.mark.parametrize("large", [0, 10**9])
def test_bad_files_are_named(tmp_path, monkeypatch, cache, text, reason, large):
    monkeypatch.setattr(search, "LARGE", large)
    (tmp_path / "bad.jsonl").write_text(text)
    with pytest.raises(UserError, match=f"bad.jsonl.*({reason})"):
        open_index(str(tmp_path / "bad.jsonl"))
    assert not list(cache.glob("passages-*"))


def test_a_file_that_is_missing_and_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no passage file 'no.jsonl'"):
        open_index("no.jsonl")
    (tmp_path / "file").touch()
    monkeypatch.setenv("MENTOR_KIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be kept in .*MENTOR_KIT_CACHE"):
        open_index(write(tmp_path / "wiki.jsonl", PASSAGES))
