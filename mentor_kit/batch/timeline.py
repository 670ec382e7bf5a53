"""When the jobs of a batch ran: time by stage, how many ran at once, and the longest chain of jobs
that waited for each other (no number of workers makes a batch shorter than that)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mentor_kit.errors import UserError
from mentor_kit.runs.files import read_jsonl

if TYPE_CHECKING:
    from mentor_kit.batch.plan import Job


@dataclass
class Timeline:
    """`spans`: job -> (start, end) in seconds, of its last attempt in this batch."""

    spans: dict[Job, tuple[float, float]] = field(default_factory=dict)

    def ended(self, job: Job, seconds: float) -> None:
        """Note a job that ends now after so many seconds."""
        now = time.monotonic()
        self.spans[job] = now - seconds, now

    def busy(self) -> Counter[int]:
        """Number of jobs -> seconds for which so many ran at once, from the first job's start."""
        events = sorted([(start, 1) for start, _ in self.spans.values()]
                        + [(end, -1) for _, end in self.spans.values()])
        found: Counter[int] = Counter()
        running = 0
        for (moment, step), (following, _) in zip(events, events[1:], strict=False):
            running += step
            found[running] += following - moment
        return found

    def longest_chain(self) -> list[Job]:
        """The jobs of the chain that took longest, in order."""
        chains: dict[Job, tuple[float, list[Job]]] = {}
        for job in sorted(self.spans, key=lambda job: self.spans[job]):
            start, end = self.spans[job]
            before = max((chains[n] for n in job.needed() if n in chains),
                         key=lambda chain: chain[0], default=(0.0, []))
            chains[job] = before[0] + end - start, [*before[1], job]
        return max(chains.values(), key=lambda chain: chain[0], default=(0.0, []))[1]

    def lines(self) -> list[str]:
        """What a batch prints at its end; nothing where nothing ran."""
        if not self.spans:
            return []
        stages: Counter[str] = Counter()
        for job, (start, end) in self.spans.items():
            stages[job.stage] += end - start
        busy, chain = self.busy(), self.longest_chain()
        whole = sum(busy.values()) or 1.0
        seconds = sum(end - start for start, end in map(self.spans.__getitem__, chain))
        return [f"time by stage: {by_stage(stages)}",
                f"{clock(whole)} in all; jobs at once: " + ", ".join(
                    f"{number} for {share / whole:.0%}" for number, share
                    in sorted(busy.items(), reverse=True) if share / whole >= 0.005),
                f"longest chain {clock(seconds)}: {' -> '.join(map(str, chain))}"]


def stored_times(jobs: Iterable[Job]) -> Counter[str]:
    """Stage -> seconds that its jobs have taken, by their run folders; earlier attempts count."""
    stages: Counter[str] = Counter()
    for job in jobs:
        with suppress(UserError):  # a damaged file tells no times, and nothing else rests on it
            for line in read_jsonl(job.run_dir / "timing.jsonl"):
                if line.get("name") == "job":
                    stages[job.stage] += line["seconds"]
    return stages


def by_stage(stages: Counter[str]) -> str:
    return ", ".join(f"{stage} {clock(seconds)}" for stage, seconds in stages.items())


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
