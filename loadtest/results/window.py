"""Which seconds of a run are measured, and what happened in them.

The window begins at the end of the warm-up and ends when arrivals end: after the scenario's duration, at the last
arrival of a run that its number of requests or its trace ended, or when the run was stopped. Rates count what *ended*
(a token: what *came*) inside, whenever it was due: requests of the warm-up that end in the window stand for those
that were due in it and end later, so in a steady state neither end biases a rate, and a server that falls behind is
not credited with what it does after the arrivals ended. Latencies and verdicts are those of the requests that were
due in the window.

`Whole` is the other usual definition, that of vLLM's benchmark: everything that was due in the window, over the time
until the last of it ended. The slow end of a run makes it smaller, much so in a short run.
"""

from dataclasses import dataclass

import numpy as np

from slipstream.loadtest.results.columns import Booleans, Columns
from slipstream.loadtest.scenario import Replay, Scenario
from slipstream.loadtest.statistics.order import Floats


@dataclass(frozen=True)
class Window:
    """Seconds since the start of the run."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    def holds(self, moments: Floats) -> Booleans:
        """Which requests were due in the window [n]: at its start too, not at its end."""
        return (moments >= self.start_s) & (moments < self.end_s)

    def saw(self, moments: Floats) -> Booleans:
        """Which ended in the window [n]: at its end too, not at its start. A closed loop's last arrival, with which it
        may end, is the end of the request before.
        """
        return (moments > self.start_s) & (moments <= self.end_s)

    def overlap_s(self, starts: Floats, ends: Floats) -> Floats:
        """How much of each span lies inside [n]."""
        inside: Floats = np.minimum(ends, self.end_s) - np.maximum(starts, self.start_s)
        return np.maximum(inside, 0.0)


def measured_window(scenario: Scenario, columns: Columns, stopped_s: float | None = None) -> Window:
    """The window of a run; of no length where nothing was measured.

    Args:
        stopped_s: when the run was stopped before its end.
    """
    due = columns.scheduled_s[columns.measured]
    if not len(due):
        return Window(scenario.warmup, scenario.warmup)
    last = float(due.max())
    by_count = scenario.requests is not None and len(columns) >= scenario.requests
    if scenario.duration is None or by_count or isinstance(scenario.arrivals, Replay):
        end = last if scenario.duration is None else min(last, scenario.warmup + scenario.duration)
    else:
        end = scenario.warmup + scenario.duration
    end = end if stopped_s is None else min(end, stopped_s)
    if end <= scenario.warmup:  # all were due at once
        end = float(columns.end_s[columns.measured].max())
    return Window(scenario.warmup, max(end, scenario.warmup))


@dataclass(frozen=True)
class Rates:
    """Per second of the window; None without a window.

    Attributes:
        arrivals_per_s: due in the window.
        requests_per_s: ended with success in the window.
        goodput_per_s: ended in the window and met every SLO that applies to them; None without an SLO.
        errors_per_s: failed in the window.
        output_tokens_per_s: the tokens of a request come evenly with its chunks, or without any at its end.
        prompt_tokens_per_s: of requests that ended with success in the window.
        in_flight: mean number of requests in the system, by time.
        most_in_flight: at any moment of the window.
    """

    arrivals_per_s: float
    requests_per_s: float
    goodput_per_s: float | None
    errors_per_s: float
    output_tokens_per_s: float
    prompt_tokens_per_s: float
    in_flight: float
    most_in_flight: int


@dataclass(frozen=True)
class Whole:
    """What was due in the window, over the time until the last of it ended."""

    length_s: float
    requests_per_s: float
    output_tokens_per_s: float


def rates(window: Window, columns: Columns, good: Booleans | None) -> Rates | None:
    """What happened per second of the window.

    Args:
        good: whether each request met all SLOs [n], of the warm-up too; None without SLOs.
    """
    if window.length_s <= 0:
        return None
    ended = window.saw(columns.end_s)
    moments, tokens = token_moments(columns)
    came = tokens[window.saw(moments)].sum()
    level, most = in_flight(window, columns)
    counts = {
        "arrivals_per_s": window.holds(columns.scheduled_s).sum(),
        "requests_per_s": (ended & columns.is_ok).sum(),
        "errors_per_s": (ended & columns.is_error).sum(),
        "output_tokens_per_s": came,
        "prompt_tokens_per_s": np.nansum(columns.prompt_tokens[ended & columns.is_ok]),
    }
    goodput = None if good is None else float((ended & good).sum() / window.length_s)
    per_second = {name: float(count / window.length_s) for name, count in counts.items()}
    return Rates(**per_second, goodput_per_s=goodput, in_flight=level, most_in_flight=most)


def whole(window: Window, columns: Columns) -> Whole | None:
    """The rates by the other definition; None where nothing succeeded."""
    done = columns.measured & columns.is_ok
    if not done.any():
        return None
    length = float(columns.end_s[columns.is_counted].max()) - window.start_s
    tokens = float(np.nansum(columns.tokens[done]))
    return Whole(length, float(done.sum() / length), tokens / length) if length > 0 else None


def token_moments(columns: Columns) -> tuple[Floats, Floats]:
    """When output tokens came, and how many then: at each chunk, else at the end of a request that succeeded."""
    per_chunk = np.divide(
        np.nan_to_num(columns.tokens), columns.chunks, out=np.zeros(len(columns)), where=columns.chunks > 0
    )
    without = columns.is_ok & (columns.chunks == 0)
    moments = np.concatenate([columns.chunk_s, columns.end_s[without]])
    tokens = np.concatenate([np.repeat(per_chunk, columns.chunks), np.nan_to_num(columns.tokens[without])])
    return moments, tokens


def in_flight(window: Window, columns: Columns) -> tuple[float, int]:
    """Mean by time and maximum of how many requests are between sent and end, sweeping over both kinds of events."""
    moments, counts = flight_steps(columns)
    inside = window.holds(moments)
    before = int(counts[moments < window.start_s][-1]) if (moments < window.start_s).any() else 0
    levels = np.concatenate([[before], counts[inside]])
    edges = np.concatenate([[window.start_s], moments[inside], [window.end_s]])
    return float(levels @ np.diff(edges) / window.length_s), int(levels.max())


def flight_steps(columns: Columns) -> tuple[Floats, Floats]:
    """Every moment at which a request began or ended, sorted, and how many were in flight from it on."""
    moments = np.concatenate([columns.sent_s, columns.end_s])
    steps = np.concatenate([np.ones(len(columns)), -np.ones(len(columns))])
    order = np.argsort(moments, kind="stable")
    return moments[order], np.cumsum(steps[order])


__all__ = [
    "Rates", "Whole", "Window", "flight_steps", "in_flight", "measured_window", "rates", "token_moments", "whole",
]  # fmt: skip
