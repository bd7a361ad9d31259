"""Whether queue and TTFT grew together."""

from dataclasses import replace

import numpy as np
import pytest

from slipstream.loadtest.capacity.saturation import FEWEST, grown, growth
from slipstream.loadtest.results.columns import Columns
from tests.loadtest.capacity.queueing import served
from tests.loadtest.simulated import steady


def saturated(load: float, slots: int, runs: int = 40) -> float:
    found = [growth(Columns.of(served(load, slots, seed))) for seed in range(runs)]
    return float(np.mean([one is not None and one.is_saturated for one in found]))


@pytest.mark.parametrize("slots", [1, 4])
def test_a_server_that_keeps_up_is_not_saturated(slots: int) -> None:
    assert saturated(0.8, slots) <= 0.05


@pytest.mark.parametrize("slots", [1, 4])
def test_a_server_that_falls_behind_is(slots: int) -> None:
    assert saturated(1.6, slots) >= 0.95


def test_what_was_in_flight_and_waited_for_is_told() -> None:
    found = growth(Columns.of(served(2.0, 4, 1)))
    assert found is not None
    assert found.last_in_flight > 2 * found.first_in_flight
    assert found.last_ttft_s > 2 * found.first_ttft_s


def test_a_queue_that_grows_without_making_anybody_wait_is_no_saturation() -> None:
    rising = np.arange(200.0)
    assert grown(rising, rising).is_saturated
    assert not grown(rising, np.full(200, 0.3)).is_saturated
    assert not grown(np.full(200, 3.0), rising).is_saturated


def test_growth_that_is_sure_but_small_is_none() -> None:
    assert not grown(np.linspace(10, 12, 200), np.linspace(0.3, 0.35, 200)).is_saturated


def test_few_requests_tell_nothing() -> None:
    assert growth(Columns.of(steady([0.2] * (FEWEST + 49)))) is None  # the first 50 are the warm-up's
    assert growth(Columns.of(steady([0.2] * (FEWEST + 50)))) is not None


def test_what_was_cut_off_behind_others_does_not_hide_the_growth() -> None:
    """Of a run that was stopped, the waits that are known last are the short ones of those that were lucky."""
    whole = served(1.6, 4, 3)
    end_s = whole[200].sent_s
    stopped = [
        one if one.end_s <= end_s else replace(one, outcome="cut_off", end_s=end_s, chunk_s=[]) for one in whole[:200]
    ]
    lucky = [replace(one, chunk_s=[one.sent_s + 0.1, one.sent_s + 0.2]) for one in stopped[-8:]]
    found = growth(Columns.of([*stopped[:-8], *lucky]))
    assert found is not None
    assert found.is_saturated
