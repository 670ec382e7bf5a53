"""The `search` tool over a passage file: BM25 by default, a dense index by parameter.

    use_index(open_index("wiki.jsonl"))                   # then load_toolbox("search") searches it
    MENTOR_KIT_PASSAGES=wiki.jsonl mentor-kit batch ...   # the same for every process of a batch

A passage file is .jsonl, .json, .csv or .parquet with `title` and `text`, or `contents` (the title,
a line break, the text: the form of the FlashRAG corpora, Wikipedia 2018 in the paper). It is
indexed once: passages and BM25 index lie in the cache folder (`MENTOR_KIT_CACHE`) and are read from
disk as they are needed, by all processes. The paper searches with e5 and gives the five best
passages; so does ours with `retriever=dense`.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import mmap
import os
import re
import sys
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mentor_kit.core.chat_markup import escape_chat_markup
from mentor_kit.core.files import atomic_path, find_path
from mentor_kit.core.toolbox import Toolbox
from mentor_kit.errors import ToolError, UserError
from mentor_kit.runs.machine import cache_folder

PASSAGES = 5  # as in the paper
CHARACTERS = 1500  # of a passage that are shown
VARIABLE = "MENTOR_KIT_PASSAGES"
PACKAGES = {"bm25": {"bm25s": "bm25s==0.3.16"},
            "dense": {"sentence_transformers": "sentence-transformers", "faiss": "faiss-cpu"}}
E5 = "intfloat/e5-base-v2"
VERSION = 1  # of what lies in the cache folder
# Of a passage file, in bytes: what is said before indexing, and what it takes for each, measured on
# 100,000 passages of 680 characters
LARGE, SECONDS, MEMORY = 200 << 20, 0.33e-6, 5.0
# Scripts that put no spaces between words: each character is a word
UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
WORD_RE = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


@dataclass(frozen=True)
class Passage:
    title: str
    text: str


class Index(Protocol):
    """What the search tool needs."""

    def search(self, query: str, k: int) -> list[Passage]:
        """The k best passages, best first."""


def words(text: str) -> list[str]:
    """The words that BM25 counts: lower case, English stop words left out; one character is a
    word."""
    from bm25s.stopwords import STOPWORDS_EN

    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return [w for w in WORD_RE.findall(text.lower()) if w not in STOPWORDS_EN]


class BM25Index:
    """BM25 (bm25s: Lucene's variant, k1 1.5, b 0.75) over titles and texts. `index`: of these
    passages, where it was made before."""

    def __init__(self, passages: Sequence[Passage], index: Any = None) -> None:
        self.passages, self.index = passages, index or _bm25(passages)

    def search(self, query: str, k: int) -> list[Passage]:
        """The k best passages that share a word with the query; ties in the file's order."""
        known = [w for w in dict.fromkeys(words(query)) if w in self.index.vocab_dict]
        if not known:
            return []
        scores = self.index.get_scores(known)
        k = min(k, len(scores))
        least = max(np.partition(scores, -k)[-k], np.finfo(scores.dtype).tiny)
        found = np.flatnonzero(scores >= least)
        best = found[np.argsort(-scores[found], kind="stable")][:k]
        return [self.passages[int(i)] for i in best]


def _bm25(passages: Iterable[Passage]) -> Any:
    import bm25s

    numbers: dict[str, int] = {}
    ids = [array("i", [numbers.setdefault(w, len(numbers)) for w in words(f"{p.title}\n{p.text}")])
           for p in passages]
    index = bm25s.BM25()
    with np.errstate(invalid="ignore"):  # passages of stop words only have no mean length
        index.index((ids, numbers or {"": 0}), show_progress=False)
    return index


class DenseIndex:
    """Inner products of normalised e5 embeddings in a flat FAISS index (`query: ` and `passage: `
    prefixes)."""

    def __init__(self, passages: Sequence[Passage], model: str = E5) -> None:
        import faiss
        from sentence_transformers import SentenceTransformer

        self.passages, self.encoder = passages, SentenceTransformer(model)
        vectors = self._encode([f"passage: {p.title}\n{p.text}" for p in passages])
        self.index = faiss.IndexFlatIP(vectors.shape[1])
        self.index.add(vectors)

    def _encode(self, texts: list[str]) -> Any:
        return self.encoder.encode(texts, normalize_embeddings=True,
                                   show_progress_bar=False).astype("float32")

    def search(self, query: str, k: int) -> list[Passage]:
        """The k nearest passages."""
        _, found = self.index.search(self._encode([f"query: {query}"]), min(k, len(self.passages)))
        return [self.passages[i] for i in found[0]]


class StoredPassages(Sequence[Passage]):
    """Passages in a folder, each read from disk when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._ends = np.load(folder / "ends.npy", mmap_mode="r")
        with (folder / "passages.jsonl").open("rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @staticmethod
    def write(passages: Iterable[Passage], folder: Path) -> None:
        """Store passages in an empty folder."""
        ends = array("q", [0])
        with (folder / "passages.jsonl").open("wb") as file:
            for passage in passages:
                ends.append(ends[-1] + file.write(
                    json.dumps([passage.title, passage.text]).encode() + b"\n"))
        np.save(folder / "ends.npy", np.asarray(ends))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> Passage:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return Passage(*json.loads(self._text[self._ends[number]:self._ends[number + 1]]))


def open_index(path: str, retriever: str = "bm25") -> Index:
    """The index of a passage file; made at the first time, read from the cache folder afterwards.

    Raises:
        UserError: unknown retriever, a package that is not installed, an unreadable file, or a
            cache folder that cannot be written.
    """
    if retriever not in PACKAGES:
        raise UserError(f"retriever {retriever!r} is unknown: use bm25 or dense.")
    missing = [pin for module, pin in PACKAGES[retriever].items() if find_spec(module) is None]
    if missing:
        extra = "eval" if retriever == "bm25" else "dense"
        raise UserError(f"retriever {retriever!r} needs {' and '.join(missing)}: pip install "
                        f"'mentor-kit[{extra}]'.")
    folder = _stored(path, retriever)
    if retriever == "dense":
        return DenseIndex(StoredPassages(folder))
    import bm25s

    return BM25Index(StoredPassages(folder), bm25s.BM25.load(folder, mmap=True))


def _stored(path: str, retriever: str) -> Path:
    """The folder with a file's passages and its BM25 index; made whole, or not at all."""
    file = find_path(path)
    if not file.is_file():
        raise UserError(f"There is no passage file {path!r}: give a .jsonl, .json, .csv or "
                        ".parquet file.")
    facts = [VERSION, retriever, *PACKAGES["bm25"].values(), file.stat().st_size,
             file.stat().st_mtime_ns]
    with file.open("rb") as opened:
        key = hashlib.sha256(json.dumps(facts).encode() + opened.read(1 << 20)).hexdigest()[:12]
    folder = cache_folder() / f"passages-{file.stem}-{key}"
    if folder.is_dir():
        return folder
    if file.stat().st_size > LARGE:
        print(_estimate(file, folder), file=sys.stderr, flush=True)
    try:
        with atomic_path(folder) as new:
            new.mkdir()
            StoredPassages.write(read_passages(str(file)), new)
            if retriever == "bm25":
                _bm25(StoredPassages(new)).save(new, show_progress=False)
    except OSError as error:
        if not folder.is_dir():  # else another process was faster
            raise UserError(f"The index of {path!r} cannot be kept in {str(folder.parent)!r} "
                            f"({error}): set MENTOR_KIT_CACHE to a folder with room.") from error
    return folder


def _estimate(file: Path, folder: Path) -> str:
    size, here = file.stat().st_size, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (f"Indexing {file} ({size / 2**30:.1f} GB): this takes about {size * SECONDS / 60:.0f} "
            f"minutes and {size * MEMORY / 2**30:.0f} GB of memory (this machine has "
            f"{here / 2**30:.0f}), once; the index is kept in {folder}.")


def read_passages(path: str) -> Iterator[Passage]:
    """The passages of a file, in its order; of JSON lines one at a time.

    Raises:
        UserError: unreadable, without a row, or a row without text.
    """
    number = -1
    for number, row in enumerate(_rows(path)):
        title, _, rest = str(row.get("contents") or "").partition("\n")
        passage = Passage(str(row.get("title") or title).strip('"'),
                          str(row.get("text") or rest or title))
        if not passage.text:
            raise UserError(f"{path!r}: row {number} has neither 'text' nor 'contents'.")
        yield passage
    if number < 0:
        raise UserError(f"{path!r} has no passage.")


def _rows(path: str) -> Iterable[dict[str, Any]]:
    from mentor_kit.core.tables import read_rows

    if not path.endswith(".jsonl") or Path(path).stat().st_size < LARGE:
        return read_rows(path)
    return _json_lines(Path(path))


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that is too large to be read at once."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            line = line.removeprefix(codecs.BOM_UTF8).strip()
            try:
                row = json.loads(line) if line else None
            except ValueError as error:
                raise UserError(f"{str(file)!r}: line {number} is not JSON in UTF-8 "
                                f"({error}).") from None
            if isinstance(row, dict):
                yield row
            elif line:
                raise UserError(f"{str(file)!r}: line {number} is not an object with columns.")


_index: Index | None = None


def use_index(index: Index | None) -> None:
    """Set what the `search` tool of this process searches."""
    global _index
    _index = index


def require_index() -> Index:
    """The index in use; opened from MENTOR_KIT_PASSAGES at the first need.

    Raises:
        UserError: there is none.
    """
    if _index is None:
        if not os.environ.get(VARIABLE):
            raise UserError("The search tool has no passages: name a passage file by the parameter "
                            f"passages, or in the environment variable {VARIABLE}.")
        use_index(open_index(os.environ[VARIABLE]))
    return _index


def search(query: str) -> str:
    """Search an encyclopedia for a question or keywords; gives the best passages with their
    titles."""
    if not query.strip():
        raise ToolError("search: query is empty.")
    found = require_index().search(query, PASSAGES)
    shown = [f"({i}) {p.title}: {p.text[:CHARACTERS]}" for i, p in enumerate(found, 1)]
    return escape_chat_markup("\n".join(shown)) or "Nothing found."


SEARCH = Toolbox("search", [search])
