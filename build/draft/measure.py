"""Does a draft pay? Every way to speculate beside none, in turns in one run, on prompts and grammars as served.

Each round has prompts of its own, so that no cached prefix answers for the engine, and the candidates take turns in it
(A B C, C B A, ...), so that a drift of the machine hits all alike. An answer ends where it ends: one that is made to go
on repeats itself, and what repeats itself is easily proposed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Literal

from slipstream.build.draft.prompts import ANSWER_TOKENS, Asked, answer_all
from slipstream.build.options import DraftOptions
from slipstream.engines.protocols import Progress, Runtime, Speculation

STREAMS = 8
ALONE = 4
"""Prompts of a round that are asked one after the other."""
ROUNDS = 4
LOSS_AT_STREAMS = 0.05
"""Share of its speed at `STREAMS` streams that an engine may lose for being faster alone."""

Method = Literal["none", "prompt_lookup", "draft"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to decode; ``tokens`` proposed at a time, 0 for ``none``."""

    method: Method
    tokens: int = 0

    @property
    def name(self) -> str:
        return self.method if self.method == "none" else f"{self.method} {self.tokens}"


NONE = Candidate("none")


def candidates(options: DraftOptions) -> list[Candidate]:
    """What a recipe wants tried, `NONE` first; nothing to measure where it is alone."""
    wanted: dict[str, tuple[Method, ...]] = {
        "none": (), "prompt_lookup": ("prompt_lookup",), "distilled": ("draft",), "auto": ("prompt_lookup", "draft"),
    }  # fmt: skip
    return [NONE, *(Candidate(method, tokens) for method in wanted[options.method] for tokens in options.lengths)]


def speculation(candidate: Candidate, draft: Path | None) -> Speculation | None:
    """``candidate`` for `RuntimeOptions`; ``draft`` is the engine of the distilled model."""
    if candidate.method == "none":
        return None
    engine = draft if candidate.method == "draft" else None
    return Speculation(candidate.method, candidate.tokens, engine=engine)


