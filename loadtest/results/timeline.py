"""A run second by second, for the report: what arrived, ended, failed, was in flight, and how long it took."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.window import flight_steps, token_moments
from slipstream.loadtest.statistics.order import Floats, Integers, quantile_rank

MOST_SECONDS = 100_000
"""A longer run is one with a wrong clock; its later part is left out."""

Series = tuple[float | None, ...]


@dataclass(frozen=True)
class Timeline:
    """One value per second of the run, from its start to the last byte; the warm-up too.

    Attributes:
        arrivals: due in that second.
        ended: with success.
        errors: failed.
        in_flight: mean by time.
        output_tokens: that came.
        ttft_p50_ms, ttft_p95_ms, e2e_p50_ms, e2e_p95_ms: of the requests *due* in that second that succeeded, from the
            scheduled moment; None where there is none. So a stall shows at whom it hit.
    """

    arrivals: tuple[int, ...]
    ended: tuple[int, ...]
    errors: tuple[int, ...]
    in_flight: tuple[float, ...]
    output_tokens: tuple[float, ...]
    ttft_p50_ms: Series
    ttft_p95_ms: Series
    e2e_p50_ms: Series
    e2e_p95_ms: Series


def timeline(columns: Columns) -> Timeline:
    """The run in seconds; empty without samples."""
    ends = columns.end_s[np.isfinite(columns.end_s)]
    seconds = min(ceil(ends.max()), MOST_SECONDS) if len(ends) and ends.max() > 0 else 0
    moments, tokens = token_moments(columns)
    due = _second(columns.scheduled_s, seconds)
    ttft = columns.latency_s("ttft", "scheduled")
    e2e = columns.latency_s("e2e", "scheduled")
    ttft_p50, ttft_p95 = _percentiles(due, np.where(columns.is_ok, ttft, np.nan) * 1e3, seconds)
    e2e_p50, e2e_p95 = _percentiles(due, np.where(columns.is_ok, e2e, np.nan) * 1e3, seconds)
    ended = _second(columns.end_s, seconds)
    came = np.bincount(_second(moments, seconds), weights=tokens, minlength=seconds + 1)[:seconds]
    return Timeline(
        arrivals=_counts(due, seconds),
        ended=_counts(ended[columns.is_ok], seconds),
        errors=_counts(ended[columns.is_error], seconds),
        in_flight=_in_flight(columns, seconds),
        output_tokens=tuple(came.tolist()),
        ttft_p50_ms=ttft_p50,
        ttft_p95_ms=ttft_p95,
        e2e_p50_ms=e2e_p50,
        e2e_p95_ms=e2e_p95,
    )


def _second(moments: Floats, seconds: int) -> Integers:
    """In which second each moment lies [n]; ``seconds`` for those before, after or at none."""
    known = (moments >= 0) & (moments <= seconds)
    place = np.minimum(np.where(known, moments, 0).astype(np.int64), max(seconds - 1, 0))
    return np.where(known, place, seconds)


def _counts(places: Integers, seconds: int) -> tuple[int, ...]:
    return tuple(np.bincount(places, minlength=seconds + 1)[:seconds].tolist())


def _in_flight(columns: Columns, seconds: int) -> tuple[float, ...]:
    """Mean number in flight of each second, from the integral of the steps at whole seconds."""
    moments, counts = flight_steps(columns)
    if not len(moments):
        return ()
    area = np.concatenate([[0.0], np.cumsum(counts[:-1] * np.diff(moments))])
    edges = np.arange(seconds + 1, dtype=np.float64)
    return tuple(np.diff(np.interp(edges, moments, area)).tolist())


def _percentiles(places: Integers, values: Floats, seconds: int) -> tuple[Series, Series]:
    """p50 and p95 of each second."""
    known = np.isfinite(values) & (places < seconds)
    order = np.lexsort((values[known], places[known]))
    ordered, counts = values[known][order], np.bincount(places[known], minlength=seconds)
    starts = np.cumsum(counts) - counts
    found: list[Series] = []
    for level in (0.5, 0.95):
        spans = zip(starts.tolist(), counts.tolist(), strict=True)
        found.append(tuple(float(ordered[s + quantile_rank(n, level) - 1]) if n else None for s, n in spans))
    return found[0], found[1]


__all__ = ["Timeline", "timeline"]
