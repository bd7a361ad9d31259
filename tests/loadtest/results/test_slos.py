"""What meets an SLO, what misses it, what is not counted, and what an open verdict needs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.slos import SloResult, good_requests, judge_slo
from slipstream.loadtest.sample import NOT_COUNTED, OUTCOMES, Outcome, Sample
from slipstream.loadtest.scenario import Slo
from tests.loadtest.simulated import failed, request

TTFT = Slo(metric="ttft", bound_ms=500)


def judged(samples: list[Sample], slo: Slo = TTFT, confidence: float = 0.95) -> SloResult:
    return judge_slo(Columns.of(samples), slo, confidence)


def many(count: int, **changes: object) -> list[Sample]:
    return [request(index, 10 + index / 10, **changes) for index in range(count)]  # type: ignore[arg-type]


# --- what is counted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", sorted(set(OUTCOMES) - NOT_COUNTED - {"ok"}))
@pytest.mark.parametrize("metric", ["ttft", "tpot", "itl", "e2e"])
def test_every_kind_of_error_is_a_miss_of_every_slo(outcome: Outcome, metric: str) -> None:
    quick = request(1, outcome=outcome)  # it had a fine TTFT before it failed
    found = judged([request(), quick], Slo.model_validate({"metric": metric, "bound_ms": 5_000}))
    assert (found.requests, found.misses, found.errors) == (2, 1, 1)


@pytest.mark.parametrize("outcome", sorted(NOT_COUNTED))
def test_who_went_away_as_planned_or_was_cut_off_is_not_counted(outcome: Outcome) -> None:
    found = judged([request(), request(1, outcome=outcome, ttft=0.1)])
    assert (found.requests, found.misses) == (1, 0)


def test_the_warm_up_is_not_counted() -> None:
    assert judged([request(due=4.9, ttft=9), request(1)]).requests == 1


def test_nothing_measured_proves_nothing_and_says_what_would() -> None:
    found = judged([])
    assert found.verdict == "INCONCLUSIVE"
    assert found.observed_ms is None
    assert "59 more without a miss would prove it" in found.sentence


def test_exactly_the_bound_is_within_it() -> None:
    sample = request(lag=0.0, due=8.0, ttft=0.5)
    assert judged([sample]).misses == 0
    assert judged([sample], Slo(metric="ttft", bound_ms=499.999)).misses == 1


def test_what_the_generator_was_late_counts_from_the_scheduled_moment_and_not_from_the_sent_one() -> None:
    late = request(lag=0.4, ttft=0.2)
    assert judged([late]).misses == 1
    assert judged([late], Slo(metric="ttft", bound_ms=500, since="sent")).misses == 0


def test_a_success_without_a_first_token_misses_a_ttft() -> None:
    assert judged([request(chunk_s=[])]).misses == 1


@pytest.mark.parametrize("tokens", [{"output_tokens": 1}, {"output_tokens": None, "counted_tokens": None}])
def test_tpot_counts_only_answers_of_at_least_two_tokens_that_are_known(tokens: dict[str, int | None]) -> None:
    slo = Slo(metric="tpot", bound_ms=60)
    found = judged([request(), request(1, **tokens)], slo)
    assert (found.requests, found.undefined) == (1, 1)
    assert "1 answers have no TPOT and are not counted" in found.warnings


def test_tpot_divides_by_the_tokens_of_usage_and_without_it_by_those_counted() -> None:
    slo = Slo(metric="tpot", bound_ms=60)
    assert judged([request(output_tokens=8, counted_tokens=100)], slo).misses == 1  # 0.45 s over 7
    assert judged([request(output_tokens=None, counted_tokens=10)], slo).misses == 0  # 0.45 s over 9


def test_one_long_gap_misses_an_itl_that_its_mean_meets() -> None:
    slo = Slo(metric="itl", bound_ms=200)
    stalled = request(1, gaps=[0.01] * 20 + [0.3])
    found = judged([request(), stalled, request(2, gaps=[])], slo)
    assert (found.requests, found.misses, found.undefined) == (2, 1, 1)


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("misses", "requests"), [(0, 59), (1, 93), (5, 208)])
def test_a_claim_is_proven_with_just_enough_requests(misses: int, requests: int) -> None:
    slow = [request(index, ttft=0.9) for index in range(misses)]
    fine = [request(index) for index in range(misses, requests)]
    assert judged(slow + fine).verdict == "PASS"
    found = judged(slow + fine[:-1])
    assert found.verdict == "INCONCLUSIVE"
    assert "1 more without a miss would prove it" in found.sentence


def test_an_open_verdict_at_the_claimed_rate_says_that_more_cannot_settle_it() -> None:
    found = judged([request(index, ttft=0.9 if index < 3 else 0.2) for index in range(60)])
    assert "at the observed miss rate it cannot be settled" in found.sentence


def test_an_open_verdict_with_many_misses_expects_a_refutation() -> None:
    found = judged([request(index, ttft=0.9 if index < 4 else 0.2) for index in range(60)])
    assert "expect refutation after about 488 more" in found.sentence


@settings(deadline=None, max_examples=50)
@given(
    ttfts=st.lists(st.sampled_from([0.1, 0.3, 0.499, 0.501, 2.0, -1.0]), min_size=1, max_size=150),
    bound=st.sampled_from([200, 500, 1_000]),
)
def test_the_bounds_of_the_quantile_say_what_the_verdict_says(ttfts: list[float], bound: int) -> None:
    """-1 stands for an error, which takes forever."""
    samples = [failed(n) if ttft < 0 else request(n, ttft=ttft) for n, ttft in enumerate(ttfts)]
    found = judged(samples, Slo(metric="ttft", bound_ms=bound))
    assert (found.upper_ms is not None and found.upper_ms <= bound) == (found.verdict == "PASS")
    if found.verdict == "FAIL":
        assert found.lower_ms is None or found.lower_ms > bound
    enough = found.misses <= 0.05 * found.requests
    assert (found.observed_ms is not None and found.observed_ms <= bound) == enough


def test_a_run_that_ends_while_its_queue_grows_does_not_pass_by_ending() -> None:
    waiting = [request(60 + n, 20, outcome="cut_off", chunk_s=[], end_s=30.0) for n in range(10)]
    found = judged(many(60) + waiting)
    assert (found.requests, found.misses, found.certain_misses) == (60, 0, 10)
    assert found.verdict == "INCONCLUSIVE"
    assert "let the run end by itself" in found.sentence
    assert found.warnings


@pytest.mark.parametrize("metric", ["ttft", "e2e", "itl", "tpot"])
def test_what_was_cut_off_in_time_costs_nothing(metric: str) -> None:
    early = [request(60 + n, 20, outcome="cut_off", chunk_s=[20.1], end_s=20.2) for n in range(10)]
    found = judged(many(60) + early, Slo.model_validate({"metric": metric, "bound_ms": 5_000}))
    assert (found.verdict, found.certain_misses) == ("PASS", 0)


def test_requests_of_one_queue_are_warned_about_beside_the_verdict() -> None:
    """Ten stalls of 20 requests each are ten observations."""
    samples = [request(n, 10 + n / 10, ttft=0.9 if n % 400 < 12 else 0.2) for n in range(4_000)]
    found = judged(samples)
    assert found.verdict == "PASS"
    assert found.dependence is not None
    assert found.dependence.lag_1 > 0.8
    assert found.dependence.effective < 1_000
    assert found.independent_verdict == "INCONCLUSIVE"
    assert any("which would conclude INCONCLUSIVE" in warning for warning in found.warnings)


def test_as_many_misses_here_and_there_are_not() -> None:
    late = set(np.random.default_rng(1).choice(4_000, 120, replace=False).tolist())
    found = judged([request(n, 10 + n / 10, ttft=0.9 if n in late else 0.2) for n in range(4_000)])
    assert found.verdict == "PASS"
    assert found.independent_verdict is None
    assert found.warnings == ()


# --- all SLOs together ------------------------------------------------------------------------------------------------


def test_a_good_request_succeeded_and_met_every_slo_that_applies_to_it() -> None:
    slos = (TTFT, Slo(metric="tpot", bound_ms=60))
    samples = [
        request(0),
        request(1, ttft=0.9),
        request(2, gaps=[0.1] * 9),
        request(3, gaps=[]),  # one token has no TPOT
        request(4, outcome="truncated"),
        request(5, outcome="disconnected"),
    ]
    good = good_requests(Columns.of(samples), slos)
    assert good is not None
    assert good.tolist() == [True, False, False, True, False, False]
    assert good_requests(Columns.of(samples), ()) is None
