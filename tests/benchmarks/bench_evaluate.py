"""Evaluation throughput of the embedded student on one thread: items a second, batched against one
by one.

    python tests/benchmarks/bench_evaluate.py [ITEMS]

A cold-started student answers GSM-Symbolic items greedily with the judge, in alternating rounds.
Verdicts of both ways must agree but for float ties (their number is printed). Fails below the
promised factor of 5.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MENTOR_KIT_QUIET"] = "1"

import torch
from bench_grpo import cold_start, records

from mentor_kit.evaluation.evaluate import evaluate
from mentor_kit.students.rollout import Sampling

ROUNDS, FACTOR = 3, 5.0


def main(count: int) -> None:
    torch.set_num_threads(1)
    lessons = records(600)
    student = cold_start(lessons)
    problems = [r.problem for r in lessons[:count]]
    seconds: dict[int, list[float]] = {1: [], 128: []}
    verdicts = {}
    evaluate(student, problems[:8], {})  # warm up: the judge's worker, the model's first call
    for _ in range(ROUNDS):
        for size, times in seconds.items():
            started = time.perf_counter()
            found = evaluate(student, problems, {}, Sampling(max_new_tokens=160), batch_size=size)
            times.append(time.perf_counter() - started)
            verdicts[size] = [r.trajectory.to_text() for r in found]
    rate = {size: count / statistics.median(times) for size, times in seconds.items()}
    same = sum(a == b for a, b in zip(verdicts[1], verdicts[128], strict=True))
    factor = rate[128] / rate[1]
    print(f"{count} items, {ROUNDS} rounds: batches of 128 {rate[128]:.1f} items/s, one by one "
          f"{rate[1]:.1f} items/s, factor {factor:.1f} (promised {FACTOR:.0f}); {same} of {count} "
          "texts equal")
    if factor < FACTOR:
        sys.exit(f"batched evaluation is only {factor:.1f} times as fast as one by one")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
