"""Tool calls per second through the guarded toolbox, and trajectories parsed per second.

    python tests/benchmarks/bench_tools.py
"""

from __future__ import annotations

import time

from mentor_kit.core.chat_markup import EOS, render_call, render_environment
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.core.trajectory import Trajectory

CALLS = [("add", {"a": 12, "b": 30}), ("multiply", {"a": "1,200", "b": 0.5}),
         ("power", {"a": 2, "b": 64}),
         ("sum_numbers", {"numbers": list(range(20))}), ("divide", {"a": 1, "b": 0}),
         ("plus", {"a": 1, "b": 2})]
TEXT = "".join(render_call("add", {"a": i, "b": 1}) + EOS + render_environment([str(i + 1)])
               for i in range(4)) \
    + "The answer is \\boxed{4}." + EOS


def rate(work: int, action) -> float:
    """Best of five, in units of work a second."""
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - started)
    return work / best


def main() -> None:
    box = load_toolbox("arithmetic")
    calls = rate(6000, lambda: [box.execute(*CALLS[i % len(CALLS)]) for i in range(6000)])
    parsed = rate(1000, lambda: [len(Trajectory.from_text(TEXT).calls) for _ in range(1000)])
    print(f"tool calls, good and bad: {calls:,.0f} a second")
    print(f"five-turn trajectories parsed: {parsed:,.0f} a second")


if __name__ == "__main__":
    main()
