"""The released training data, `MENTOR-RL/MENTOR-data`, as problems with the tools its teacher used.

Columns (PAPER: "Data"): `question`, `reward_model.ground_truth`, `tool_calls_used` (a list, or a
JSON text of one), `extra_info` (a dict, or a JSON text of one: `func_schemas`, `env`, `index`),
`data_source`. The teacher's tool names are in `meta["teacher_tools"]`; the teacher `released_tools`
makes references of them. The released data holds no trajectories, only names.

`env` is Python source. It is never executed, only parsed for the names it defines: names of our
toolbox are our guarded tools, any other name is refused.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mentor_kit.core.cells import answer_cell, as_mapping, column, question_cell, tool_names
from mentor_kit.core.problem import Problem
from mentor_kit.core.tables import Row, deal, read_rows, source_name
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.errors import UserError
from mentor_kit.problems import normalise_question

MENTOR_DATA = "MENTOR-RL/MENTOR-data"
MAX_SOURCE = 200_000  # characters of an `env` that are looked at


def load(seed: int, sizes: Mapping[str, int], *, path: str = MENTOR_DATA, hub_split: str = "train",
         revision: str = "",
         toolbox: str = "arithmetic", skip_unknown: bool = False) -> list[Problem]:
    """Problems of the released data, or of an export in its form.

    Args:
        path: the hub id or a local file.
        hub_split: `train` or `test` of the hub data set.
        toolbox: the tools that the rows' names are matched with.
        skip_unknown: leave out rows that need a tool the toolbox has not, instead of refusing them.

    Raises:
        UserError: unreadable table, missing column, a tool that the toolbox has not, or fewer rows
            than asked for.
    """
    known = load_toolbox(toolbox).names
    found: dict[int, Problem] = {}
    seen: set[str] = set()
    for number, row in enumerate(read_rows(path, hub_split, revision=revision)):
        where = f"{path!r} row {number}"
        problem = _problem(row, number, where, source_name(path), hub_split, toolbox)
        if problem is None or normalise_question(problem.question) in seen:
            continue
        info = as_mapping(row.get("extra_info")) or {}
        offered = schema_names(info.get("func_schemas")) or defined_names(info.get("env"))
        unknown = sorted({*offered, *problem.meta["teacher_tools"]} - set(known))
        if unknown and not skip_unknown:
            raise UserError(f"{where} brings the tool {unknown[0]!r}, which toolbox "
                            f"{toolbox!r} has not; code in data is never executed: write it as a "
                            "typed function into a Toolbox and set problem_options "
                            "toolbox:package.module:name, or skip_unknown:true to leave such rows "
                            "out.")
        if not unknown:
            seen.add(normalise_question(problem.question))
            found[number] = problem
    if not found:
        raise UserError(f"{path!r} has no usable row: each needs a question, a ground truth and "
                        "known tools.")
    return [replace(found[n], split=split) for split,
            numbers in deal(sorted(found), sizes, seed, path).items()
            for n in numbers]


def _problem(row: Row, number: int, where: str, name: str, hub_split: str,
             toolbox: str) -> Problem | None:
    question = question_cell(row, "question", where)
    answers = answer_cell(row, "reward_model.ground_truth", where)
    if not question or not answers:
        return None
    info = as_mapping(row.get("extra_info")) or {}
    used = tool_names(column(row, "tool_calls_used", where), f"{where}, column 'tool_calls_used',")
    meta = {"teacher_tools": used, "index": info.get("index", number),
            "data_source": str(row.get("data_source") or "")}
    return Problem(f"{name}/{hub_split}/{number:06d}", question, tuple(answers), name, hub_split,
                   toolbox, meta)


def schema_names(schemas: Any) -> set[str]:
    """Names in a list of function schemas, each plain or under `function`; a JSON text is read
    too."""
    if isinstance(schemas, str):
        try:
            schemas = json.loads(schemas)
        except (ValueError, RecursionError):
            return set()
    entries = [as_mapping(s) or {} for s in schemas] if isinstance(schemas, list | tuple) else []
    names = [(as_mapping(e.get("function")) or e).get("name") for e in entries]
    return {str(n) for n in names if n}


def defined_names(source: Any) -> set[str]:
    """Names of the public top-level functions of Python source, by parsing alone.

    Raises:
        UserError: source that cannot be parsed, or is too long: its tools cannot be known.
    """
    if not source:
        return set()
    try:
        tree = ast.parse(str(source)[:MAX_SOURCE + 1]) if len(str(source)) <= MAX_SOURCE else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None:
        raise UserError("A row's `env` is not Python source that can be parsed: "
                        "give `func_schemas`, or repair it.")
    return {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
            and n.name[0] != "_"}
