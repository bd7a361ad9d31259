"""How fast engines answer, measured in turns in one run: alone and at several streams, and the memory they take.

Engines take turns in every round (A B C, C B A, ...), so that a drift of the machine hits all of them alike, and each
keeps its own process. Prompts are of the kind that is served; no two share more than the system words, and each round
has others, so that no cached prefix answers for the engine.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from slipstream import GateError
from slipstream.engines.protocols import GenerationRequest, Runtime, Sampling, TokenDelta

OUTPUT_TOKENS = 96
STREAMS = 8
ROUNDS = 3
_SILENCE_S = 300.0

Prompts = Sequence[Sequence[int]]


class EngineSilent(GateError):
    """An engine failed, or said nothing for minutes, while it was measured."""


@dataclass(frozen=True)
class Rates:
    """One batch of requests: ``output`` tokens per second from submission to the last token, prefill included;
    ``decode`` tokens per second of a stream after its first token (1/TPOT); ``ttft_s`` until the first. Medians.
    """

    output: float
    decode: float
    ttft_s: float


@dataclass(frozen=True)
class Measured:
    """Medians over rounds; each ``*_spread`` is (highest - lowest) / median of the same number."""

    streams: int
    output: float
    output_spread: float
    decode: float
    decode_spread: float
    ttft_s: float


@dataclass(frozen=True)
class Speed:
    """Of one engine. ``peak_memory_bytes``: the highest resident size of its processes, weights and KV cache in it."""

    alone: Measured
    loaded: Measured
    peak_memory_bytes: int
    prompt_tokens: float
    output_tokens: int = OUTPUT_TOKENS


class _Stream:
    """Clocks one generation."""

    def __init__(self, ended: threading.Semaphore) -> None:
        self._ended = ended
        self.submitted = self.first = self.last = 0.0
        self.tokens: list[int] = []
        self.error = ""

    def emit(self, delta: TokenDelta) -> None:
        now = perf_counter()
        if delta.token_ids:
            self.first = self.first or now
            self.last = now
            self.tokens += delta.token_ids
        if delta.finish_reason:
            self.error = delta.error if delta.finish_reason == "error" else ""
            self._ended.release()


def run_batch(runtime: Runtime, prompts: Prompts, name: str, tokens: int = OUTPUT_TOKENS) -> Rates:
    """Submit ``prompts`` at once, let each make exactly ``tokens`` tokens, and clock them.

    Raises:
        EngineSilent: a request failed, or nothing came for minutes.
    """
    ended = threading.Semaphore(0)
    streams = [_Stream(ended) for _ in prompts]
    started = perf_counter()
    for number, (stream, prompt) in enumerate(zip(streams, prompts, strict=True)):
        stream.submitted = perf_counter()
        request = GenerationRequest(f"{name}-{number}-{started}", prompt, Sampling(tokens, ignore_eos=True))
        runtime.submit(request, stream.emit)
    for _ in streams:
        if not ended.acquire(timeout=_SILENCE_S):
            raise EngineSilent(f"{name} said nothing for {_SILENCE_S:.0f} s while it was measured", "run it again")
    broken = next((stream.error for stream in streams if stream.error or len(stream.tokens) < 2), None)
    if broken is not None:
        raise EngineSilent(f"{name} failed while it was measured: {broken or 'too few tokens'}", "see the log above")
    seconds = max(stream.last for stream in streams) - started
    return Rates(
        output=sum(len(stream.tokens) for stream in streams) / seconds,
        decode=median((len(stream.tokens) - 1) / max(stream.last - stream.first, 1e-9) for stream in streams),
        ttft_s=median(stream.first - stream.submitted for stream in streams),
    )


def measure(
    load: Mapping[str, Callable[[], Runtime]],
    prompts: Prompts,
    advance: Callable[[float, str], None],
    rounds: int = ROUNDS,
) -> dict[str, Speed]:
    """Load every engine, warm it up, and let them take turns.

    Args:
        load: by name, how to load it; all stay loaded until the end.
        prompts: at least ``rounds * (STREAMS + 1) + 1`` of them; the first warms up.

    Raises:
        EngineSilent: see `run_batch`.
    """
    batches = list(_batches(prompts, rounds))
    results: dict[str, list[tuple[Rates, Rates]]] = {name: [] for name in load}
    peaks: dict[str, int] = {}
    total, done = (rounds + 1) * len(load), 0
    with ExitStack() as closing:
        engines: dict[str, tuple[Runtime, list[Any]]] = {}
        for name, make in load.items():
            before = _children()
            runtime = make()
            closing.callback(runtime.close)
            engines[name] = runtime, [child for child in _children() if child not in before]
            run_batch(runtime, prompts[:1], name)
            done += 1
            advance(done / total, name)
        for number, (alone, loaded) in enumerate(batches):
            for name in list(load) if number % 2 == 0 else reversed(list(load)):
                runtime = engines[name][0]
                results[name].append((run_batch(runtime, alone, name), run_batch(runtime, loaded, name)))
                done += 1
                advance(done / total, name)
        peaks = {name: sum(map(_peak_bytes, processes)) for name, (_, processes) in engines.items()}
    length = sum(map(len, prompts)) / len(prompts)
    return {
        name: Speed(
            _summary(1, [alone for alone, _ in rates]), _summary(STREAMS, [loaded for _, loaded in rates]),
            peaks[name], length,
        )
        for name, rates in results.items()
    }  # fmt: skip


def _batches(prompts: Prompts, rounds: int) -> Iterator[tuple[Prompts, Prompts]]:
    """For each round one prompt alone and ``STREAMS`` together; the first prompt is for warming up."""
    for number in range(rounds):
        start = 1 + number * (STREAMS + 1)
        yield prompts[start : start + 1], prompts[start + 1 : start + 1 + STREAMS]


def prompts_needed(rounds: int = ROUNDS) -> int:
    return 1 + rounds * (STREAMS + 1)


def _summary(streams: int, rates: Sequence[Rates]) -> Measured:
    output, decode = [rate.output for rate in rates], [rate.decode for rate in rates]
    return Measured(
        streams, median(output), _spread(output), median(decode), _spread(decode), median(rate.ttft_s for rate in rates)
    )


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / median(values)


def _children() -> list[Any]:
    import psutil

    return list(psutil.Process().children(recursive=True))


def _peak_bytes(process: Any) -> int:
    """The highest resident size a process had (VmHWM); what it has now where the kernel does not tell."""
    import psutil

    try:
        for line in Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return int(process.memory_info().rss)
    except (OSError, psutil.Error):
        return 0


__all__ = [
    "OUTPUT_TOKENS",
    "STREAMS",
    "EngineSilent",
    "Measured",
    "Rates",
    "Speed",
    "measure",
    "prompts_needed",
    "run_batch",
]
