"""Fewer points, the same picture."""

import numpy as np

from slipstream.loadtest.report.drawing.thinning import thin_points, thin_steps


def test_few_points_are_all_kept_and_those_that_are_no_numbers_never() -> None:
    x, y = np.array([0.0, 1.0, np.nan, 3.0]), np.array([1.0, np.inf, 1.0, 2.0])
    assert thin_points(x, y).tolist() == [0, 3]
    assert thin_points(np.zeros(0), np.zeros(0)).tolist() == []


def test_of_many_points_the_extremes_of_every_moment_stay() -> None:
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 1000, 100_000))
    y = rng.lognormal(5, 0.3, 100_000)
    spikes = np.arange(2_500, 100_000, 5_000)
    y[spikes] = 50_000 + np.arange(20)
    y[77] = 0.001
    kept = thin_points(x, y, 1500)
    assert len(kept) <= 1500
    assert set(spikes.tolist()) <= set(kept.tolist())
    assert {77, int(y.argmax()), int(x.argmin()), int(x.argmax())} <= set(kept.tolist())


def test_points_at_one_place_are_no_division_by_zero() -> None:
    assert len(thin_points(np.ones(5000), np.ones(5000), 600)) <= 600


def test_a_distribution_keeps_both_ends_and_its_tail_finely() -> None:
    kept = thin_steps(100_000)
    assert kept[0] == 0
    assert kept[-1] == 99_999
    assert len(kept) <= 240
    assert (kept >= 99_900).sum() >= 20
    assert thin_steps(3).tolist() == [0, 1, 2]
