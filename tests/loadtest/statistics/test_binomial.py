"""Verdicts by exact binomial tests: known numbers, and what they err in over thousands of simulated runs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from slipstream.loadtest.statistics.binomial import MOST_REQUESTS, decide, outlook, requests_to_prove, share_interval

CLAIM = 0.95
CONFIDENCE = 0.95
RUNS = 2_000

levels = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 0.999])
confidences = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99])
sizes = st.integers(1, 3_000)


def verdicts(requests: int, quantile: float, confidence: float) -> np.ndarray:
    """The verdict for every number of misses [requests + 1]."""
    return np.array([decide(misses, requests, quantile, confidence) for misses in range(requests + 1)])


@pytest.mark.parametrize(("misses", "requests"), [(0, 59), (1, 93), (5, 208)])
def test_so_many_requests_prove_95_percent_at_a_confidence_of_95(misses: int, requests: int) -> None:
    assert requests_to_prove(misses, CLAIM, CONFIDENCE) == requests
    assert decide(misses, requests, CLAIM, CONFIDENCE) == "PASS"
    assert decide(misses, requests - 1, CLAIM, CONFIDENCE) == "INCONCLUSIVE"


def test_no_request_decides_nothing() -> None:
    assert decide(0, 0, CLAIM, CONFIDENCE) == "INCONCLUSIVE"


@pytest.mark.parametrize(("misses", "requests"), [(2, 2), (2, 6), (7, 59)])
def test_too_many_misses_refute_at_once(misses: int, requests: int) -> None:
    assert decide(misses, requests, CLAIM, CONFIDENCE) == "FAIL"
    assert decide(misses - 1, requests, CLAIM, CONFIDENCE) == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("misses", "requests", "quantile", "confidence", "verdict"),
    [
        (0, 2, 0.3, 0.91, "PASS"),
        (0, 1, 0.1, 0.9, "PASS"),
        (0, 2, 0.1, 0.99, "PASS"),
        (1, 1, 0.9, 0.9, "FAIL"),
        (0, 2, 0.5, 0.75, "PASS"),
    ],
)
def test_a_tail_that_is_exactly_alpha_decides(
    misses: int, requests: int, quantile: float, confidence: float, verdict: str
) -> None:
    """In binary, 1 - 0.9 is a little less than 0.1."""
    assert decide(misses, requests, quantile, confidence) == verdict


@settings(deadline=None, max_examples=50)
@given(requests=st.integers(1, 300), quantile=levels, confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_a_false_claim_is_proven_and_a_true_one_refuted_in_at_most_alpha_of_all_runs(
    requests: int, quantile: float, confidence: float
) -> None:
    """Exactly, over every possible number of misses; nearest to the claim it errs most often."""
    found = verdicts(requests, quantile, confidence)
    chances = binom.pmf(np.arange(requests + 1), requests, 1 - quantile)
    alpha = 1 - confidence + 1e-9
    assert chances[found == "PASS"].sum() <= alpha
    assert chances[found == "FAIL"].sum() <= alpha


@settings(deadline=None, max_examples=50)
@given(requests=st.integers(1, 300), quantile=levels, confidence=confidences)
def test_one_miss_more_is_never_better(requests: int, quantile: float, confidence: float) -> None:
    order = ["PASS", "INCONCLUSIVE", "FAIL"]
    places = [order.index(verdict) for verdict in verdicts(requests, quantile, confidence)]
    assert places == sorted(places)


@pytest.mark.parametrize("requests", [59, 93, 208, 500, 1_000, 5_000])
@pytest.mark.parametrize("distance", [0.0, 0.001, 0.01, 0.03])
def test_of_2000_simulated_runs_at_most_5_percent_get_a_wrong_verdict(requests: int, distance: float) -> None:
    rng = np.random.default_rng(requests)
    late = rng.exponential(size=(RUNS, requests)) if requests <= 1_000 else None

    def wrong(rate: float, verdict: str) -> float:
        """How often runs whose requests miss with ``rate`` get ``verdict``; latencies are exponential."""
        bound = -np.log(rate)
        counts = (late > bound).sum(axis=1) if late is not None else rng.binomial(requests, rate, RUNS)
        found, times = np.unique(counts, return_counts=True)
        return float(
            sum(n for t, n in zip(found, times, strict=True) if decide(t, requests, CLAIM, CONFIDENCE) == verdict)
        )

    chance = 2.33 * (0.05 * 0.95 / RUNS) ** 0.5  # of 2,000 runs, where the true share is 5%: once in 100 tests
    assert wrong(0.05 + max(distance, 1e-9), "PASS") / RUNS <= 0.05 + chance
    assert wrong(0.05 - distance, "FAIL") / RUNS <= 0.05 + chance


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), requests=sizes, quantile=levels)
def test_whatever_the_claim_a_simulated_run_is_rarely_judged_wrongly(seed: int, requests: int, quantile: float) -> None:
    counts = np.random.default_rng(seed).binomial(requests, 1 - quantile, RUNS)
    found, times = np.unique(counts, return_counts=True)
    judged = [decide(int(count), requests, quantile, CONFIDENCE) for count in found]
    for verdict in ("PASS", "FAIL"):
        wrong = sum(times[place] for place, one in enumerate(judged) if one == verdict)
        assert wrong / RUNS <= 0.05 + 5 * (0.05 * 0.95 / RUNS) ** 0.5  # five standard errors: not in millions of draws


@pytest.mark.parametrize("rate", [0.005, 0.02])
def test_a_claim_that_is_true_by_far_is_mostly_proven(rate: float) -> None:
    counts = np.random.default_rng(3).binomial(1_000, rate, RUNS)
    assert np.mean([decide(int(count), 1_000, CLAIM, CONFIDENCE) == "PASS" for count in counts]) > 0.95


@settings(deadline=None, max_examples=50)
@given(misses=st.integers(0, 40), requests=st.integers(1, 400), quantile=levels, confidence=confidences)
def test_the_least_number_without_a_miss_settles_and_one_fewer_does_not(
    misses: int, requests: int, quantile: float, confidence: float
) -> None:
    if misses > requests or decide(misses, requests, quantile, confidence) != "INCONCLUSIVE":
        return
    more = outlook(misses, requests, quantile, confidence).without_misses
    assert more is not None
    assert more > 0
    assert decide(misses, requests + more, quantile, confidence) == "PASS"
    assert decide(misses, requests + more - 1, quantile, confidence) != "PASS"


@settings(deadline=None, max_examples=50)
@given(misses=st.integers(1, 40), requests=st.integers(20, 400))
def test_what_is_expected_at_the_observed_rate_settles_it(misses: int, requests: int) -> None:
    if misses > requests or decide(misses, requests, CLAIM, CONFIDENCE) != "INCONCLUSIVE":
        return
    expected = outlook(misses, requests, CLAIM, CONFIDENCE)
    if expected.at_this_rate is None:
        assert misses / requests == pytest.approx(1 - CLAIM, rel=0.02)
        return
    total = requests + expected.at_this_rate
    assert decide(misses / requests * total, total, CLAIM, CONFIDENCE) == expected.towards
    assert decide(misses / requests * (total - 1), total - 1, CLAIM, CONFIDENCE) == "INCONCLUSIVE"


def test_misses_at_exactly_the_claimed_rate_cannot_settle_it() -> None:
    assert outlook(3, 60, CLAIM, CONFIDENCE).at_this_rate is None
    assert outlook(3, 60, CLAIM, CONFIDENCE).towards == "INCONCLUSIVE"


def test_misses_nearly_at_the_claimed_rate_settle_it_only_beyond_all_reason() -> None:
    assert outlook(49_999, 1_000_000, CLAIM, CONFIDENCE).at_this_rate is None


def test_a_claim_that_no_run_can_prove_is_said_to_be_one() -> None:
    assert requests_to_prove(0, 1 - 1e-9, CONFIDENCE) is None
    assert outlook(0, 10, 1 - 1e-9, CONFIDENCE).at_this_rate is None


def test_what_can_be_settled_stays_within_what_can_be_run() -> None:
    found = outlook(510, 10_000, CLAIM, CONFIDENCE)
    assert found.towards == "FAIL"
    assert found.at_this_rate is not None
    assert 10_000 < found.at_this_rate < MOST_REQUESTS


@settings(deadline=None, max_examples=50)
@given(trials=st.integers(1, 400), rate=st.floats(0.001, 0.999))
def test_the_interval_of_a_share_covers_it_as_often_as_it_says(trials: int, rate: float) -> None:
    ends = [share_interval(hits, trials, CONFIDENCE) for hits in range(trials + 1)]
    covered = [low <= rate <= high for low, high in ends]
    assert binom.pmf(np.arange(trials + 1), trials, rate)[covered].sum() >= CONFIDENCE - 1e-9
