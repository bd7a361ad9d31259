"""A run second by second."""

from dataclasses import replace

import numpy as np
import pytest

from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.timeline import Timeline, timeline
from tests.loadtest.simulated import failed, request, steady


def lengths(found: Timeline) -> set[int]:
    return {len(series) for series in vars(found).values()}


def test_no_samples_have_no_seconds() -> None:
    assert lengths(timeline(Columns.of([]))) == {0}


def test_every_series_has_one_value_per_second_until_the_last_byte() -> None:
    found = timeline(Columns.of([request(0, 0.5), request(1, 3.0, ttft=2.2)]))
    assert lengths(found) == {6}
    assert found.arrivals == (1, 0, 0, 1, 0, 0)
    assert found.ended == (0, 1, 0, 0, 0, 1)


def test_a_stall_shows_at_those_whom_it_hit() -> None:
    found = timeline(Columns.of([request(0, 0.1, lag=0.0), request(1, 1.5, lag=0.0, ttft=4.0)]))
    assert found.ttft_p95_ms[0] == pytest.approx(200)
    assert found.ttft_p95_ms[1] == pytest.approx(4_000)
    assert found.ttft_p50_ms[2:] == (None,) * (len(found.ttft_p50_ms) - 2)


def test_percentiles_of_a_second_are_those_of_its_requests() -> None:
    found = timeline(Columns.of([request(n, 1 + n / 100, lag=0.0, ttft=(n + 1) / 100) for n in range(100)]))
    assert (found.ttft_p50_ms[1], found.ttft_p95_ms[1]) == (pytest.approx(500), pytest.approx(950))


def test_errors_are_counted_where_they_happened_and_have_no_latency() -> None:
    found = timeline(Columns.of([failed(0, 0.5, after=2.0)]))
    assert found.errors == (0, 0, 1)
    assert found.ended == (0, 0, 0)
    assert found.e2e_p95_ms == (None, None, None)


def test_sums_over_the_seconds_are_the_run() -> None:
    samples = steady(np.full(500, 0.2), rate=37.0)
    found = timeline(Columns.of(samples))
    assert sum(found.arrivals) == sum(found.ended) == 500
    assert sum(found.output_tokens) == pytest.approx(5_000)
    assert sum(found.in_flight) == pytest.approx(sum(sample.end_s - sample.sent_s for sample in samples))


def test_a_clock_that_is_none_makes_no_endless_timeline() -> None:
    broken = [replace(request(0, 0.5), end_s=float("nan")), replace(request(1, 1.0), end_s=1e300), request(2, 2.0)]
    assert max(lengths(timeline(Columns.of(broken)))) <= 100_000
