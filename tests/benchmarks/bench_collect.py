"""Collection from an endpoint: rate against the ideal and against a bare loop of the openai client,
and memory.

    python tests/benchmarks/bench_collect.py [PROBLEMS]

The server answers after 800 ms (limit: 0.9 of the ideal rate, in flight / seconds a trajectory) or
200 ms (limit: 0.9 of the bare loop), three turns a trajectory, 64 in flight. Client and server
share the machine's cores, so at 200 ms the client's own cost decides; other work on the machine
slows both. Memory must stay flat: at most 10 MB between the first fifth of a collection and its
end.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
os.environ["MENTOR_KIT_QUIET"] = "1"

from fault_server import load, running

from mentor_kit.collection.collect import collect
from mentor_kit.collection.config import CollectConfig
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.judging.judge import judge
from mentor_kit.runs.open import init_run
from mentor_kit.runs.parameters import configure

IN_FLIGHT, TURNS, FLAT = 64, 3, 10


def collected(url: str, problems: int) -> tuple[float, float]:
    """Trajectories a second of `collect`, and by how many MB memory grew from its first fifth to
    its peak."""
    options = [f"base_url:{url}", "model:sums", "key_env:none", "probe:false",
               f"concurrency:{IN_FLIGHT}"]
    config = configure(CollectConfig, problems="fault_server:load", teacher="chat_endpoint",
                       split_sizes=[f"train:{problems}"], teacher_options=options)
    with tempfile.TemporaryDirectory() as folder:
        run = init_run(folder, stage="collect", params={})
        with watched_memory() as memory:
            started = time.perf_counter()
            found = collect(config, run)
            seconds = time.perf_counter() - started
    assert len(found.accepted()) == problems
    return problems / seconds, max(memory) - memory[len(memory) // 5]


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """The MB of this process, ten times a second."""
    seen, over = [megabytes()], Event()

    def watch() -> None:
        while not over.wait(0.1):
            seen.append(megabytes())

    thread = Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


async def bare(url: str, problems: int) -> float:
    """Trajectories a second of a loop that only asks: the same requests, results filled in by hand,
    nothing kept."""
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    tasks, tools = iter(load(0, {"train": problems})), load_toolbox("arithmetic").schemas

    async def work() -> None:
        for problem in tasks:
            messages = [{"role": "user", "content": problem.question}]
            for _ in range(TURNS):
                reply = await client.chat.completions.create(model="sums", messages=messages,
                                                             tools=tools, seed=1,
                                                             temperature=0.6, top_p=0.95,
                                                             max_tokens=4096)
                message = reply.choices[0].message
                for call in message.tool_calls or []:
                    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "1"}]

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    seconds = time.perf_counter() - started
    await client.close()
    return problems / seconds


def megabytes() -> float:
    """Memory now, not the peak."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    problems = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    judge("1", ["1"])
    with running(latency=0.0) as url:
        collected(url, 200)  # imports, pools
    passed = True
    for latency in (0.8, 0.2):
        ideal = IN_FLIGHT / (TURNS * latency)
        with running(latency=latency) as url:
            (rate, grown), loop = collected(url, problems), asyncio.run(bare(url, problems))
        passed &= rate / (ideal if latency == 0.8 else loop) >= 0.9 and grown <= FLAT
        print(f"{latency * 1000:.0f} ms a turn: {rate:.1f} trajectories/s; ideal {ideal:.1f} "
              f"({rate / ideal:.2f}), bare loop {loop:.1f} ({rate / loop:.2f}); memory "
              f"+{grown:.1f} MB")
    sys.exit(0 if passed else f"below 0.9, or memory above +{FLAT} MB (a busy machine slows client "
                              "and server alike)")


if __name__ == "__main__":
    main()
