"""Requests that wait in one queue say less than as many that do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.loadtest.statistics.dependence import FEWEST, dependence, ranks
from slipstream.loadtest.statistics.order import Floats


def waves(count: int, correlation: float, seed: int = 1) -> Floats:
    """A first-order autoregression, of which the effective number is n (1 - r) / (1 + r)."""
    rng = np.random.default_rng(seed)
    values = np.zeros(count)
    for place in range(1, count):
        values[place] = correlation * values[place - 1] + rng.normal()
    return values


@pytest.mark.parametrize("values", [np.zeros(0), np.arange(FEWEST - 1.0), np.full(500, 3.0)])
def test_too_few_values_or_all_alike_say_nothing(values: Floats) -> None:
    assert dependence(values) is None


@pytest.mark.parametrize("correlation", [0.3, 0.6, 0.9])
def test_the_effective_number_of_an_autoregression_is_known(correlation: float) -> None:
    found = dependence(waves(20_000, correlation))
    assert found is not None
    assert found.is_large
    assert found.lag_1 == pytest.approx(correlation, abs=0.03)
    assert found.effective == pytest.approx(20_000 * (1 - correlation) / (1 + correlation), rel=0.2)


def test_of_a_short_run_it_is_rather_too_small_than_too_large() -> None:
    found = [dependence(waves(150, 0.8, seed)) for seed in range(200)]
    true = 150 * (1 - 0.8) / (1 + 0.8)
    assert np.mean([one is not None and one.effective <= true for one in found]) >= 0.7


@pytest.mark.parametrize("count", [FEWEST, 150])
def test_a_run_that_only_rises_says_as_much_as_one_value_at_least(count: int) -> None:
    found = dependence(np.arange(float(count)))
    assert found is not None
    assert 1 <= found.effective < 4


def test_independent_values_are_rarely_called_dependent() -> None:
    rng = np.random.default_rng(2)
    found = [dependence(rng.exponential(size=200)) for _ in range(500)]
    assert np.mean([one is not None and one.is_large for one in found]) <= 0.02
    assert np.median([one.effective for one in found if one is not None]) >= 150


def test_values_that_take_turns_are_not_worth_more_than_their_number() -> None:
    found = dependence(np.tile([0.0, 1.0], 100))
    assert found is not None
    assert found.effective == 200
    assert not found.is_large


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=FEWEST, max_size=200))
def test_the_effective_number_lies_between_none_and_all(values: list[float]) -> None:
    found = dependence(np.array(values))
    assert found is None or (1 <= found.effective <= len(values) and -1 <= found.lag_1 <= 1)


def test_one_extreme_latency_does_not_hide_the_waves() -> None:
    values = waves(2_000, 0.8)
    values[1_000] = 1e6
    plain, ranked = dependence(values), dependence(ranks(values))
    assert plain is not None
    assert ranked is not None
    assert not plain.is_large
    assert ranked.is_large


def test_equal_values_share_their_rank_and_forever_is_the_last() -> None:
    assert ranks(np.array([3.0, 1.0, 1.0, np.inf])).tolist() == [3.0, 1.5, 1.5, 4.0]
