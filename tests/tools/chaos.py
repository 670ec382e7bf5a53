"""Kill a study's runner and kernels at random, restart, and compare what is left with an
undisturbed run.

    python tests/tools/chaos.py [--study params/smoke.yaml | --jobs 24] [--kills 10] [--seed 0]
        [--workers 2] [--log FILE] [--powercut]

With --jobs the study is one of so many tiny but real jobs (tests/helpers/tiny_project.py). The
moments are drawn uniformly over the time the undisturbed run took; each victim, the runner or one
of its kernels, drawn too. After a kill of the runner the same command is started again; a killed
kernel's job fails, and the command is started again with --retry-failed once it ends. Then every
artefact of every run must have the same bytes (as on one kind of CPU it has), and `mentor-kit
status` must show the same table.

With --powercut all processes are killed at each moment, and files that were not forced to disk are
cut or emptied at random (`power.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from power import cut, record  # noqa: E402
from tiny_project import make_project, study_of  # noqa: E402


class Chaos:
    """One study under fire. `elapsed` is the running time of all its runners so far, in seconds."""

    def __init__(self, options: argparse.Namespace, results: Path) -> None:
        self.options, self.results = options, results
        self.elapsed, self.runner, self.started = 0.0, None, 0.0
        self.starts = 0
        self.environment = dict(os.environ)
        self.power = results.with_name(f"{results.name}-power")
        if options.powercut:
            self.environment = record(self.power)

    def start(self) -> None:
        command = [sys.executable, "-m", "mentor_kit", "batch", str(self.options.study),
                   "--retry-failed",
                   "--results", str(self.results), "--workers", str(self.options.workers)]
        self.runner = subprocess.Popen(command, cwd=self.options.study.parents[1],
                                       env=self.environment, stdout=subprocess.DEVNULL)
        self.started, self.starts = time.monotonic(), self.starts + 1

    def stopped(self) -> None:
        self.elapsed += time.monotonic() - self.started
        self.runner = None

    def run_until(self, moment: float) -> bool:
        """Keep the study running until `elapsed` reaches the moment. False if it was finished
        before."""
        while self.elapsed + (time.monotonic() - self.started if self.runner else 0.0) < moment:
            if self.runner is None:
                self.start()
            code = self.runner.poll()
            if code is not None:
                self.stopped()
                if code == 0:
                    return False
            time.sleep(0.02)
        if self.runner is None:
            self.start()
        return True

    def table(self) -> list[str]:
        """The rows of `mentor-kit status`: the state of each job."""
        command = [sys.executable, "-m", "mentor_kit", "status", str(self.options.study),
                   "--results",
                   str(self.results)]
        shown = subprocess.run(command, cwd=self.options.study.parents[1],
                               env={**os.environ, "COLUMNS": "240"},
                               # so wide that no row is wrapped
                               capture_output=True, text=True, check=True)
        return [line for line in shown.stdout.splitlines() if line.startswith("│")]

    def kernels(self) -> list[psutil.Process]:
        children = (
            psutil.Process(self.runner.pid).children(recursive=True)
            if self.runner.poll() is None
            else []
        )
        return [p for p in children if _name(p) == "mentor-kernel"]

    def cut_power(self, chance: random.Random) -> str:
        """kill -9 of everything, and what was not on disk is damaged. Returns what was."""
        processes = [psutil.Process(self.runner.pid)] if self.runner.poll() is None else []
        processes += [p for above in processes for p in above.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes)
        self.runner.wait()
        self.stopped()
        damaged = cut(self.results, self.power, chance)
        return f"the power; {len(damaged)} files damaged: {', '.join(damaged)}"

    def kill(self, victim: str, chance: random.Random) -> str:
        """kill -9 the runner or one of its kernels, the next to live if none does now. Returns what
        was killed."""
        kernels = self.kernels() if victim == "kernel" else []
        while victim == "kernel" and not kernels and self.runner.poll() is None:
            time.sleep(0.02)
            kernels = self.kernels()
        if kernels:
            target = chance.choice(kernels)
            held = [Path(f.path) for f in target.open_files() if f.path.endswith("/.lock")]
            target.kill()
            return f"the kernel of {'/'.join(held[0].parts[-3:-1]) if held else '?'}"
        self.runner.kill()
        self.runner.wait()
        self.stopped()
        return "the runner"


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def outcomes(results: Path) -> dict[str, dict]:
    """stage/key/artefact -> its size and hash, of every finished run; and what each run said of
    itself."""
    found = {}
    for done in sorted(results.glob("*/*/*/DONE")):
        run = "/".join(done.parts[-3:-1])
        content = json.loads(done.read_text(encoding="utf-8"))
        found |= {f"{run}/{name}": facts for name, facts in content["artefacts"].items()
                  if facts["deterministic"]}
        found[f"{run}: facts"] = content["facts"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, default=ROOT / "params" / "smoke.yaml")
    parser.add_argument("--jobs", type=int, default=0,
                        help="a study of so many tiny jobs instead of --study")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--powercut", action="store_true",
                        help="kill everything, and damage what was not forced to disk")
    parser.add_argument("--log", type=Path, default=None, help="also write the log to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        options.study = (make_project(Path(folder) / "project", study_of(options.jobs, table=True))
                         if options.jobs
                         else options.study.resolve())
        lines, good = campaign(options, Path(folder))
    if options.log:
        options.log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(0 if good else 1)


def campaign(options: argparse.Namespace, folder: Path) -> tuple[list[str], bool]:
    lines: list[str] = []

    def say(text: str) -> None:
        lines.append(text)
        print(text, flush=True)

    calm = Chaos(options, folder / "undisturbed")
    finished = calm.run_until(24 * 3600)
    say(f"undisturbed: {options.study.name}, {calm.elapsed:.0f} s, {len(outcomes(calm.results))} "
        "outcomes")
    assert not finished, "the undisturbed run did not end"
    chance = random.Random(options.seed)
    victims = chance.sample(["runner", "kernel"] * options.kills, options.kills)
    plan = zip(sorted(chance.uniform(0, calm.elapsed) for _ in victims), victims, strict=True)
    fire = Chaos(options, folder / "disturbed")
    kills = 0
    for moment, victim in plan:
        if not fire.run_until(moment):
            say(f"at {moment:6.1f} s: the study had ended already")
            break
        if options.powercut:
            say(f"at {moment:6.1f} s: cut {fire.cut_power(chance)}")
        else:
            say(f"at {moment:6.1f} s: kill -9 of {fire.kill(victim, chance)}")
        kills += 1
    fire.run_until(24 * 3600)
    say(f"disturbed: {kills} kills, {fire.starts} starts, {fire.elapsed:.0f} s")
    table, again = calm.table(), fire.table()
    say(f"status: {sum('done' in row for row in again)} of {len(table)} rows done, the table "
        f"{'equals' if table == again else 'DIFFERS FROM'} the undisturbed one")
    same = compare(outcomes(calm.results), outcomes(fire.results), say)
    return lines, same and table == again and kills == options.kills


def compare(expected: dict[str, dict], found: dict[str, dict], say) -> bool:
    different = sorted(name for name in expected.keys() | found.keys()
                       if expected.get(name) != found.get(name))
    for name in different:
        say(f"DIFFERENT: {name}")
    say(f"{len(expected.keys() - set(different))} of {len(expected)} outcomes are the same as "
        "undisturbed")
    return bool(expected) and not different


if __name__ == "__main__":
    main()
