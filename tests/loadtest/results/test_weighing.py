"""Requests count for what they say: near a queue's limit, verdicts by plain counting are wrong far too often."""

from functools import cache

import numpy as np
import pytest

from slipstream.loadtest.results.weighing import ROOM, weigh
from slipstream.loadtest.statistics.binomial import Verdict, decide
from slipstream.loadtest.statistics.dependence import dependence, ranks
from slipstream.loadtest.statistics.order import Floats
from tests.loadtest.queues import FLOOR, served

RUNS = 400
SLACK = 2.33 * (0.05 * 0.95 / RUNS) ** 0.5


def ours(values: Floats, bound: float) -> Verdict:
    alike = weigh(values, bound, 0.95)
    worth = alike.effective / len(values) if alike else 1.0
    return decide(int((values > bound).sum()), len(values), 0.95, 0.95, worth)


def plain(values: Floats, bound: float) -> Verdict:
    return decide(int((values > bound).sum()), len(values), 0.95, 0.95)


@cache
def bound_at(level: float, load: float) -> float:
    """The quantile of a long run of one slot."""
    return float(np.quantile(served(load, 1, 400, 3_000, 2_000, np.random.default_rng(5)).ttft, level))


def runs_at(load: float, requests: int) -> Floats:
    return served(load, 1, RUNS, requests, 2_000, np.random.default_rng(6)).ttft


@pytest.mark.parametrize(("load", "requests"), [(0.8, 300), (0.9, 100), (0.9, 300)])
def test_a_claim_that_is_false_of_a_queue_is_rarely_proven(load: float, requests: int) -> None:
    runs, bound = runs_at(load, requests), bound_at(0.948, load)
    assert np.mean([plain(values, bound) == "PASS" for values in runs]) > 0.4
    assert np.mean([ours(values, bound) == "PASS" for values in runs]) <= 0.05 + SLACK


def test_a_claim_that_is_true_of_a_queue_is_rarely_refuted() -> None:
    runs, bound = runs_at(0.8, 300), bound_at(0.952, 0.8)
    assert np.mean([plain(values, bound) == "FAIL" for values in runs]) > 0.15
    assert np.mean([ours(values, bound) == "FAIL" for values in runs]) <= 0.05 + SLACK


def test_what_is_far_from_its_bound_is_settled_in_spite_of_a_queue() -> None:
    runs, p95 = runs_at(0.5, 1_000), bound_at(0.95, 0.5)
    assert np.mean([ours(values, 2 * p95) == "PASS" for values in runs]) > 0.9
    assert np.mean([ours(values, bound_at(0.85, 0.5)) == "FAIL" for values in runs]) > 0.95


@pytest.mark.parametrize("requests", [100, 300])
def test_independent_requests_err_in_at_most_a_twentieth_of_2000_runs_and_settle_as_much(requests: int) -> None:
    runs = np.random.default_rng(7).exponential(size=(2_000, requests))
    bound = float(-np.log(0.05))
    slack = 2.33 * (0.05 * 0.95 / 2_000) ** 0.5
    assert np.mean([ours(values, bound) == "PASS" for values in runs]) <= 0.05 + slack
    assert np.mean([ours(values, bound) == "FAIL" for values in runs]) <= 0.05 + slack
    settled = [np.mean([judge(values, 1.5 * bound) == "PASS" for values in runs[:RUNS]]) for judge in (plain, ours)]
    assert settled[1] >= settled[0] - 0.03


def test_a_drift_far_below_the_bound_is_no_queue_and_one_near_it_may_be() -> None:
    drift = 20 + 20 * (np.arange(208) // 15 % 2.0)
    room = 40 + ROOM * 20
    assert weigh(drift, room, 0.95) is None
    assert weigh(drift, room - 1, 0.95) is not None
    assert weigh(drift + 300, 300 + room, 0.95) is None  # how long all take has no part in it
    assert weigh(drift, room, 0.95, certain_misses=1) is not None
    assert weigh(np.append(drift, np.inf), room, 0.95) is not None


def test_of_misses_and_latencies_those_count_that_are_more_alike() -> None:
    stalls = np.arange(800) % 80 < 3
    for half in (5, 100):  # requests, after which the latencies turn
        values = 20.0 + np.arange(800) // half % 2 + np.where(stalls, 400.0, 0.0)
        both = [dependence((values > 300) * 1.0), dependence(ranks(values))]
        assert all(one is not None and one.is_large for one in both)
        found = weigh(values, 300, 0.95)
        assert found is not None
        assert found.effective == min(one.effective for one in both if one is not None)


def test_a_short_run_before_the_queue_came_is_not_taken_for_one_without() -> None:
    """At 95% load the waits of 100 requests say nothing of those that come once an hour."""
    runs, bound = runs_at(0.95, 100), bound_at(0.948, 0.95)
    quiet = [values for values in runs if (values <= bound / 2).all()]
    assert len(quiet) > RUNS / 4
    assert np.mean([plain(values, bound) == "PASS" for values in quiet]) > 0.95
    assert np.mean([ours(values, bound) == "PASS" for values in quiet]) <= 0.05


@pytest.mark.parametrize("values", [[], [1.0], [np.inf], [1.0] * 100, [np.inf] * 100])
def test_nothing_one_and_all_alike_count_as_they_are(values: list[float]) -> None:
    assert weigh(np.array(values, np.float64), 5.0, 0.95) is None


def test_who_does_not_wait_takes_the_floor() -> None:
    """Of the simulation itself: at hardly any load nobody waits, and above the capacity the queue grows."""
    assert served(0.001, 4, 3, 50, 0, np.random.default_rng(1)).ttft.tolist() == [[FLOOR] * 50] * 3
    growing = served(np.array([0.5, 3.0]), 1, 2, 300, 0, np.random.default_rng(1)).ttft
    assert growing[0].max() < 20 < growing[1, -1]
