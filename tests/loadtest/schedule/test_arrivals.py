"""When requests are due: each process against what defines it, drawn from many seeds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from slipstream.loadtest.scenario import Constant, Gamma, Poisson, Ramp
from slipstream.loadtest.schedule.arrivals import MOST_ARRIVALS, TooManyArrivals, draw_offsets

seeds = st.integers(0, 2**32)
rates = st.floats(0.2, 500)
quick = settings(max_examples=30, deadline=None)
Process = Constant | Poisson | Gamma | Ramp
processes = st.one_of(
    st.builds(Constant, kind=st.just("constant"), rate=rates),
    st.builds(Poisson, kind=st.just("poisson"), rate=rates),
    st.builds(Gamma, kind=st.just("gamma"), rate=rates, burstiness=st.floats(0.05, 50)),
    st.builds(Ramp, kind=st.just("ramp"), start=st.floats(0, 500), end=rates),
)


def offsets(
    process: Process, seed: int = 1, warmup: float = 0.0, duration: float | None = None, count: int | None = None
) -> NDArray[np.float64]:
    return draw_offsets(process, seed, warmup_s=warmup, duration_s=duration, count=count)


@quick
@given(processes, seeds, st.floats(0, 5), st.floats(0.1, 20))
def test_moments_are_sorted_and_within_the_run(process: Process, seed: int, warmup: float, duration: float) -> None:
    drawn = offsets(process, seed, warmup, duration)
    assert (np.diff(drawn) >= 0).all()
    assert ((drawn >= 0) & (drawn < warmup + duration)).all()


@quick
@given(processes, seeds)
def test_the_same_seed_draws_the_same_and_another_does_not(process: Process, seed: int) -> None:
    drawn = offsets(process, seed, duration=50.0)
    assert drawn.tobytes() == offsets(process, seed, duration=50.0).tobytes()
    if process.kind != "constant" and len(drawn) > 3:
        assert drawn.tobytes() != offsets(process, seed + 1, duration=50.0).tobytes()


@quick
@given(processes, seeds, st.integers(1, 9000))
def test_a_count_takes_the_first_of_the_same_moments(process: Process, seed: int, count: int) -> None:
    """A ramp has nothing but a duration to go over; the others may have no end but their count."""
    all_of_them = offsets(process, seed, duration=40.0)
    assert offsets(process, seed, duration=40.0, count=count).tolist() == all_of_them[:count].tolist()
    if process.kind != "ramp":
        endless = offsets(process, seed, count=count)
        assert len(endless) == count
        assert endless[: len(all_of_them)].tolist() == all_of_them[:count].tolist()


@quick
@given(rates, st.floats(0.5, 60))
def test_a_constant_rate_begins_at_once_and_keeps_its_step(rate: float, duration: float) -> None:
    drawn = offsets(Constant(kind="constant", rate=rate), duration=duration)
    assert drawn[0] == 0
    assert np.allclose(drawn, np.arange(len(drawn)) / rate, atol=1e-6)
    assert abs(len(drawn) - rate * duration) <= 1 + rate * 1e-6  # moments are whole microseconds


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds, rates)
def test_poisson_gaps_are_exponential(seed: int, rate: float) -> None:
    """Kolmogorov's distance of 20,000 gaps; 0.02 has a chance of 1e-6."""
    gaps = np.sort(np.diff(offsets(Poisson(kind="poisson", rate=rate), seed, count=20_001)))
    assert gaps.mean() == pytest.approx(1 / rate, rel=0.04)
    ranks = np.arange(1, len(gaps) + 1) / len(gaps)
    assert np.abs(1 - np.exp(-rate * gaps) - ranks).max() < 0.02


def test_poisson_counts_vary_as_much_as_their_mean() -> None:
    """A schedule made to hit its rate would pass a test of the mean, and hide the bursts of independent clients."""
    counts = [len(offsets(Poisson(kind="poisson", rate=5), seed, duration=40.0)) for seed in range(600)]
    assert np.mean(counts) == pytest.approx(200, rel=0.02)
    assert np.var(counts) == pytest.approx(200, rel=0.25)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds, st.sampled_from([0.1, 0.25, 0.5, 1.0, 4.0, 25.0]))