@dataclass(frozen=True, slots=True)
class Speed:
    """Output tokens per second, prefill included: median over rounds, and half the distance from lowest to highest.

    ``gain`` is the speed over that of ``none`` in the same round; 1 for ``none`` itself.
    """

    tokens_per_s: float
    spread: float
    gain: float
    gain_spread: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one candidate, over all rounds.

    ``acceptance_rate``: accepted over proposed draft tokens; None where nothing was proposed. ``tokens_per_step``:
    output tokens of a sequence per step of it, 1 without speculation.
    """

    candidate: Candidate
    acceptance_rate: float | None
    tokens_per_step: float
    alone: Speed
    loaded: Speed

    @property
    def pays(self) -> bool:
        """See `choose`."""
        return self.alone.gain - self.alone.gain_spread > 1 and self.loaded.gain >= 1 - LOSS_AT_STREAMS


@dataclass(frozen=True, slots=True)
class SpeculationReport:
    """What was measured, ``none`` first; which candidate is kept, and why in one sentence."""

    measured: tuple[Measured, ...]
    kept: Candidate
    why: str
    rounds: int
    prompt_tokens: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Round:
    """Of one candidate: output tokens and seconds, of the prompts one by one and of those together."""

    alone: tuple[int, float]
    loaded: tuple[int, float]


def prompts_needed(rounds: int = ROUNDS) -> int:
    return 1 + rounds * (ALONE + STREAMS)


def measure(
    load: Mapping[Candidate, Callable[[], Runtime]], asked: Sequence[Asked], progress: Progress, rounds: int = ROUNDS
) -> SpeculationReport:
    """Load every candidate, `NONE` among them, warm it up, and let them take turns.

    Args:
        load: how to load each; all stay loaded until the end, ``max_concurrency`` at least `STREAMS`.
        asked: at least ``prompts_needed(rounds)``; the first one warms up.

    Raises:
        EngineGaveNoAnswer: a request failed, or nothing came for minutes.
    """
    seen: dict[Candidate, list[_Round]] = {candidate: [] for candidate in load}
    proposals: dict[Candidate, tuple[int, int]] = {}
    total = len(load) * (rounds + 1)
    with ExitStack() as closing:
        runtimes: dict[Candidate, Runtime] = {}
        for candidate, make in load.items():
            progress(len(runtimes) / total, f"loading {candidate.name}")
            runtimes[candidate] = make()
            closing.callback(runtimes[candidate].close)
            _ask(runtimes[candidate], asked[:1], "warm")
        before = {candidate: runtime.metrics() for candidate, runtime in runtimes.items()}
        for number, (alone, loaded) in enumerate(_batches(asked, rounds)):
            for candidate in list(load) if number % 2 == 0 else reversed(list(load)):
                done = len(load) + sum(map(len, seen.values()))
                progress(done / total, f"round {number + 1} of {rounds}: {candidate.name}")
                seen[candidate].append(_round(runtimes[candidate], alone, loaded, str(number)))
        for candidate, runtime in runtimes.items():
            after = runtime.metrics()
            proposed = after.proposed - before[candidate].proposed
            proposals[candidate] = proposed, after.accepted - before[candidate].accepted
    progress(1.0, "measured")
    measured = [_measured(candidate, seen, proposals[candidate]) for candidate in load]
    kept, why = choose(measured)
    length = sum(len(one.prompt_ids) for one in asked) / len(asked)
    return SpeculationReport(tuple(measured), kept, why, rounds, length)


def choose(measured: Sequence[Measured]) -> tuple[Candidate, str]:
    """Which candidate `auto` keeps, and why.

    One pays if its gain alone is more than 1 by more than the spread of that gain over the rounds, and if at `STREAMS`
    streams it keeps at least 1 - `LOSS_AT_STREAMS` of the speed. Of those that pay, the one that gains most alone.
    """
    tried = [one for one in measured if one.candidate != NONE]
    paying = [one for one in tried if one.pays]
    if paying:
        best = max(paying, key=lambda one: (one.alone.gain, one.loaded.gain))
        return best.candidate, f"{best.candidate.name} is kept: {_told(best)}"
    if not tried:
        return NONE, "nothing was tried, so nothing is kept"
    nearest = max(tried, key=lambda one: one.alone.gain)
    return NONE, f"none is kept: the nearest, {nearest.candidate.name}, has {_told(nearest)}"


def _told(one: Measured) -> str:
    alone = f"{one.alone.gain:.2f} ± {one.alone.gain_spread:.2f}"
    return f"{alone} times the speed of none alone, {one.loaded.gain:.2f} at {STREAMS} streams"


def _batches(asked: Sequence[Asked], rounds: int) -> Iterator[tuple[Sequence[Asked], Sequence[Asked]]]:
    for start in range(1, prompts_needed(rounds), ALONE + STREAMS):
        yield asked[start : start + ALONE], asked[start + ALONE : start + ALONE + STREAMS]


def _round(runtime: Runtime, alone: Sequence[Asked], loaded: Sequence[Asked], name: str) -> _Round:
    one_by_one = [_ask(runtime, [one], f"{name}-alone-{place}") for place, one in enumerate(alone)]
    tokens, seconds = zip(*one_by_one, strict=True)
    return _Round((sum(tokens), sum(seconds)), _ask(runtime, loaded, f"{name}-loaded"))


def _ask(runtime: Runtime, asked: Sequence[Asked], name: str) -> tuple[int, float]:
    """Output tokens, ends of sequences among them, and seconds until the last of them.

    An end is a token that a step brought, and may be one that a draft proposed; an answer that was cut has none.
    """
    started = perf_counter()
    answers = answer_all(runtime, asked, lambda *_: None, name)
    seconds = perf_counter() - started
    return sum(len(answer) + (len(answer) < ANSWER_TOKENS) for answer in answers), seconds


def _measured(candidate: Candidate, seen: Mapping[Candidate, list[_Round]], proposals: tuple[int, int]) -> Measured:
    proposed, accepted = proposals
    tokens = sum(one.alone[0] + one.loaded[0] for one in seen[candidate])
    return Measured(
        candidate,
        acceptance_rate=accepted / proposed if proposed else None,
        tokens_per_step=tokens / max(1, tokens - accepted),
        alone=_speed([one.alone for one in seen[candidate]], [one.alone for one in seen[NONE]]),
        loaded=_speed([one.loaded for one in seen[candidate]], [one.loaded for one in seen[NONE]]),
    )


def _speed(ours: Sequence[tuple[int, float]], without: Sequence[tuple[int, float]]) -> Speed:
    speeds = [tokens / seconds for tokens, seconds in ours]
    # Ties end some answers elsewhere, so speeds are compared and not seconds.
    gains = [speed * seconds / tokens for speed, (tokens, seconds) in zip(speeds, without, strict=True)]
    return Speed(median(speeds), _half(speeds), median(gains), _half(gains))


def _half(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / 2


__all__ = [
    "LOSS_AT_STREAMS", "NONE", "ROUNDS", "STREAMS", "Candidate", "Measured", "SpeculationReport", "Speed",
    "candidates", "choose", "measure", "prompts_needed", "speculation",
]  # fmt: skip
