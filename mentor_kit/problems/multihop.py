"""Multi-hop questions (Bamboogle, HotpotQA, 2WikiMultihopQA) that are answered with the `search`
tool.

Rows have `question` and `golden_answers` (a list) or `answer`: the form of the FlashRAG collection
on the hub, which the paper's release evaluates on, or a local file of the same form. The passages
that the tool searches are a file of
their own: see `mentor_kit.toolboxes.search`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mentor_kit.core.problem import Problem
from mentor_kit.problems import question_set


def load(seed: int, sizes: Mapping[str, int], *, path: str = "RUC-NLPIR/FlashRAG_datasets",
         toolbox: str = "search",
         **options: Any) -> list[Problem]:
    """The first rows of a question set, for the search toolbox; options as
    `mentor_kit.problems.question_set.load`."""
    return question_set.load(seed, sizes, path=path, toolbox=toolbox, **options)
