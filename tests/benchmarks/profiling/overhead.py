"""What spans cost: tokens/s of one bundle with spans off, on, and told to every client; and one range by itself.

Two servers of the same bundle stand side by side, one of them with ``SLIPSTREAM_SPANS=0``; one of them works at a time.
Each round asks the same amount of work of every side in turn, in another order each time, so that a drift of the
machine hits all. Off is measured twice a round: the ratio of its two halves is what differs where nothing does.

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
from pathlib import Path
from tempfile import TemporaryDirectory

from slipstream.profiling import spans
from slipstream.settings import Settings
from tests.benchmarks.served import Server, closed_loop, machine, serve
from tests.benchmarks.serving import conversation

STREAMS, ROUNDS, PROMPTS, TOKENS = 8, 12, 16, 128
SIDES = ("off", "on", "told", "off again")
ASKING = {"x-slipstream-timing": "1"}
_CALLS = 200_000


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


def tokens_per_s(server: Server, side: str, salt: str, streams: int, prompts: int) -> float:
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
    answers, wall_s = asyncio.run(closed_loop(server, bodies, streams, headers))
    return sum(answer.completion_tokens for answer in answers) / wall_s


def rounds(servers: dict[str, Server], streams: int, count: int, prompts: int) -> dict[str, list[float]]:
    """Tokens/s of every side, round by round."""
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(count):
        start = number % len(SIDES)
        for side in SIDES[start:] + SIDES[:start]:
            rates[side].append(tokens_per_s(servers[side], side, f"r{number}", streams, prompts))
        print(f"  round {number}:", {side: f"{values[-1]:.1f}/s" for side, values in rates.items()}, flush=True)
    return rates


def show(rates: dict[str, list[float]], streams: int) -> None:
    for side in SIDES[1:]:
        ratios = [rate / off for rate, off in zip(rates[side], rates["off"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{streams} streams, {side}: {statistics.median(rates[side]):.1f} tokens/s, "
            f"{middle:.4f} of off (quartiles {low:.4f}-{high:.4f})"
        )


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
                tokens_per_s(servers[side], side, f"warm{streams}", streams, streams)
            show(rounds(servers, streams, given.rounds, given.prompts), streams)


if __name__ == "__main__":
    main()
