"""Quantiles are values that were measured, agree with verdicts, and their intervals cover as often as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.loadtest.statistics.binomial import decide
from slipstream.loadtest.statistics.order import (
    Floats,
    clustered_percentile,
    interval_ranks,
    percentile,
    quantile_rank,
)

levels = st.sampled_from([0.5, 0.9, 0.95, 0.99])
latencies = st.lists(st.floats(0, 1e4), min_size=1, max_size=300).map(lambda values: np.sort(np.array(values)))


@settings(deadline=None, max_examples=50)
@given(values=latencies, level=levels)
def test_a_quantile_is_the_smallest_value_that_enough_values_do_not_exceed(values: Floats, level: float) -> None:
    found = values[quantile_rank(len(values), level) - 1]
    assert (values <= found).sum() >= level * len(values) - 1e-6
    smaller = values[values < found]
    assert not len(smaller) or (values <= smaller[-1]).sum() < level * len(values)


@pytest.mark.parametrize(
    ("count", "level", "rank"), [(1, 0.5, 1), (1, 0.99, 1), (20, 0.95, 19), (100, 0.99, 99), (3, 0.5, 2)]
)
def test_the_rank_is_no_victim_of_binary_fractions(count: int, level: float, rank: int) -> None:
    assert quantile_rank(count, level) == rank


@settings(deadline=None, max_examples=50)
@given(values=latencies, level=levels, bound=st.floats(0, 1e4), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_one_sided_bounds_and_verdicts_never_disagree(
    values: Floats, level: float, bound: float, confidence: float
) -> None:
    lower, upper = interval_ranks(len(values), level, 1 - confidence)
    verdict = decide(int((values > bound).sum()), len(values), level, confidence)
    assert (upper is not None and values[upper - 1] <= bound) == (verdict == "PASS")
    assert (lower is not None and values[lower - 1] > bound) == (verdict == "FAIL")


@pytest.mark.parametrize(("count", "level", "ends"), [(5, 0.5, (None, None)), (6, 0.5, (1, 6)), (58, 0.95, (50, None))])
def test_too_few_values_leave_an_end_open(count: int, level: float, ends: tuple[int | None, int | None]) -> None:
    lower, upper = interval_ranks(count, level, 0.025)
    assert (lower is None, upper is None) == (ends[0] is None, ends[1] is None)


def test_p95_has_an_upper_bound_from_72_values_on_and_p99_from_368() -> None:
    """0.95 ** 72 and 0.99 ** 368 are the first powers below 0.025."""
    assert [interval_ranks(count, 0.95, 0.025)[1] for count in (71, 72)] == [None, 72]
    assert [interval_ranks(count, 0.99, 0.025)[1] for count in (367, 368)] == [None, 368]


def test_a_single_value_is_every_quantile_and_bounds_none() -> None:
    found = percentile(np.array([7.0]), 0.5, 0.95)
    assert (found.value, found.low, found.high) == (7.0, None, None)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("kind", ["skewed", "whole milliseconds"])
def test_intervals_cover_the_true_quantile_in_at_least_95_percent_of_2000_runs(level: float, kind: str) -> None:
    rng = np.random.default_rng(11)
    count = 500
    runs = np.sort(rng.lognormal(3, 1, (2_000, count)), axis=1)
    true = np.exp(3 + {0.5: 0.0, 0.9: 1.2815516, 0.95: 1.6448536, 0.99: 2.3263479}[level])
    if kind == "whole milliseconds":  # ties only widen
        runs, true = np.ceil(runs), np.ceil(true)
    lower, upper = interval_ranks(count, level, 0.025)
    assert lower is not None
    above = np.full(2_000, True) if upper is None else runs[:, upper - 1] >= true
    covered = ((runs[:, lower - 1] <= true) & above).mean()
    assert covered >= 0.95 - 2.33 * (0.05 * 0.95 / 2_000) ** 0.5
    assert kind != "skewed" or covered <= 0.99  # and they are no wider than they need to be


# --- values that come in groups ---------------------------------------------------------------------------------------


def grouped(rng: np.random.Generator, requests: int, gaps: int) -> tuple[Floats, np.ndarray]:
    """Gaps of requests of which some are slow throughout, sorted, and whose they are."""
    speed = rng.lognormal(0, 1, requests)
    values = (speed[:, None] * rng.uniform(0.9, 1.1, (requests, gaps))).ravel()
    owners = np.repeat(np.arange(requests), gaps)
    order = np.argsort(values)
    return values[order], owners[order]


def test_intervals_of_gaps_count_requests_and_not_gaps() -> None:
    rng = np.random.default_rng(5)
    everything, _ = grouped(np.random.default_rng(6), 200_000, 1)
    true = everything[quantile_rank(len(everything), 0.9) - 1]
    clustered = naive = 0
    for _ in range(400):
        values, owners = grouped(rng, 150, 20)
        honest, simple = clustered_percentile(values, owners, 0.9, 0.95), percentile(values, 0.9, 0.95)
        clustered += bool((honest.low or 0) <= true <= (honest.high or np.inf))
        naive += bool((simple.low or 0) <= true <= (simple.high or np.inf))
    assert clustered / 400 >= 0.93
    assert naive / 400 <= 0.6


def test_gaps_that_do_not_depend_on_each_other_have_the_usual_interval() -> None:
    rng = np.random.default_rng(8)
    values = np.sort(rng.lognormal(size=3_000))
    owners = rng.permutation(np.repeat(np.arange(300), 10))
    usual, found = percentile(values, 0.95, 0.95), clustered_percentile(values, owners, 0.95, 0.95)
    assert found.value == usual.value
    assert found.low == pytest.approx(usual.low, rel=0.05)
    assert found.high == pytest.approx(usual.high, rel=0.05)


def test_the_gaps_of_one_request_bound_nothing() -> None:
    found = clustered_percentile(np.arange(1.0, 501.0), np.zeros(500, np.int64), 0.5, 0.95)
    assert (found.value, found.low, found.high) == (250.0, None, None)


def test_gaps_that_are_all_alike_do_not_divide_by_zero() -> None:
    found = clustered_percentile(np.ones(500), np.repeat(np.arange(50), 10), 0.99, 0.95)
    assert found.value == 1.0
