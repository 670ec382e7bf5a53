"""Mathematics problems of any table with question and answer columns; by default
`nvidia/AceReason-Math`.

    problems: hub_math
    problem_options: ["path:my/problems.parquet", "question:prompt", "answer:solution"]

AceReason-Math is the set the paper takes its training problems from. Rows without a question or an
answer, and repeated questions (the first stays), are left out; which row goes to which split is one
seeded shuffle.
"""

from __future__ import annotations

from collections.abc import Mapping

from mentor_kit.core.cells import answer_cell, question_cell
from mentor_kit.core.problem import Problem
from mentor_kit.core.tables import deal, read_rows, source_name
from mentor_kit.errors import UserError
from mentor_kit.problems import normalise_question

ACE_REASON = "nvidia/AceReason-Math"


def load(seed: int, sizes: Mapping[str, int], *, path: str = ACE_REASON, question: str = "problem",
         answer: str = "answer", after: str = "####", hub_split: str = "train",
         hub_config: str = "", revision: str = "", toolbox: str = "arithmetic") -> list[Problem]:
    """Problems of a table.

    Args:
        path: a file, a folder or a hub id (see `mentor_kit.core.tables.read_rows`).
        question, answer: names of the columns; `outer.inner` reaches into a nested one. A question
            may be a chat with one user message, an answer a list.
        after: where an answer holds this mark, it is what follows the last one (GSM8K: `####`).
        hub_split, hub_config, revision: which part of a hub data set.
        toolbox: what the problems are solved with.

    Raises:
        UserError: unreadable table, missing column, no usable row, or fewer than asked for.
    """
    rows = read_rows(path, hub_split, hub_config=hub_config, revision=revision)
    usable: dict[str, tuple[int, str, list[str]]] = {}
    for number, row in enumerate(rows):
        where = f"{path!r} row {number}"
        text = question_cell(row, question, where)
        answers = answer_cell(row, answer, where, after)
        if text and answers:
            usable.setdefault(normalise_question(text), (number, text, answers))
    if not usable:
        raise UserError(f"{path!r}: no row has both a {question!r} and an {answer!r}; name the "
                        f"right columns of {', '.join(map(repr, rows[0]))}.")
    name = source_name(path)
    found = {number: (text, answers) for number, text, answers in usable.values()}
    return [Problem(f"{name}/{hub_split}/{number:06d}", found[number][0], tuple(found[number][1]),
                    name, split, toolbox)
            for split, numbers in deal(sorted(found), sizes, seed, path).items()
            for number in numbers]
