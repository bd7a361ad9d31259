"""What spans cost: tokens/s of one bundle with spans off, on, and told to every client; and one range by itself.

Two servers of the same bundle stand side by side, one of them with ``SLIPSTREAM_SPANS=0``; one of them works at a time.
Each round asks the same amount of work of every side in turn, in another order each time, so that a drift of the
machine hits all. Off is measured twice a round: the ratio of its two halves is what differs where nothing does, and
the mean of both is what the others are held to. A round is short and there are many of them, because the speed of a
virtual machine jumps by a factor of two from one second to the next; medians come with their 95% interval from order
statistics. CPU seconds of all the server's processes for each token are told too.

Run: ``python -m tests.benchmarks.profiling.overhead`` (after ``make run`` has built the bundle), about ten minutes on
an idle machine.
"""

import argparse
import asyncio
import os
import statistics
import timeit
from collections.abc import Callable, Iterator
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
ASKING = {"x-slipstream-timing": "1"}
_CALLS = 200_000


@dataclass(frozen=True, slots=True)
class Rate:
    tokens_per_s: float
    cpu_ms_per_token: float


def cpu_s(server: Server) -> float:
    """Of every process of ``server`` so far."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in server.tree()))


@contextmanager
def served(switch: str, folder: Path, bundles: Path) -> Iterator[Server]:
    """A server with spans on (1) or off (0) and a home of its own, which is what lets two of them run."""
    home = folder / switch
    home.mkdir()
    (home / "bundles").symlink_to(bundles.absolute())
    before = dict(os.environ)
    os.environ |= {spans.SWITCH: switch, "SLIPSTREAM_HOME": str(home)}
    with ExitStack() as stack:
        try:
            server = stack.enter_context(serve(home / "serve.log"))
        finally:
            os.environ.clear()
            os.environ |= before
        yield server


def measure(server: Server, side: str, salt: str, streams: int, prompts: int) -> Rate:
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
    headers = ASKING if side == "told" else {}
    before = cpu_s(server)
    answers, wall_s = asyncio.run(closed_loop(server, bodies, streams, headers))
    tokens = sum(answer.completion_tokens for answer in answers)
    return Rate(tokens / wall_s, (cpu_s(server) - before) / tokens * 1e3)


def rounds(servers: dict[str, Server], streams: int, count: int, prompts: int) -> dict[str, list[Rate]]:
    """Those of every side, round by round."""
    rates: dict[str, list[Rate]] = {side: [] for side in SIDES}
    for number in range(count):
        start = number % len(SIDES)
        for side in SIDES[start:] + SIDES[:start]:
            rates[side].append(measure(servers[side], side, f"r{number}", streams, prompts))
        told = {side: f"{of[-1].tokens_per_s:.1f}/s {of[-1].cpu_ms_per_token:.2f} ms" for side, of in rates.items()}
        print(f"  round {number}:", told, flush=True)
    return rates


def show(rates: dict[str, list[Rate]], streams: int) -> None:
    both = list(zip(rates["off"], rates["off again"], strict=True))
    print(f"{streams} streams, {len(both)} rounds; median and its 95% interval:")
    for name, of in _MEASURES:
        base = [(of(one) + of(other)) / 2 for one, other in both]
        print(f"  {name}, off again against off: {middle([of(other) / of(one) for one, other in both])}")
        for side in ("on", "told"):
            found = [of(one) / against for one, against in zip(rates[side], base, strict=True)]
            print(f"  {name}, {side} against both: {middle(found)}")


_MEASURES: tuple[tuple[str, Callable[[Rate], float]], ...] = (
    ("tokens/s", lambda rate: rate.tokens_per_s),
    ("CPU seconds a token", lambda rate: rate.cpu_ms_per_token),
)


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
    with (
        TemporaryDirectory() as folder,
        served("0", Path(folder), bundles) as silent,
        served("1", Path(folder), bundles) as timed,
    ):
        servers = {"off": silent, "on": timed, "told": timed, "off again": silent}
        for streams in given.streams:
            for side in SIDES:
                measure(servers[side], side, f"warm{streams}", streams, streams)
            show(rounds(servers, streams, given.rounds, given.prompts), streams)


if __name__ == "__main__":
    main()
