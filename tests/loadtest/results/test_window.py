"""Which seconds are measured, and rates that neither end of a run makes larger or smaller."""

import numpy as np
import pytest

from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.window import Rates, Window, measured_window, rates, whole
from slipstream.loadtest.sample import Sample
from slipstream.loadtest.scenario import Scenario
from tests.loadtest.simulated import failed, request, scenario, steady


def window(samples: list[Sample], given: Scenario, stopped: float | None = None) -> tuple[float, float]:
    found = measured_window(given, Columns.of(samples), stopped)
    return found.start_s, found.end_s


def rated(samples: list[Sample], start: float, end: float) -> Rates:
    found = rates(Window(start, end), Columns.of(samples), None)
    assert found is not None
    return found


# --- the window -------------------------------------------------------------------------------------------------------


def test_a_run_of_a_given_duration_is_measured_from_the_warm_up_to_its_end_whatever_came_last() -> None:
    assert window(steady([0.2] * 640), scenario()) == (5, 65)


def test_a_run_of_a_number_of_requests_ends_with_its_last_arrival() -> None:
    assert window(steady([0.2] * 101), scenario(requests=101)) == (5, 10)
    assert window(steady([0.2] * 101), scenario(requests=101, duration=None)) == (5, 10)


def test_a_trace_ends_with_its_last_arrival() -> None:
    trace = scenario(arrivals={"kind": "replay", "trace": "x.jsonl"}, duration=None)
    assert window(steady([0.2] * 101), trace) == (5, 10)


def test_a_run_that_was_stopped_ends_there() -> None:
    assert window(steady([0.2] * 300), scenario(), stopped=30.5) == (5, 30.5)


def test_what_is_due_all_at_once_is_measured_until_the_last_has_ended() -> None:
    burst = [request(n, 5.0, lag=0.0, ttft=n / 10, gaps=[]) for n in range(11)]
    assert window(burst, scenario(requests=11, duration=None)) == (5, 6)


def test_a_run_without_measured_requests_has_no_window_and_no_rates() -> None:
    found = measured_window(scenario(), Columns.of([request(due=1.0)]))
    assert found.length_s == 0
    assert rates(found, Columns.of([request(due=1.0)]), None) is None
    assert whole(found, Columns.of([failed()])) is None


# --- rates ------------------------------------------------------------------------------------------------------------


def test_a_steady_rate_is_found_exactly_though_requests_overlap_both_ends() -> None:
    """10 requests per second that take 3 s each: 30 are in flight when the window begins and when it ends."""
    samples = steady([0.3] * 700, lag=0.0, gaps=[0.3] * 9)
    found = rated(samples, 5, 65)
    assert found.arrivals_per_s == pytest.approx(10)
    assert found.requests_per_s == pytest.approx(10, abs=0.02)
    assert found.output_tokens_per_s == pytest.approx(100, abs=0.2)
    assert found.prompt_tokens_per_s == pytest.approx(1_000, abs=2)
    assert found.in_flight == pytest.approx(30, abs=0.1)
    assert found.most_in_flight in (30, 31)
    assert found.goodput_per_s is None


def test_the_other_definition_is_smaller_by_the_slow_end() -> None:
    samples = steady([0.3] * 650, lag=0.0, gaps=[0.3] * 9)
    found = whole(Window(5, 65), Columns.of(samples))
    assert found is not None
    assert found.length_s == pytest.approx(62.9)
    assert found.requests_per_s == pytest.approx(600 / 62.9)
    assert found.output_tokens_per_s == pytest.approx(6_000 / 62.9)


def test_a_server_that_falls_behind_is_not_credited_with_what_it_does_after_the_arrivals() -> None:
    """10 arrive per second, 5 are served."""
    samples = [request(n, n / 10, lag=0.0, ttft=n / 5 - n / 10, gaps=[]) for n in range(700)]
    assert rated(samples, 5, 65).requests_per_s == pytest.approx(5, abs=0.05)


def test_one_user_without_a_pause_does_as_many_requests_as_fit() -> None:
    loop = [request(n, 5 + n / 2, lag=0.0, ttft=0.5, gaps=[]) for n in range(9)]
    given = scenario(arrivals={"kind": "closed", "users": 1}, requests=9, duration=None)
    assert window(loop, given) == (5, 9)
    assert rated(loop, 5, 9).requests_per_s == pytest.approx(2)


def test_goodput_counts_what_was_good_and_errors_are_none() -> None:
    samples = [request(0, 10), request(1, 11, ttft=3), failed(2, 12), request(3, 64.9, ttft=3)]
    found = rates(Window(5, 65), Columns.of(samples), np.array([True, False, False, False]))
    assert found is not None
    assert found.goodput_per_s == pytest.approx(1 / 60)
    assert found.requests_per_s == pytest.approx(2 / 60)
    assert found.errors_per_s == pytest.approx(1 / 60)


def test_tokens_are_counted_when_they_came_and_without_chunks_at_the_end() -> None:
    straddling = request(0, 63.0, lag=0.0, ttft=1.5, gaps=[0.25] * 3, output_tokens=40)  # at 64.5, 64.75, 65.0, 65.25
    assert rated([straddling], 5, 65).output_tokens_per_s == pytest.approx(30 / 60)
    whole_answer = request(0, 60.0, chunk_s=[], end_s=61.0, output_tokens=40)
    assert rated([whole_answer], 5, 65).output_tokens_per_s == pytest.approx(40 / 60)
    unknown = request(0, 60.0, output_tokens=None, counted_tokens=None)
    assert rated([unknown], 5, 65).output_tokens_per_s == 0


def test_what_was_in_flight_before_and_after_the_window_counts_for_its_time_inside() -> None:
    long = request(0, 1.0, lag=0.0, chunk_s=[], end_s=99.0)
    short = request(1, 20.0, lag=0.0, chunk_s=[], end_s=50.0)
    found = rated([long, short], 5, 65)
    assert (found.in_flight, found.most_in_flight) == (pytest.approx(1.5), 2)
