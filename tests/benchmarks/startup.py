"""How fast the command answers, how fast a warm start is ready, what the server processes hold in memory.

Run: ``python -m tests.benchmarks.startup`` (after ``make run`` has built the bundle and the index).
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from slipstream.settings import Settings
from tests.benchmarks.served import Server, closed_loop, machine, serve, spread

HELP_RUNS, START_RUNS, STREAMS = 15, 3, 8


def help_seconds() -> float:
    command = [str(Path(sys.executable).with_name("slipstream")), "--help"]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def resident_bytes(server: Server) -> dict[str, int]:
    """Resident set of each server process, by name and pid."""
    return {f"{process.name()}[{process.pid}]": process.memory_info().rss for process in server.tree()}


def maps_torch(server: Server) -> bool:
    return any("libtorch" in Path(f"/proc/{process.pid}/maps").read_text() for process in server.tree())


def peak_resident(server: Server) -> tuple[dict[str, int], bool]:
    """The largest sum over processes seen while 8 streams with retrieval run, and whether torch is mapped anywhere."""
    questions = [f"What does the {name} do?" for name in ("router", "middleware", "request", "response")] * STREAMS
    bodies: list[dict[str, object]] = [
        {"model": "slipstream", "messages": [{"role": "user", "content": question}], "max_tokens": 96}
        for question in questions
    ]
    peak: dict[str, int] = {}

    async def sample() -> None:
        nonlocal peak
        load = asyncio.create_task(closed_loop(server, bodies, STREAMS))
        while not load.done():
            now = resident_bytes(server)
            if sum(now.values()) > sum(peak.values()):
                peak = now
            await asyncio.sleep(0.25)
        await load

    asyncio.run(sample())
    return peak, maps_torch(server)


def main() -> None:
    log = Settings().root / "logs" / "benchmark-startup.log"
    print(f"machine: {machine()}")
    help_seconds()
    print(f"slipstream --help: {spread([help_seconds() for _ in range(HELP_RUNS)], 3)} s (goal: 0.4)")
    ready: list[float] = []
    for run in range(START_RUNS):
        with serve(log) as server:
            ready.append(server.ready_s)
            if run == START_RUNS - 1:
                peak, torch = peak_resident(server)
    print(f"warm start to ready: {spread(ready)} s (goal: 20)")
    print(f"resident at {STREAMS} streams: {sum(peak.values()) / 1e9:.2f} GB in {len(peak)} processes (goal: 3)")
    for name, size in sorted(peak.items(), key=lambda item: -item[1]):
        print(f"  {size / 1e6:7.0f} MB  {name}")
    print(f"torch mapped by a server process: {'yes' if torch else 'no'} (goal: no)")


if __name__ == "__main__":
    main()
