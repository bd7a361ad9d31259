"""What spans cost: tokens/s of one bundle with spans off, on, and told to every client; and one range by itself.

Three servers of the same bundle stand side by side, two of them with ``SLIPSTREAM_SPANS=0``, and are measured in two
ways. Medians come with their 95% interval from order statistics; rounds are short and many, because the speed of a
virtual machine jumps by a factor of two from one second to the next.

- **In turn**: each round asks the same amount of work of every side, in another order each time. Tokens/s as a client
  has them, and as uncertain as the machine is unsteady: off against the other off says how much.
- **At the same time**: two servers answer the same load together, and the CPU seconds of all processes of each are
  divided by its tokens. Whatever the machine does in that second, it does to both. Where the cores are what binds, as
  on a CPU, tokens/s are that many seconds' reciprocal.

Run: ``python -m tests.benchmarks.profiling.overhead`` (after ``make run`` has built the bundle), about 20 minutes on
an idle machine.
"""

import argparse
import asyncio
import os
import statistics
import timeit
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from slipstream.loadtest.statistics.order import interval_ranks
from slipstream.profiling import spans
from slipstream.settings import Settings
from tests.benchmarks.served import Server, closed_loop, machine, serve
from tests.benchmarks.serving import conversation

STREAMS, ROUNDS, PROMPTS, TOKENS = 8, 60, 8, 64
SIDES = ("off", "on", "told", "off again")
SPANS = {"off": "0", "on": "1", "off again": "0"}
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
    home = folder / name.replace(" ", "-")
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


def in_turn(servers: Servers, streams: int, count: int, prompts: int) -> None:
    rates: dict[str, list[Rate]] = {side: [] for side in SIDES}
    for number in range(count):
        start = number % len(SIDES)
        for side in SIDES[start:] + SIDES[:start]:
            rates[side].append(asyncio.run(measure(servers, side, f"turn{number}", streams, prompts)))
        print(f"  round {number}:", {side: f"{of[-1].tokens_per_s:.1f}/s" for side, of in rates.items()}, flush=True)
    speed = {side: [rate.tokens_per_s for rate in of] for side, of in rates.items()}
    both = [(one + other) / 2 for one, other in zip(speed["off"], speed["off again"], strict=True)]
    print(f"in turn, {streams} streams, {count} rounds; tokens/s, median and its 95% interval:")
    print(f"  off again / off: {middle(ratios(speed['off again'], speed['off']))}")
    for side in ("on", "told"):
        print(f"  {side} / both: {middle(ratios(speed[side], both))}", flush=True)


def together(servers: Servers, streams: int, count: int, prompts: int) -> None:
    """Each pair shares ``streams``."""

    async def pair(side: str, salt: str) -> float:
        halves = (measure(servers, one, f"{salt}{side}", streams // 2, prompts) for one in ("off", side))
        off, other = await asyncio.gather(*halves)
        return other.cpu_ms_per_token / off.cpu_ms_per_token

    found: dict[str, list[float]] = {side: [] for side in SIDES[1:]}
    for number in range(count):
        for side, of in found.items():
            of.append(asyncio.run(pair(side, f"both{number}")))
        print(f"  round {number}:", {side: f"{of[-1]:.3f}" for side, of in found.items()}, flush=True)
    print(f"at the same time, {streams} streams, {count} rounds; CPU seconds a token, median and its 95% interval:")
    for side, of in found.items():
        print(f"  {side} / off: {middle(of)}", flush=True)


def ratios(values: list[float], bases: list[float]) -> list[float]:
    return [value / base for value, base in zip(values, bases, strict=True)]


def middle(ratios: list[float]) -> str:
    ordered = sorted(ratios)
    low, high = interval_ranks(len(ordered), 0.5, 0.025)
    bounds = f"{ordered[low - 1]:.4f}-{ordered[high - 1]:.4f}" if low and high else "too few rounds for an interval"
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
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="a side and round")
    parser.add_argument("--streams", type=int, nargs="+", default=[STREAMS])
    given = parser.parse_args()
    print(f"machine: {machine()}")
    one_range()
    bundles = Settings().bundles_dir
    with TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {name: stack.enter_context(served(name, Path(folder), bundles)) for name in SPANS}
        for streams in given.streams:
            for side in SIDES:
                asyncio.run(measure(servers, side, f"warm{streams}", streams, streams))
            together(servers, streams, given.rounds, given.prompts)
            in_turn(servers, streams, given.rounds, given.prompts)


if __name__ == "__main__":
    main()
