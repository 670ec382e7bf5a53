"""What a batch costs, and what two workers gain.

    python tests/benchmarks/bench_batch.py

1. 24 tiny jobs on two workers against one, beside two bare one-thread processes of the same work
against one, in the
   same run: at least 0.9 of their speed-up.
2. A batch of 3 jobs on one worker, its own start included, against 3 executions of the same
notebook by papermill's
   command line: at most 1.1 times as long a job, median of 7 alternating pairs.
3. Ten jobs that import what a training imports, forked, against fresh processes: at most half of
   the CPU time, median of 3 alternating pairs, the fork server's own start included.
4. `mentor-kit batch --dry-run` of the 82-job reference study: at most 3 s of a CPU.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from tiny_project import write_notebook, write_study  # noqa: E402

JOBS, WORKERS, LEAST_SHARE = 24, 2, 0.9
BATCH, PAIRS, MOST = 3, 7, 1.1
DRY_RUN_SECONDS = 3.0
WORK = "total = sum(i * i for i in range({rounds}))"
ROUNDS = 8_000_000  # about half a second
NOTEBOOK = f"""
run_dir: str = ""  # where it writes
seed: int = 0  # tells the jobs apart
rounds: int = 0  # additions
# %%
from mentor_kit.runs.open import init_run
run = init_run(run_dir, stage="work", params=dict(seed=seed, rounds=rounds))
# %%
{WORK.format(rounds="rounds")}
run.path("total.txt").write_text(str(total))
run.finish(total=total);
"""
IMPORTS = """
run_dir: str = ""
seed: int = 0
# %%
import mentor_kit.training.grpo
from mentor_kit.runs.open import init_run
run = init_run(run_dir, stage="train", params=dict(seed=seed))
# %%
run.finish();
"""
SMALL_JOBS, FORK_PAIRS, FORK_MOST = 10, 3, 0.5
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
               "OPENBLAS_NUM_THREADS": "1"}


def study(root: Path, name: str, jobs: int, rounds: int) -> Path:
    return write_study(root, f"name: {name}\nstages: {{work: {{notebook: work}}}}\n"
                             f"fixed: {{rounds: {rounds}}}\nseeds: {list(range(jobs))}", name)


def seconds(*commands: list[str], cwd: Path) -> float:
    """Wall time until all of these, started together, have ended."""
    with tempfile.TemporaryFile() as log:
        started = perf_counter()
        running = [subprocess.Popen(c, cwd=cwd, env=ENVIRONMENT, stdout=log, stderr=log)
                   for c in commands]
        codes = [process.wait() for process in running]
        taken = perf_counter() - started
        if any(codes):
            log.seek(0)
            sys.exit(f"a command failed: {commands}\n{log.read().decode(errors='replace')}")
    return taken


def batch_seconds(root: Path, name: str, jobs: int, rounds: int, workers: int) -> float:
    file = study(root, name, jobs, rounds)
    return seconds([sys.executable, "-m", "mentor_kit", "batch", str(file), "--workers",
                    str(workers)], cwd=root)


def bare_seconds(root: Path, units: int, processes: int) -> float:
    """So many units of the work, shared out to bare processes."""
    code = f"for _ in range({units // processes}):\n    {WORK.format(rounds=ROUNDS)}"
    return seconds(*[[sys.executable, "-c", code]] * processes, cwd=root)


def papermill_seconds(root: Path, pair: int, jobs: int) -> float:
    command = [sys.executable, "-m", "papermill", "-k", "python3", "--no-progress-bar",
               "--no-log-output"]
    return sum(seconds([*command, "notebooks/work.ipynb", f"out-{pair}-{seed}.ipynb", "-p",
                        "run_dir",
                        f"alone/{pair}-{seed}", "-p", "seed", str(seed)], cwd=root)
               for seed in range(jobs))


def speed_up(root: Path) -> bool:
    bare = [bare_seconds(root, JOBS, n) for n in (1, WORKERS)]
    batch = [batch_seconds(root, f"workers{n}", JOBS, ROUNDS, n) for n in (1, WORKERS)]
    gain, possible = batch[0] / batch[1], bare[0] / bare[1]
    print(f"{JOBS} jobs: 1 worker {batch[0]:.1f} s, {WORKERS} workers {batch[1]:.1f} s, speed-up "
          f"{gain:.2f}")
    print(f"bare processes of their work: one {bare[0]:.1f} s, {WORKERS} {bare[1]:.1f} s, speed-up "
          f"{possible:.2f}")
    print(f"share of the possible speed-up: {gain / possible:.2f} (at least {LEAST_SHARE})")
    return gain / possible >= LEAST_SHARE


def overhead(root: Path) -> bool:
    ratios = []
    for pair in range(PAIRS):
        timers = {"batch": lambda p=pair: batch_seconds(root, f"pair{p}", BATCH, 0, 1),
                  "alone": lambda p=pair: papermill_seconds(root, p, BATCH)}
        taken = {name: timers[name]() / BATCH for name in sorted(timers, reverse=pair % 2 == 1)}
        ratios.append(taken["batch"] / taken["alone"])
        print(f"pair {pair + 1}: batch {taken['batch']:.2f} s a job, papermill alone "
              f"{taken['alone']:.2f} s, {ratios[-1]:.2f} times")
    median = statistics.median(ratios)
    print(f"overhead: median {median:.2f} times papermill alone (at most {MOST})")
    return median <= MOST


def cpu_seconds(*arguments: str, cwd: Path) -> float:
    """CPU time of `mentor-kit batch` with these arguments, its jobs included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds([sys.executable, "-m", "mentor_kit", "batch", *arguments], cwd=cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def forked(root: Path) -> bool:
    write_notebook(root / "notebooks" / "03_rl_training.ipynb", IMPORTS)
    file = write_study(root, "name: forks\nstages: {train: {notebook: 03_rl_training}}\n"
                             f"seeds: {list(range(SMALL_JOBS))}", "forks")
    ratios = []
    for pair in range(FORK_PAIRS):
        used = {}
        for mode in sorted("10", reverse=pair % 2 == 1):
            ENVIRONMENT["MENTOR_KIT_FORKSERVER"] = mode
            used[mode] = cpu_seconds(str(file), "--results", f"forks-{pair}-{mode}", cwd=root)
        ratios.append(used["1"] / used["0"])
        print(f"pair {pair + 1}: forked {used['1'] / SMALL_JOBS:.2f} s of a CPU a job, fresh "
              f"{used['0'] / SMALL_JOBS:.2f} s, {ratios[-1]:.2f} times")
    del ENVIRONMENT["MENTOR_KIT_FORKSERVER"]
    median = statistics.median(ratios)
    print(f"forked jobs: median {median:.2f} times fresh ones (at most {FORK_MOST})")
    return median <= FORK_MOST


def dry_run(root: Path) -> bool:
    used = cpu_seconds("params/reference-gsm.yaml", "--dry-run", "--results", str(root), cwd=ROOT)
    print(f"dry run of the reference study: {used:.2f} s of a CPU (at most {DRY_RUN_SECONDS:g})")
    return used <= DRY_RUN_SECONDS


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        write_notebook(Path(folder) / "notebooks" / "work.ipynb", NOTEBOOK)
        good = [check(Path(folder)) for check in (dry_run, forked, overhead, speed_up)]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
