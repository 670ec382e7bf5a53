"""Our SFT step against TRL's own: same student, rows, order and optimizer, alternating pairs.

    python tests/benchmarks/bench_sft.py [--pairs 7]

Each takes ten steps of 32 trajectories, as the demo's cold start does; only the step differs.
Ratios are of CPU seconds of the process (one thread). Fails where the stated limit is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MENTOR_KIT_QUIET"] = "1"

import torch
from bench_grpo import records, untrained
from transformers import TrainerCallback

from mentor_kit.runs.open import init_run
from mentor_kit.training.callback import RunCallback
from mentor_kit.training.checkpoints import tiled_order
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.optimizers import WSDSchedule
from mentor_kit.training.sft import sft_rows, sft_trainer

STEPS, BATCH = 10, 32
LIMIT = 0.75  # of TRL's time, the median of the pairs


class Clock(TrainerCallback):
    """CPU seconds of all optimizer steps but the first."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 1:
            self.started = time.process_time()
        self.seconds = time.process_time() - self.started


def seconds(lessons: list, shared: bool) -> float:
    student, schedule = untrained(lessons), WSDSchedule(0, 0)
    config = TrainConfig(method="cold_start", cold_start_steps=STEPS, cold_start_batch=BATCH,
                         cold_start_accuracy=0, cold_start_cooldown=0, validate_every=0,
                         save_every=0, shared_prompts=shared)
    rows = sft_rows(student, lessons)
    with tempfile.TemporaryDirectory() as folder:
        run, clock = init_run(folder, stage="train", params={}), Clock()
        callback = RunCallback(run, student, [], config, schedule)
        ordered = [rows[i] for i in tiled_order(len(rows), STEPS * BATCH, 0)]
        trainer = sft_trainer(student, ordered, config, run, callback, schedule)
        trainer.add_callback(clock)
        trainer.train()
    return clock.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=7)
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    lessons, ratios = records(400), []
    for shared in (True, False):  # warm both up
        seconds(lessons, shared)
    for i in range(pairs):
        order = (True, False) if i % 2 == 0 else (False, True)
        found = {shared: seconds(lessons, shared) for shared in order}
        ratios.append(found[True] / found[False])
        print(f"pair {i + 1}: ours {found[True]:.2f} CPU-s, TRL's {found[False]:.2f}, ratio "
              f"{ratios[-1]:.3f}", flush=True)
    median = statistics.median(ratios)
    print(f"SFT, {STEPS - 1} steps of {BATCH}: median ratio {median:.3f} (lowest "
          f"{min(ratios):.3f}, highest {max(ratios):.3f}, {pairs} pairs; at most {LIMIT})")
    if median > LIMIT:
        sys.exit(f"an SFT step takes more than {LIMIT} of TRL's time")


if __name__ == "__main__":
    main()
