"""Latencies, counts by kind, tokens and stages, each from the requests that it is of."""

import time
from dataclasses import replace

import numpy as np
import pytest

from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.metrics import LEVELS, Metrics, measure
from slipstream.loadtest.results.verdict import judge
from slipstream.loadtest.results.window import Window
from slipstream.loadtest.sample import Sample
from tests.loadtest.simulated import failed, planned, request, scenario, steady


def measured(samples: list[Sample], *, streamed: bool = True) -> Metrics:
    return measure(Columns.of(samples, streamed=streamed), Window(5, 65), None, 0.95)


def test_nothing_is_measured_of_nothing() -> None:
    found = measured([])
    assert found.latencies == {}
    assert found.stages == {}
    assert found.tokens.per_chunk is None
    assert found.counts.error_share is None


def test_latencies_are_those_of_the_definitions_in_milliseconds() -> None:
    found = measured([request(lag=0.004, ttft=0.2, gaps=[0.05, 0.15], connect_s=0.002)]).latencies
    expected = {
        "ttft": 200,
        "ttft_scheduled": 204,
        "tpot": 100,
        "itl_largest": 150,
        "e2e": 400,
        "e2e_scheduled": 404,
        "lag": 4,
        "connect": 2,
    }
    assert {name: one.mean for name, one in found.items() if name != "itl"} == pytest.approx(expected)
    assert (found["itl"].count, found["itl"].mean) == (2, pytest.approx(100))


def test_tpot_goes_to_the_last_byte() -> None:
    sample = request(gaps=[0.05] * 9)
    assert measured([replace(sample, end_s=sample.end_s + 0.09)]).latencies["tpot"].mean == pytest.approx(60)


def test_latencies_are_of_measured_successes_and_lags_of_everything_measured() -> None:
    samples = [request(0, 1, ttft=9), request(1, ttft=0.2), failed(2), request(3, ttft=9, outcome="truncated")]
    found = measured(samples).latencies
    assert (found["ttft"].count, found["ttft"].most) == (1, pytest.approx(200))
    assert found["lag"].count == 3


def test_an_answer_in_one_piece_has_no_first_token() -> None:
    found = measured([request()], streamed=False)
    assert sorted(found.latencies) == ["e2e", "e2e_scheduled", "lag"]
    assert found.tokens.per_chunk is None


def test_errors_are_counted_by_kind_and_what_is_not_counted_beside_them() -> None:
    kinds = ("rate_limited", "rate_limited", "stalled", "disconnected", "cut_off")
    samples = [request(0), failed(1, 1.0)] + [replace(failed(n + 2), outcome=kind) for n, kind in enumerate(kinds)]
    found = measured(samples).counts
    assert (found.measured, found.counted, found.ok, found.errors, found.warmup) == (6, 4, 1, 3, 1)
    assert found.errors_by_kind == {"rate_limited": 2, "stalled": 1}
    assert found.not_counted == {"cut_off": 1, "disconnected": 1}
    assert found.error_share == 0.75
    assert found.error_share_low == pytest.approx(0.194, abs=1e-3)
    assert found.error_share_high == pytest.approx(0.994, abs=1e-3)


def test_percentiles_come_with_intervals_where_there_are_enough_requests() -> None:
    few, many = (measured(steady(np.linspace(0.1, 0.9, count), rate=100)).latencies["ttft"] for count in (550, 900))
    assert tuple(one.level for one in few.percentiles) == LEVELS
    assert (few.count, many.count) == (50, 400)
    assert few.at(0.95).high is None
    assert few.at(0.5).high is not None
    assert many.at(0.99).high is not None
    for one in many.percentiles:
        assert one.low is not None
        assert one.high is not None
        assert one.low <= one.value <= one.high


def test_chunks_may_carry_several_tokens() -> None:
    found = measured([request(output_tokens=40), request(1, output_tokens=None, counted_tokens=20)]).tokens
    assert (found.output, found.prompt, found.without_usage, found.per_chunk) == (60, 200, 1, 3.0)


def test_stages_are_those_that_the_server_tells_with_their_share_of_the_slow_tail() -> None:
    samples = [request(n, 10 + n / 10, stages_s={"queue": 0.01, "generator": 0.5}) for n in range(95)]
    samples += [request(95 + n, 30, ttft=3, stages_s={"queue": 2.5}) for n in range(6)]
    found = measured([*samples, request(101, 31)]).stages
    assert sorted(found) == ["generator", "queue"]
    assert (found["queue"].milliseconds.count, found["queue"].slow_tail_ms) == (101, pytest.approx(2_500))
    assert (found["generator"].milliseconds.count, found["generator"].slow_tail_ms) == (95, None)


def test_a_hundred_thousand_requests_take_two_seconds_at_most() -> None:
    samples = [
        Sample(n, due, due, due + 1, "ok", True, [due + 0.3, due + 0.5, due + 0.9], output_tokens=3)
        for n, due in enumerate((np.arange(100_000) / 100).tolist())
    ]
    plan = planned(samples)
    given = scenario(duration=1_000, warmup=0)
    began = time.process_time()
    assert judge(given, samples, planned_s=plan).verdict == "PASS"
    assert time.process_time() - began <= 2
