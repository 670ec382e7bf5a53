"""`import mentor_kit` and `mentor-kit --help`: median wall time of fresh interpreters.

    python tests/benchmarks/bench_import.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

REPEATS, LIMIT = 11, 0.3  # seconds, for `import mentor_kit`


def seconds(*arguments: str) -> list[float]:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return times


def main() -> None:
    bare = statistics.median(seconds("-c", "pass"))
    worst = 0.0
    for name, arguments in {"import mentor_kit": ("-c", "import mentor_kit"),
                            "mentor-kit --help": ("-m", "mentor_kit", "--help")}.items():
        times = [t - bare for t in seconds(*arguments)]
        print(f"{name}: median {statistics.median(times):.3f} s over the bare interpreter's "
              f"{bare:.3f} s (min {min(times):.3f}, max {max(times):.3f}, n={REPEATS})")
        worst = max(worst, statistics.median(times)) if name.startswith("import") else worst
    if worst > LIMIT:
        sys.exit(f"import mentor_kit takes {worst:.3f} s, more than {LIMIT} s")


if __name__ == "__main__":
    main()
