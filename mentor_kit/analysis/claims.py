"""The paper's claims, each judged by the results: supported, not supported, or only under some
conditions.

    findings.answer(results.items)

A claim says that one method is better than another in a metric, in domain or out of domain. It is
judged (`mentor_kit.analysis.verdicts`) under every condition under which both methods were trained:
level of the cold start, dose of the teacher's quirks, references, length of the prompts. Supported
under some conditions and not under others, it is `supported only with` these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from mentor_kit.analysis.conditions import (
    HOPS,
    LEVEL,
    QUIRK,
    SIZE,
    TEMPERATURE,
    at,
    cells,
    condition_text,
    main_cell,
)
from mentor_kit.analysis.sentences import Finding, counted, listed
from mentor_kit.analysis.style import label, split_label
from mentor_kit.analysis.summaries import IN_DOMAIN, OUT_OF_DOMAIN, in_and_out, refuse_empty
from mentor_kit.analysis.table import Table, points
from mentor_kit.analysis.verdicts import (
    CANNOT_TELL,
    ENOUGH,
    NOT_SUPPORTED,
    SUPPORTED,
    Comparison,
    compare,
    judged_text,
    missing_text,
    points_text,
    verdict,
)
from mentor_kit.errors import UserError

VARYING = (LEVEL, QUIRK, SIZE, HOPS)


class Claim(NamedTuple):
    """`method` is better than `baseline` in a metric; `text` says so in words."""

    text: str
    method: str
    baseline: str
    column: str = "correct"


CLAIMS = (
    Claim("RL with MENTOR's reward is more accurate than imitation", "mentor", "sft"),
    Claim("MENTOR's reward is more accurate than a sparse one", "mentor", "sparse"),
    Claim("A flexible reward is more accurate than a strict one", "mentor", "strict"),
    Claim("MENTOR's reward brings the tools used closer to the teacher's than a sparse one does",
          "mentor", "sparse", "set_match"),
)
# not the paper's: repairs of its reward, and what the other claims are read against
OURS = (
    Claim("RL with a sparse reward is more accurate than imitation", "sparse", "sft"),
    Claim("The repaired reward is more accurate than MENTOR's", "mentor_fixed", "mentor"),
    Claim("MENTOR's reward is more accurate without its hygiene bonus", "mentor_no_hygiene",
          "mentor"),
)


class Judgement(NamedTuple):
    """A claim under one condition, on one group of splits."""

    claim: Claim
    split: str
    cell: dict[str, Any]
    found: Comparison
    verdict: str


def judge_claims(items: pd.DataFrame, claims: Sequence[Claim] = CLAIMS + OURS) -> list[Judgement]:
    """Every claim in domain and out of domain, under every condition under which both methods have
    items of the same evaluation (the main temperature).

    Args:
        items: `Results.items`, of one study.

    Raises:
        UserError: no items, or items of several studies.
    """
    refuse_empty(items)
    if items["study"].nunique() > 1:
        studies = listed(sorted(items["study"].unique()))
        raise UserError(f"These are results of the studies {studies}: judge the claims on each "
                        "by itself, with results.of_study(NAME).items.")
    items = at(items, {TEMPERATURE: main_cell(items).get(TEMPERATURE, 0.0)})
    grouped, judged = in_and_out(items), []
    for claim in claims:
        pair = grouped[grouped["method"].isin([claim.method, claim.baseline])]
        for split in (IN_DOMAIN, OUT_OF_DOMAIN):
            here = pair[pair["split"] == split]
            for cell in cells(here, VARYING):
                found = compare(at(here, cell), claim.column, claim.method, claim.baseline)
                if found.difference is not None:
                    judged.append(Judgement(claim, split, cell, found, verdict(found)))
    return judged


def answer(items: pd.DataFrame, claims: Sequence[Claim] = CLAIMS + OURS) -> Finding:
    """What the results say to every claim, a line in domain and a line out of domain.

    Args:
        items: `Results.items`, of one study, under all conditions.

    Raises:
        UserError: no items.
    """
    judged, lines = judge_claims(items, claims), []
    for claim in claims:
        of_claim = [j for j in judged if j.claim == claim]
        if not of_claim and claim in OURS:
            continue
        if not of_claim:
            lines.append(f"{claim.text}: {CANNOT_TELL}, "
                         f"{missing_text(items, claim.method, claim.baseline)}.")
        for split in (IN_DOMAIN, OUT_OF_DOMAIN):
            if here := [j for j in of_claim if j.split == split]:
                lines.append(f"{claim.text}, {split_label(split)}: {_verdicts(here)}.")
    if any(len(j.found.by_seed) < ENOUGH for j in judged):
        lines.append(f"To compare methods, {ENOUGH} seeds are needed, each with a cold start of "
                     "its own; with fewer a difference is that of these students.")
    return Finding("\n".join(lines))


def _verdicts(judged: list[Judgement]) -> str:
    """The verdict under all conditions together, with the differences it rests on."""
    claim, found = judged[0].claim, judged[0].found
    names = (label(claim.method), label(claim.baseline))
    if len(judged) == 1:
        return (f"{judged_text(found, names)} ({points_text(found.difference)}, "
                f"{counted(found.items, 'item')}, {counted(len(found.by_seed), 'seed')})")
    texts = []
    for said, begin in ((SUPPORTED, "supported only"), (NOT_SUPPORTED, NOT_SUPPORTED),
                        (CANNOT_TELL, CANNOT_TELL)):
        group = [j for j in judged if j.verdict == said]
        if len(group) == len(judged):
            begin = f"{said} under all {len(group)} conditions"
        elif group and said == CANNOT_TELL:
            begin += f" under {counted(len(group), 'other condition')}"
        elif group:
            begin += f" with {_conditions(group, judged)}"
        ahead = f", where {names[1]} is ahead" if said == NOT_SUPPORTED else ""
        if group:
            texts.append(f"{begin}{ahead} ({_range(group)})")
    return "; ".join(texts)


def _conditions(chosen: list[Judgement], every: list[Judgement]) -> str:
    """The chosen ones of all conditions: those that differ in one value told together, without what
    they all share or what is the rule."""
    names = [n for n in VARYING if n in every[0].cell]
    blocks = [{n: (j.cell[n],) for n in names} for j in chosen]
    for name in names:
        merged: dict[tuple, list] = {}
        for block in blocks:
            rest = tuple((n, v) for n, v in block.items() if n != name)
            merged.setdefault(rest, []).extend(block[name])
        blocks = [dict(rest) | {name: tuple(values)} for rest, values in merged.items()]
    whole = {n: {j.cell[n] for j in every} for n in names}
    usual = Counter(j.cell.get(SIZE) for j in every).most_common(1)[0][0]
    rule = {SIZE: {usual}}
    texts = [condition_text({n: v for n, v in block.items()
                             if set(v) not in (whole[n], rule.get(n))}) for block in blocks]
    return " or with ".join(texts)


def _range(group: list[Judgement]) -> str:
    """The smallest and the largest difference of these conditions, and of how much."""
    least, most = (f(group, key=lambda j: j.found.difference.estimate) for f in (min, max))
    text = points_text(least.found.difference)
    if least is not most:
        text += f" to {points_text(most.found.difference)}"
    items, seeds = max(j.found.items for j in group), min(len(j.found.by_seed) for j in group)
    return (f"{text}; {counted(items, 'item')}, {counted(seeds, 'seed')}"
            + (f", {ENOUGH} are needed" if seeds < ENOUGH else ""))


def claims_table(items: pd.DataFrame) -> Table:
    """Every claim under every condition: differences in points and verdicts, in and out of domain.

    Args:
        items: `Results.items`, of one study.
    """
    judged = judge_claims(items)
    rows: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    numbers = []
    for j in judged:
        row = rows.setdefault((j.claim.text, condition_text(j.cell)), {})
        where_ = split_label(j.split)
        row["Difference (points)", where_], row["Verdict", where_] = (
            points(j.found.difference), j.verdict)
        numbers.append({"claim": j.claim.text, "method": j.claim.method,
                        "baseline": j.claim.baseline, "metric": j.claim.column, "split": j.split,
                        **j.cell, **j.found.difference._asdict(), "items": j.found.items,
                        "seeds": len(j.found.by_seed), "verdict": j.verdict})
    frame = pd.DataFrame.from_dict(rows, orient="index").fillna("n/a")
    frame.index = pd.MultiIndex.from_tuples(list(rows), names=["claim", "under"])
    return Table(frame, pd.DataFrame(numbers),
                 "Each claim under each condition: the first method minus the second in points, "
                 f"with 95% intervals. From {ENOUGH} seeds on they are over seeds and items, each "
                 "seed with a cold start of its own; with fewer they are over items, and no "
                 "verdict is given.")
