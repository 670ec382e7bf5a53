"""The `search` tool over a passage file: BM25 by default, a dense index by parameter.

    use_index(open_index("wiki.jsonl"))                   # then load_toolbox("search") searches it
    MENTOR_KIT_PASSAGES=wiki.jsonl mentor-kit batch ...   # the same for every process of a batch

A passage file is .jsonl, .json, .csv or .parquet with `title` and `text`, or `contents` (the title,
a line break, the
text: the form of the FlashRAG corpora, Wikipedia 2018 in the paper). The paper searches with e5 and
gives the five best passages; so does ours with `retriever=dense`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

from mentor_kit.core.toolbox import Toolbox, ToolError
from mentor_kit.errors import UserError

PASSAGES = 5  # as in the paper
CHARACTERS = 1500  # of a passage that are shown
VARIABLE = "MENTOR_KIT_PASSAGES"
PACKAGES = {"bm25": {"bm25s": "bm25s==0.3.16"},
            "dense": {"sentence_transformers": "sentence-transformers", "faiss": "faiss-cpu"}}
E5 = "intfloat/e5-base-v2"


@dataclass(frozen=True)
class Passage:
    title: str
    text: str


class Index(Protocol):
    """What the search tool needs."""

    def search(self, query: str, k: int) -> list[Passage]:
        """The k best passages, best first."""


class BM25Index:
    """BM25 (bm25s: Lucene's variant, k1 1.5, b 0.75, English stop words) over titles and texts, in
    memory."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        import bm25s

        self.passages = passages
        tokens = self._tokens([f"{p.title}\n{p.text}" for p in passages])
        self.index = bm25s.BM25()
        self.index.index(tokens, show_progress=False)

    @staticmethod
    def _tokens(texts: list[str]) -> Any:
        import bm25s

        return bm25s.tokenize(texts, stopwords="en", show_progress=False)

    def search(self, query: str, k: int) -> list[Passage]:
        """The k best passages that share a word with the query; ties in the file's order."""
        words = self._tokens([query])
        known = [w for w in words.vocab if w in self.index.vocab_dict]
        if not known:
            return []
        scores = self.index.get_scores(known)
        best = (-scores).argsort(kind="stable")[:k]
        return [self.passages[i] for i in best if scores[i] > 0]


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
        return self.encoder.encode(
            texts, normalize_embeddings=True, show_progress_bar=False
        ).astype("float32")

    def search(self, query: str, k: int) -> list[Passage]:
        """The k nearest passages."""
        _, found = self.index.search(self._encode([f"query: {query}"]), min(k, len(self.passages)))
        return [self.passages[i] for i in found[0]]


def open_index(path: str, retriever: str = "bm25") -> Index:
    """Index a passage file.

    Raises:
        UserError: unknown retriever, a package that is not installed, or an unreadable file.
    """
    if retriever not in PACKAGES:
        raise UserError(f"retriever {retriever!r} is unknown: use bm25 or dense.")
    missing = [pin for module, pin in PACKAGES[retriever].items() if find_spec(module) is None]
    if missing:
        extra = "eval" if retriever == "bm25" else "dense"
        raise UserError(f"retriever {retriever!r} needs {' and '.join(missing)}: pip install -e "
                        f"'.[{extra}]'.")
    passages = read_passages(path)
    return BM25Index(passages) if retriever == "bm25" else DenseIndex(passages)


def read_passages(path: str) -> list[Passage]:
    """The passages of a file, in its order.

    Raises:
        UserError: unreadable, or a row without text.
    """
    from mentor_kit.core.tables import read_rows

    passages = []
    for number, row in enumerate(read_rows(path)):
        title, _, rest = str(row.get("contents") or "").partition("\n")
        passage = Passage(str(row.get("title") or title).strip('"'),
                          str(row.get("text") or rest or title))
        if not passage.text:
            raise UserError(f"{path!r}: row {number} has neither 'text' nor 'contents'.")
        passages.append(passage)
    return passages


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
    shown = [f"({i}) {_plain(p.title)}: {_plain(p.text)[:CHARACTERS]}" for i,
             p in enumerate(found, 1)]
    return "\n".join(shown) or "Nothing found."


def _plain(text: str) -> str:
    """A passage cannot speak for the chat: its marks are taken apart."""
    return (
        text.replace("<|", "< |")
        .replace("tool_response>", "tool_response >")
        .replace("tool_call>", "tool_call >")
    )


SEARCH = Toolbox("search", [search])
