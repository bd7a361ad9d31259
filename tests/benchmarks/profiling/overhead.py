"""What spans cost: one bundle with spans off, on, and told to every client; and one range by itself.

Two servers stand side by side, one of them with ``SLIPSTREAM_SPANS=0``. Two of the same kind differ by up to 4% for as
long as they live, so each launch is a new pair, begun in the other order, and is one value of what is told: the median
over launches, with its 95% interval from order statistics. A launch measures twice:

- **At the same time**: both answer the same load together, and the CPU seconds of all processes of each are divided by
  its tokens. Whatever the machine does in that second, it does to both; its speed may jump by a factor of two from one
  second to the next. Where the cores are what binds, as on a CPU, tokens/s are that many seconds' reciprocal.
- **In turn**: the same amount of work is asked of each side, in another order each time: tokens/s as a client has them.

Run: ``python -m tests.benchmarks.profiling.overhead`` (after ``make run`` has built the bundle), about half an hour on
an idle machine; Ctrl-C ends it with the result of its whole launches.
"""

import argparse
import asyncio
import os
import statistics
import timeit
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from slipstream.loadtest.statistics.order import interval_ranks
from slipstream.profiling import spans
from slipstream.settings import Settings
from tests.benchmarks.served import Server, closed_loop, machine, serve
from tests.benchmarks.serving import conversation

STREAMS, LAUNCHES, ROUNDS, PROMPTS, TOKENS = 8, 40, 1, 8, 64
SIDES = ("off", "on", "told")
SPANS = {"off": "0", "on": "1"}
ASKING = {"x-slipstream-timing": "1"}
_CALLS = 200_000


Servers = Mapping[str, Server]


@dataclass(frozen=True, slots=True)
class Rate:
    tokens_per_s: float
    cpu_ms_per_token: float


def cpu_s(server: Server) -> float:
    """Of every process of ``server`` so far."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in server.tree()))


@contextmanager
def served(name: str, folder: Path, bundles: Path) -> Iterator[Server]:
    """A server of `SPANS` with a home of its own, which is what lets several of them run."""
    home = folder / name
    home.mkdir()
    (home / "bundles").symlink_to(bundles.absolute())
    before = dict(os.environ)
    os.environ |= {spans.SWITCH: SPANS[name], "SLIPSTREAM_HOME": str(home)}
    with ExitStack() as stack:
        try:
            server = stack.enter_context(serve(home / "serve.log"))
        finally:
            os.environ.clear()
            os.environ |= before
        yield server


async def measure(servers: Servers, side: str, salt: str, streams: int, prompts: int) -> Rate:
    """No prompt is asked twice of a server, and every answer has the same length."""
    bodies: list[dict[str, object]] = [
        {
            "model": "slipstream-base",
            "messages": conversation(number, f"{salt}-{SIDES.index(side)}-"),
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "temperature": 0,
        }
        for number in range(prompts)
    ]
    server, headers = (servers["on"], ASKING) if side == "told" else (servers[side], {})
    before = cpu_s(server)
    answers, wall_s = await closed_loop(server, bodies, streams, headers)
    tokens = sum(answer.completion_tokens for answer in answers)
    return Rate(tokens / wall_s, (cpu_s(server) - before) / tokens * 1e3)


def launch(number: int, bundles: Path, streams: int, rounds: int, prompts: int) -> dict[str, float]:
    """One new pair of servers: each ratio, the median of its rounds."""

    async def pair(side: str, salt: str) -> float:
        """Both share ``streams``."""
        halves = (measure(servers, one, f"{salt}{side}", streams // 2, prompts) for one in ("off", side))
        off, other = await asyncio.gather(*halves)
        return other.cpu_ms_per_token / off.cpu_ms_per_token

    found: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder, ExitStack() as stack:
        order = list(SPANS)[:: 1 if number % 2 else -1]
        servers = {name: stack.enter_context(served(name, Path(folder), bundles)) for name in order}
        for side in SIDES:
            asyncio.run(measure(servers, side, "warm", streams, streams))
        for count in range(rounds):
            for side in SIDES[1:]:
                found.setdefault(f"CPU, {side} / off", []).append(asyncio.run(pair(side, f"both{count}")))
            start = (number + count) % len(SIDES)
            speed = {
                side: asyncio.run(measure(servers, side, f"turn{count}", streams, prompts)).tokens_per_s
                for side in SIDES[start:] + SIDES[:start]
            }
            for side in SIDES[1:]:
                found.setdefault(f"tokens/s, {side} / off", []).append(speed[side] / speed["off"])
    return {name: statistics.median(ratios) for name, ratios in found.items()}


def middle(ratios: list[float]) -> str:
    ordered = sorted(ratios)
    low, high = interval_ranks(len(ordered), 0.5, 0.025)
    bounds = f"{ordered[low - 1]:.4f}-{ordered[high - 1]:.4f}" if low and high else "too few launches for an interval"
    return f"{statistics.median(ordered):.4f} ({bounds})"


def one_range() -> None:
    """Nanoseconds of a range that nobody listens to, in this process."""

    def block() -> None:
        with spans.span("decode", "a-request"):
            pass

    def opened() -> None:
        spans.begin("stream", "a-request").end()

    kinds: tuple[tuple[str, Callable[[], None]], ...] = (("span", block), ("begin and end", opened))
    for name, call in kinds:
        runs = timeit.repeat(call, number=_CALLS, repeat=5)
        print(f"{name} without a tool: {min(runs) / _CALLS * 1e9:.0f} ns")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launches", type=int, default=LAUNCHES)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="a launch")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="a side and round")
    parser.add_argument("--streams", type=int, default=STREAMS)
    given = parser.parse_args()
    print(f"machine: {machine()}")
    one_range()
    bundles = Settings().bundles_dir
    launches: list[dict[str, float]] = []
    with suppress(KeyboardInterrupt):
        for number in range(given.launches):
            launches.append(launch(number, bundles, given.streams, given.rounds, given.prompts))
            print(f"  launch {number}:", {name: f"{ratio:.3f}" for name, ratio in launches[-1].items()}, flush=True)
    print(f"{given.streams} streams, {len(launches)} launches; median of their ratios and its 95% interval:")
    for name in launches[0] if launches else ():
        print(f"  {name}: {middle([one[name] for one in launches])}")


if __name__ == "__main__":
    main()
