"""The scorers a benchmark may declare: functions of problems and answers, no model, no method's
name.

Each gives a verdict an item: `correct`, `judged_by`, `failure`, and further numbers (0..1) under
`scores`. A failed item scores 0 everywhere.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mentor_kit.bfcl.checker import bfcl_verdicts
from mentor_kit.bfcl.multi_turn import multi_turn_verdicts
from mentor_kit.core.problem import Problem
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.evaluation.evaluate import Scorer
from mentor_kit.judging.judge import final_answer
from mentor_kit.judging.verdicts import failure_kind, judge_answers, judge_strictly

QA_SCORES = ("em", "f1", "contains", "precision", "recall")
ARTICLES_RE = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
TEXT_RE = re.compile(r"\\(?:text|textbf|mathrm|textit)\{([^{}]*)\}")


def normalise_answer(text: str) -> str:
    r"""SQuAD's normalisation: lower case, no punctuation, no articles, single blanks. LaTeX
    `\text{}` is opened first, because our prompt asks for a box."""
    plain = TEXT_RE.sub(r"\1", text).replace("\\ ", " ").lower().translate(PUNCTUATION)
    return " ".join(ARTICLES_RE.sub(" ", plain).split())


def answer_scores(prediction: str, gold: str) -> dict[str, float]:
    """EM, token F1, precision, recall, and `contains` (the gold answer occurs in the prediction;
    others call it accuracy), each 0..1.

    As in the evaluators of FlashRAG and of HotpotQA: where gold or prediction is yes, no or
    noanswer and they differ, no partial credit is given. A gold answer of which normalisation
    leaves nothing ("The The") is compared as it is written, case aside.
    """
    p, g = normalise_answer(prediction), normalise_answer(gold)
    if not g:
        p, g = (" ".join(text.lower().split()) for text in (prediction, gold))
    special = {p, g} & {"yes", "no", "noanswer"}
    common = 0 if special and p != g else sum((Counter(p.split()) & Counter(g.split())).values())
    precision, recall = (common / max(len(x.split()), 1) for x in (p, g))
    f1 = 2 * precision * recall / (precision + recall) if common else 0.0
    inside = bool(g) and f" {g} " in f" {p} "
    return {"em": float(p == g), "f1": f1, "contains": float(inside), "precision": precision,
            "recall": recall}


def qa_verdicts(problems: Sequence[Problem],
                trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """Question answering: the best score over the accepted answers, metric by metric; `correct` is
    exact match."""
    return [_qa_verdict(p, t) for p, t in zip(problems, trajectories, strict=True)]


def _qa_verdict(problem: Problem, trajectory: Trajectory) -> dict[str, Any]:
    failure = failure_kind(problem, trajectory)
    if failure:
        return {"correct": False, "judged_by": "failure", "failure": failure,
                "scores": dict.fromkeys(QA_SCORES, 0.0)}
    found = [answer_scores(final_answer(trajectory), gold) for gold in problem.answers]
    scores = {name: max(s[name] for s in found) for name in QA_SCORES}
    return {"correct": scores["em"] == 1, "judged_by": "exact_match", "failure": None,
            "scores": scores}


SCORERS: dict[str, Scorer] = {"judge": judge_answers, "strict": judge_strictly, "qa": qa_verdicts,
                             "bfcl": bfcl_verdicts, "bfcl_multi_turn": multi_turn_verdicts}
JUDGES = {"released": judge_answers, "strict": judge_strictly}  # by the parameter `judge`


def load_scorer(name: str) -> Scorer:
    """A scorer by name.

    Raises:
        UserError: unknown name.
    """
    if name not in SCORERS:
        raise UserError(f"Unknown scorer {name!r}: use one of {', '.join(SCORERS)}.")
    return SCORERS[name]
