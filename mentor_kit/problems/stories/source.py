"""Our own short word problems whose worked solutions use all 12 arithmetic tools.

    problems = load(seed=0, sizes={"train": 2000, "in_domain": 200})

Neither the paper nor its release holds such a set; we made it because the public templates with
worked solutions never need `ceil`, `power`, `sqrt`, `abs_value` or `modulo`. Each out-of-domain
split moves one
thing only: the length of the chain, the size of the numbers, the sentences, or the tools combined.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from hashlib import sha256
from typing import Any

from mentor_kit.core.problem import Problem, check_drawn, seeded
from mentor_kit.core.toolbox import Toolbox, load_toolbox
from mentor_kit.errors import UserError
from mentor_kit.problems.stories.structures import (
    CHAINS,
    NAMES,
    OBJECTS,
    TRAINED,
    UNSEEN,
    Structure,
)

SPLITS = ("train", "validation", "in_domain", "longer_chains", "bigger_numbers", "other_phrasing",
          "unseen_combinations", "pretrain")
MAX_RESULT = 6  # characters of any result of a worked solution
TRIES = 3000  # draws of numbers for one structure before another structure is drawn
ROUNDING = {"floor", "ceil", "round_number"}
# eighth of the number combinations; train and pretrain: 2-7
NUMBERS_OF = {"validation": 0, "in_domain": 1, "other_phrasing": 1}


def load(seed: int, sizes: Mapping[str, int], *, min_calls: int = 1,
         max_calls: int = 3) -> list[Problem]:
    """Short word problems in the splits asked for.

    Args:
        seed: non-negative; the same seed gives the same problems on any machine, and a split does
            not depend on which others are asked for (a smaller size is a prefix of a larger one).
        sizes: split name (see `SPLITS`) -> number of problems.
        min_calls, max_calls: tool calls of a trained worked solution; `longer_chains` has more (at
            most 4).

    Returns:
        Problems in the order of `sizes`. `meta` holds `structure`, `phrasing` (index of the
        sentence template), `program` (calls `{"tool", "arguments"}`; an argument is a number of the
        question or `{"result": k}`), `reasoning` (a short phrase a call) and `n_calls`. The answer
        is the program's last result.

    No question occurs twice. `validation`, `in_domain` and `other_phrasing` use number combinations
    that no seed's `train` uses (a fixed eighth of them each, by hash; the last two share theirs, so
    that they differ in phrasing alone). `pretrain` is broad: every structure, phrasing and size
    of numbers, but no combination of numbers of those three splits and no question of a split asked
    for at the same time; a cold start trains on it where it is asked for.

    Raises:
        UserError: for an unknown split, a bad size, seed or range of calls, or a split that has no
            (more) stories.
    """
    check_drawn("arithmetic_stories", sizes, SPLITS, seed)
    if not 1 <= min_calls <= max_calls:
        raise UserError(f"arithmetic_stories: min_calls={min_calls}, max_calls={max_calls} is not "
                        "a range; choose 1 <= min_calls <= max_calls.")
    made: dict[str, list[Problem]] = {}
    for split in sorted(sizes, key=SPLITS.index):  # `pretrain` last: it leaves out what others ask
        others = (p.question for problems in made.values() for p in problems)
        made[split] = _split(seed, split, sizes[split], structures(split, min_calls, max_calls),
                             set(others) if split == "pretrain" else set())
    return [p for split in sizes for p in made[split]]


def structures(split: str, min_calls: int = 1, max_calls: int = 3) -> tuple[Structure, ...]:
    """The structures that a split draws from. Raises UserError where there are none."""
    trained = [s for s in TRAINED + CHAINS if min_calls <= s.n_calls <= max_calls]
    pools = {"pretrain": TRAINED + CHAINS + UNSEEN,
             "longer_chains": [s for s in TRAINED + CHAINS if s.n_calls > max_calls],
             "unseen_combinations": [s for s in UNSEEN if min_calls <= s.n_calls <= max_calls],
             "other_phrasing": [s for s in trained if s.others]}
    pool = pools.get(split, trained)
    if not pool:
        raise UserError(f"arithmetic_stories: split {split!r} has no stories with "
                        f"min_calls={min_calls}, max_calls={max_calls}; change them (1 and 3 serve "
                        "every split) or leave the split out.")
    return tuple(pool)


def run_program(program: Sequence[Mapping[str, Any]], toolbox: Toolbox) -> list[str] | None:
    """The results of a worked solution's calls as texts; None where a call fails."""
    results: list[str] = []
    for call in program:
        observation = toolbox.execute(call["tool"], resolve(call["arguments"], results))
        if not observation.ok:
            return None
        results.append(observation.content)
    return results


