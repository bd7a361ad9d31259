"""What is asked of both sides, in turn, and what the answers amount to."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np

from tests.benchmarks.peer.quiet import Watch, process_s, wait_until_idle
from tests.benchmarks.peer.sides import Prompts, Side, Stream

_RESAMPLES, _SEED = 10_000, 4


class Encoder(Protocol):
    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class Scenario:
    """``goal`` is the least ratio of our rate to the peer's; ``rounds`` pairs of runs are taken.

    ``whole`` counts the prefill, as whoever asked does: output tokens over the time from sending to the last of them.
    Otherwise only decoding counts: output tokens after the last stream's first one, over the time that they took.
    """

    name: str
    streams: int
    prompt_tokens: int
    output_tokens: int
    whole: bool
    goal: float
    rounds: int


SCENARIOS = (
    Scenario("decoding, 1 stream", 1, 64, 192, whole=False, goal=1.0, rounds=24),
    Scenario("decoding, 8 streams", 8, 64, 128, whole=False, goal=1.4, rounds=12),
    Scenario("requests, 1 at a time", 1, 1024, 100, whole=True, goal=1.8, rounds=12),
    Scenario("requests, 8 at once", 8, 1024, 100, whole=True, goal=1.8, rounds=6),
)


@dataclass(frozen=True)
class Run:
    """One side, one round.

    Attributes:
        rate: output tokens/s over all streams, by the clock.
        own_rate: the same by the engine's own account; 0 where it gives none.
        ttft_s: from sending to the first token, median over the streams.
        others: share of the processors that other processes took meanwhile.
        cpu_s: processor time of the engine's process. On a busy machine its ratio is the fairer one.
    """

    rate: float
    own_rate: float
    ttft_s: float
    others: float
    cpu_s: float


@dataclass
class Result:
    scenario: Scenario
    ours: list[Run] = field(default_factory=list)
    peer: list[Run] = field(default_factory=list)

    def ratios(self, *, by_own: bool = False) -> list[float]:
        """Our rate over the peer's, per round; ``by_own``: over the one that the peer reports."""
        pairs = zip(self.ours, self.peer, strict=True)
        return [ours.rate / (peer.own_rate if by_own else peer.rate) for ours, peer in pairs]

    def cpu_ratios(self) -> list[float]:
        """The peer's processor time for the same tokens over ours, per round."""
        return [peer.cpu_s / ours.cpu_s for ours, peer in zip(self.ours, self.peer, strict=True)]

    def ttft_ratios(self) -> list[float]:
        return [ours.ttft_s / peer.ttft_s for ours, peer in zip(self.ours, self.peer, strict=True)]

    def as_json(self) -> dict[str, Any]:
        summary = {
            "ratio": interval(self.ratios()),
            "ratio_by_peers_timings": interval(self.ratios(by_own=True)),
            "cpu_ratio": interval(self.cpu_ratios()),
            "ttft_ratio": interval(self.ttft_ratios()),
        }
        return asdict(self) | summary


def real_prompts(tokenizer: Encoder) -> Callable[[int, int], list[list[int]]]:
    """Prompts of source code, each from another place, so that no two begin alike: a prefix cache finds nothing."""
    import asyncio
    import email
    import http

    folders = [Path(module.__file__ or "").parent for module in (asyncio, email, http)]
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    tokens = cycle([token for file in files for token in tokenizer.encode(file.read_text(encoding="utf-8"))])
    return lambda count, length: [list(islice(tokens, length)) for _ in range(count)]


def agreement(ours: Side, peer: Side, prompts: Sequence[Sequence[int]]) -> float:
    """Share of ``prompts`` after which both pick the same next token: the two have the same model, rounded apart."""
    same = [ours.run([prompt], 1)[0].token_ids == peer.run([prompt], 1)[0].token_ids for prompt in prompts]
    return sum(same) / len(same)


def measure(
    scenario: Scenario, ours: Side, peer: Side, prompts: Callable[[int, int], list[list[int]]], patience_s: float | None
) -> Result:
    """Both sides with the same prompts, in turn A B B A; ``patience_s`` None measures on a busy machine, too.

    Raises:
        MachineBusy: others do not leave it alone.
    """
    result = Result(scenario)
    both = {ours.name: (ours, result.ours), peer.name: (peer, result.peer)}
    pids = [ours.pid, peer.pid]
    for number in range(scenario.rounds):
        given = prompts(scenario.streams, scenario.prompt_tokens)
        if patience_s is not None:
            wait_until_idle(pids, patience_s)
        for side, runs in sorted(both.values(), key=lambda pair: pair[0] is (peer, ours)[number % 2]):
            runs.append(_run(side, given, scenario, pids))
    return result


def _run(side: Side, prompts: Prompts, scenario: Scenario, pids: Sequence[int]) -> Run:
    watch, before_s = Watch(pids), process_s(side.pid)
    streams = side.run(prompts, scenario.output_tokens)
    others, cpu_s = watch.others(), process_s(side.pid) - before_s
    counts = [len(stream.arrivals) for stream in streams]
    assert counts == [scenario.output_tokens] * len(prompts), f"{side.name} generated {counts}"
    rate, own_rate = (whole_rate, own_whole_rate) if scenario.whole else (decode_rate, own_decode_rate)
    return Run(rate(streams), own_rate(streams), median(stream.arrivals[0] for stream in streams), others, cpu_s)


def whole_rate(streams: Sequence[Stream]) -> float:
    """Output tokens/s from sending to the last token of all."""
    return sum(len(stream.arrivals) for stream in streams) / max(stream.arrivals[-1] for stream in streams)


def decode_rate(streams: Sequence[Stream]) -> float:
    """Output tokens/s once every stream has its first."""
    start = max(stream.arrivals[0] for stream in streams)
    after = [moment for stream in streams for moment in stream.arrivals if moment > start]
    return len(after) / (max(after) - start)


def own_decode_rate(streams: Sequence[Stream]) -> float:
    """The streams' rates as the engine reports them, added."""
    return sum(len(stream.arrivals) / stream.own_decode_s for stream in streams if stream.own_decode_s)


def own_whole_rate(streams: Sequence[Stream]) -> float:
    """The same with the prefill's time, which leaves out waiting for a slot and everything HTTP."""
    times = [stream.own_prefill_s + stream.own_decode_s for stream in streams]
    return sum(len(stream.arrivals) / taken for stream, taken in zip(streams, times, strict=True) if taken)


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Median, and its 95% bootstrap interval (percentiles of the medians of resampled rounds)."""
    values = np.asarray(ratios, dtype=np.float64)
    drawn = np.random.default_rng(_SEED).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[drawn], axis=1), [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)