def test_gamma_gaps_keep_the_rate_and_vary_as_their_burstiness_says(seed: int, burstiness: float) -> None:
    gaps = np.diff(offsets(Gamma(kind="gamma", rate=10, burstiness=burstiness), seed, count=60_001))
    assert gaps.mean() == pytest.approx(0.1, rel=0.06)
    assert gaps.std() / gaps.mean() == pytest.approx(burstiness**-0.5, rel=0.08)


def test_a_gamma_of_burstiness_one_is_the_poisson_process() -> None:
    gamma, poisson = Gamma(kind="gamma", rate=3, burstiness=1), Poisson(kind="poisson", rate=3)
    assert offsets(gamma, 5, count=100).tolist() == offsets(poisson, 5, count=100).tolist()


@pytest.mark.parametrize(("start", "end"), [(0.0, 20.0), (20.0, 2.0), (5.0, 5.0), (1.0, 40.0), (5.0, 5.0000001)])
def test_a_ramp_has_in_every_part_of_the_run_as_many_requests_as_its_rate_says(start: float, end: float) -> None:
    """In each tenth: mean and variance of a Poisson count with the integral of the rate, over 400 seeds."""
    ramp, duration = Ramp(kind="ramp", start=start, end=end), 50.0
    edges = np.linspace(0, duration, 11)
    counts = np.array([np.histogram(offsets(ramp, seed, duration=duration), edges)[0] for seed in range(400)])
    integral = np.diff(start * edges + (end - start) * edges**2 / (2 * duration))
    assert np.abs(counts.mean(axis=0) - integral).max() < 5 * math.sqrt(integral.max() / 400)
    assert counts.var(axis=0) == pytest.approx(integral, rel=0.5)


def test_a_ramp_holds_its_first_rate_during_the_warm_up() -> None:
    ramp = Ramp(kind="ramp", start=4.0, end=40.0)
    drawn = [offsets(ramp, seed, warmup=10.0, duration=20.0) for seed in range(200)]
    assert np.mean([(one < 10).sum() for one in drawn]) == pytest.approx(40, rel=0.05)
    assert np.mean([(one >= 10).sum() for one in drawn]) == pytest.approx(22 * 20, rel=0.02)


def test_a_ramp_from_nothing_sends_nothing_during_the_warm_up() -> None:
    assert offsets(Ramp(kind="ramp", start=0, end=9), warmup=10.0, duration=20.0).min() >= 10


@pytest.mark.parametrize(
    "process",
    [
        Poisson(kind="poisson", rate=100_000),
        Constant(kind="constant", rate=100_000),
        Gamma(kind="gamma", rate=1, burstiness=5e-324),  # all gaps are 0: such a process never ends
    ],
)
def test_more_requests_than_a_plan_holds_are_refused(process: Process) -> None:
    with pytest.raises(TooManyArrivals) as caught:
        offsets(process, duration=3600.0)
    assert "1,000,000" in caught.value.message
    assert caught.value.remedy


def test_as_many_as_a_plan_holds_are_drawn() -> None:
    assert len(offsets(Constant(kind="constant", rate=100_000), count=MOST_ARRIVALS)) == MOST_ARRIVALS
    with pytest.raises(TooManyArrivals):
        offsets(Constant(kind="constant", rate=100_000), count=MOST_ARRIVALS + 1)


@pytest.mark.parametrize("rate", [1e-9, 1e-304, 5e-324])
def test_a_rate_too_low_for_the_run_draws_nothing(rate: float) -> None:
    assert offsets(Poisson(kind="poisson", rate=rate), duration=1.0).tolist() == []
    assert offsets(Ramp(kind="ramp", start=rate, end=rate), duration=1.0).tolist() == []


def test_a_ramp_from_next_to_nothing_is_one_from_nothing() -> None:
    """Hypothesis found the overflow."""
    drawn = [offsets(Ramp(kind="ramp", start=start, end=1), duration=50.0).tolist() for start in (0, 2e-309)]
    assert drawn[0] == drawn[1] != []
