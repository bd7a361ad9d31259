"""The difference of pairs of runs, and how often its interval holds the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.loadtest.statistics.bootstrap import fewest_pairs, paired_effect

numbers = st.floats(0.1, 1e4)


@pytest.mark.parametrize(
    ("before", "after"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, float("nan")], [1.0, 2.0]), ([1.0], [float("inf")])]
)
def test_what_are_no_pairs_of_numbers_is_refused(before: list[float], after: list[float]) -> None:
    with pytest.raises(ValueError):
        paired_effect(before, after)


def test_too_few_pairs_have_an_effect_and_no_interval() -> None:
    assert fewest_pairs(0.95) == 6
    found = paired_effect([10.0] * 5, [11.0, 11.5, 10.5, 11.0, 11.0])
    assert (found.value, found.low, found.high, found.pairs) == (1.0, None, None, 5)
    assert paired_effect([10.0] * 6, [11.0, 11.5, 10.5, 11.0, 11.0, 11.0]).low is not None


def test_a_share_of_nothing_is_no_number() -> None:
    found = paired_effect([0.0] * 8, [1.0] * 8, share=True)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert paired_effect([0.0] * 8, [1.0] * 8).value == 1.0


def test_a_share_is_that_of_the_means() -> None:
    found = paired_effect([100.0, 200.0] * 4, [110.0, 220.0] * 4, share=True)
    assert found.value == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.1)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(numbers, numbers), min_size=6, max_size=30))
def test_the_same_runs_have_the_same_interval_around_their_effect(pairs: list[tuple[float, float]]) -> None:
    before, after = ([pair[side] for pair in pairs] for side in (0, 1))
    found = paired_effect(before, after)
    assert found == paired_effect(before, after)
    assert found.low is not None
    assert found.high is not None
    assert found.value is not None
    slack = 1e-9 * max(*before, *after)
    assert found.low - slack <= found.value <= found.high + slack
    swapped = paired_effect(after, before)
    assert swapped.value == pytest.approx(-found.value, abs=slack)


def test_pairing_takes_out_what_both_runs_of_a_pair_share() -> None:
    rng = np.random.default_rng(4)
    machine = rng.normal(100, 30, 12)
    found = paired_effect((machine + rng.normal(0, 1, 12)).tolist(), (machine + 5 + rng.normal(0, 1, 12)).tolist())
    assert found.low is not None
    assert found.high is not None
    assert 3 < found.low < 5 < found.high < 7


@pytest.mark.parametrize("pairs", [6, 10, 20])
def test_intervals_cover_the_true_difference_about_as_often_as_they_say(
    pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipstream.loadtest.statistics.bootstrap.RESAMPLES", 1_999)  # 9,999 differ by the third digit
    rng = np.random.default_rng(pairs)
    covered = 0
    for _ in range(600):
        before = rng.normal(100, 20, pairs)
        found = paired_effect(before.tolist(), (before + 3 + rng.normal(0, 2, pairs)).tolist())
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 3 <= found.high
    assert 0.91 <= covered / 600 <= 0.98


def test_where_nothing_differs_a_difference_is_rarely_found() -> None:
    rng = np.random.default_rng(9)
    found = [paired_effect(rng.normal(50, 5, 8).tolist(), rng.normal(50, 5, 8).tolist()) for _ in range(200)]
    assert np.mean([one.low is not None and one.low > 0 for one in found]) <= 0.06
