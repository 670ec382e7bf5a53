"""How fast are numeric answers scored? `python tests/benchmarks/bench_scoring.py [ROLLOUTS]`

Scores rollouts with numeric answers (every pair of prediction and gold is new, so no cache helps)
with the preset `mentor`, and compares the judge with calling Math-Verify's metric, its parse/verify
and MathRuler on each. The verdicts must be equal. Prints a table; uses one thread.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from typing import Any

from mentor_kit.core.problem import Problem
from mentor_kit.judging.grading_process import Graders
from mentor_kit.judging.judge import final_answer, judge
from mentor_kit.rewards import load_reward, reference_from_names
from mentor_kit.rewards.behaviours import rollout


def answer_pair(random_: random.Random, i: int) -> tuple[str, str]:
    """(prediction, gold): whole numbers, decimals and fractions; about half of them right."""
    value = 1000 + i
    gold = random_.choice([str(value), f"{value}.0", f"{value / 8:.3f}", f"{value}/7"])
    right = {str(value): f"{value:,}", f"{value}.0": str(value),
             f"{value / 8:.3f}": f"\\frac{{{value}}}{{8}}",
             f"{value}/7": f"\\frac{{{value}}}{{7}}"}[gold]
    return (right if random_.random() < 0.5 else str(value + random_.randint(1, 9)), gold)


def timed(function: Callable[..., Any], items: list[Any]) -> tuple[list[Any], float]:
    start = time.perf_counter()
    results = [function(*item) for item in items]
    return results, time.perf_counter() - start


def main(count: int) -> None:
    random_ = random.Random(0)
    reference = reference_from_names(["add"])
    pairs = [answer_pair(random_, i) for i in range(count)]
    cases = [(Problem(f"bench/{i}", "?", (gold,), "bench", "bench"), reference,
              rollout([("add", {"a": i, "b": 1})], f"\\boxed{{{prediction}}}"))
             for i, (prediction, gold) in enumerate(pairs)]
    graders, reward = Graders(), load_reward("mentor")

    def released(prediction: str, gold: str) -> bool:
        golds = [[gold, gold]]
        return any([graders.math_verify_metric(prediction, golds),
                    graders.math_verify(prediction, golds),
                    graders.mathruler(prediction, golds)])

    assert [final_answer(student) for *_, student in cases] == [p for p, _ in pairs]
    for warm_up in (("1/2", "0.5"), ("\\frac{1}{3}", "7")):
        released(*warm_up)
    theirs, their_seconds = timed(released, pairs)
    ours, our_seconds = timed(judge, pairs)
    scores, score_seconds = timed(reward, cases)
    assert theirs == [verdict.correct for verdict in ours], "verdicts differ"
    assert theirs == [score.terms["answer_right"] > 0 for score in scores], (
        "scores disagree with verdicts"
    )
    print(f"{count} rollouts with numeric answers, {sum(theirs)} right, verdicts equal\n")
    print(f"{'':44}{'seconds':>9}{'a rollout':>12}{'speed-up':>10}")
    for name, seconds in (("metric + parse/verify + MathRuler, each called", their_seconds),
                          ("judge", our_seconds),
                          ("whole reward (parse, judge, terms)", score_seconds)):
        print(f"{name:44}{seconds:9.3f}{seconds / count * 1e6:9.1f} "
              f"us{their_seconds / seconds:9.0f}x")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