def resolve(argument: Any, results: Sequence[str]) -> Any:
    """An argument of a program with `{"result": k}` replaced by the number that call k gave."""
    if isinstance(argument, list):
        return [resolve(a, results) for a in argument]
    if isinstance(argument, Mapping):
        return json.loads(results[argument["result"]]) if "result" in argument else \
            {name: resolve(a, results) for name, a in argument.items()}
    return argument


@cache
def _toolbox() -> Toolbox:
    return load_toolbox("arithmetic")


def _split(seed: int, split: str, size: int, pool: Sequence[Structure],
           asked: set[str]) -> list[Problem]:
    problems = []
    for i in range(size):
        facts = _story(seeded(seed, SPLITS.index(split), i), split, pool, asked)
        asked.add(facts["question"])
        answer = facts.pop("answer")
        problems.append(Problem(f"arithmetic_stories/{seed}/{split}/{i:05d}", facts.pop("question"),
                                (answer,),
                                "arithmetic_stories", split, "arithmetic", facts))
    return problems


def _story(rng: random.Random, split: str, pool: Sequence[Structure], asked: set[str]) -> dict[str,
                                                                                               Any]:
    """Question, answer and meta of a new story."""
    for _ in range(100):
        structure = rng.choice(pool)
        drawn = _numbers(rng, split, structure)
        texts = {"other_phrasing": structure.others,
                 "pretrain": structure.phrasings + structure.others}.get(split, structure.phrasings)
        phrasing = rng.randrange(len(texts))
        (n, m), o = rng.sample(NAMES, 2), rng.choice(OBJECTS)
        if drawn is None:
            continue
        numbers, program, results = drawn
        places = "place" if numbers.get("d") == 1 else "places"
        question = texts[phrasing].format(n=n, m=m, o=o, places=places, **numbers)
        if question not in asked:
            return {"question": question, "answer": results[-1], "structure": structure.id,
                    "phrasing": phrasing,
                    "program": program, "reasoning": [call[0] for call in structure.program],
                    "n_calls": structure.n_calls}
    raise UserError(f"arithmetic_stories: no new story found for split {split!r} after "
                    f"{len(asked)}; ask for fewer.")


def _numbers(rng: random.Random, split: str, structure: Structure) -> tuple[dict, list[dict],
                                                                            list[str]] | None:
    """Numbers for a structure that belong to the split and give a natural solution, its program and
    results."""
    bigger = split == "bigger_numbers" or split == "pretrain" and rng.random() < 0.5
    for _ in range(TRIES):
        numbers = structure.draw_numbers(rng, bigger=bigger)
        if numbers is None or not _belongs(split, structure, numbers):
            continue
        program = _program(structure, numbers)
        results = run_program(program, _toolbox())
        if results is not None and _natural(program, results):
            return numbers, program, results
    return None


def _belongs(split: str, structure: Structure, numbers: Mapping[str, float]) -> bool:
    if split not in (*NUMBERS_OF, "train", "pretrain"):
        return True
    eighth = sha256(f"{structure.id} {list(numbers.values())}".encode()).digest()[0] % 8
    return eighth == NUMBERS_OF[split] if split in NUMBERS_OF else eighth not in NUMBERS_OF.values()


def _program(structure: Structure, numbers: Mapping[str, float]) -> list[dict[str, Any]]:
    def value(argument: Any) -> Any:
        if isinstance(argument, list):
            return [value(a) for a in argument]
        return {"result": argument} if isinstance(argument, int) else numbers[argument]

    return [{"tool": tool, "arguments": {name: value(a) for name, a in
                                         zip(_toolbox().tools[tool].parameters, arguments,
                                             strict=False)}}
            for _, tool, *arguments in structure.program]


def _natural(program: Sequence[Mapping[str, Any]], results: Sequence[str]) -> bool:
    """Whether the results suit a story: short, positive (unless made so next), whole unless rounded
    next; and rounding changes its argument, leaves no zero at the end, and meets no tie (pupils and
    tool differ there)."""
    for k, (call, text) in enumerate(zip(program, results, strict=True)):
        used_by = {c["tool"] for c in program[k + 1:] if {"result": k} in c["arguments"].values()}
        fraction, positive = "." in text, float(text) > 0
        if len(text) > MAX_RESULT or not (positive or "abs_value" in used_by and float(text) < 0):
            return False
        if call["tool"] != "round_number" and fraction != bool(used_by & ROUNDING):
            return False
        if call["tool"] in ROUNDING and not _rounds(call["tool"],
                                                    resolve(call["arguments"], results), text):
            return False
    return True


def _rounds(tool: str, arguments: Mapping[str, Any], result: str) -> bool:
    digits = arguments.get("digits", 0)
    rest = Decimal(str(arguments["x"])).scaleb(digits) % 1
    tie = tool == "round_number" and abs(rest) == Decimal("0.5")
    return rest != 0 and not tie and len(result.partition(".")[2]) == digits
