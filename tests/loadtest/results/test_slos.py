"""What meets an SLO, what misses it, what is not counted, and what an open verdict needs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.slos import SloResult, good_requests, judge_slo
from slipstream.loadtest.sample import NOT_COUNTED, OUTCOMES, Outcome, Sample
from slipstream.loadtest.scenario import Slo
from slipstream.loadtest.statistics.binomial import decide
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
    late = {40 * place for place in range(misses)}
    samples = [request(index, ttft=0.9 if index in late else 0.2) for index in range(requests)]
    assert judged(samples).verdict == "PASS"
    found = judged(samples[:-1])
    assert found.verdict == "INCONCLUSIVE"
    assert "1 more without a miss would prove it" in found.sentence


def test_an_open_verdict_at_the_claimed_rate_says_that_more_cannot_settle_it() -> None:
    found = judged([request(index, ttft=0.9 if index < 3 else 0.2) for index in range(60)])
    assert "at the observed miss rate it cannot be settled" in found.sentence


def test_an_open_verdict_with_many_misses_expects_a_refutation() -> None:
    found = judged([request(index, ttft=0.9 if index % 15 == 0 else 0.2) for index in range(60)])
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


def test_certain_misses_only_weaken_what_depends_on_one_another() -> None:
    """A drift far below the bound says nothing where there is no queue; a certain miss says that there is one."""
    drifting = [request(n, 10 + n / 10, ttft=0.02 + 0.01 * (n // 15 % 2)) for n in range(200)]
    cut = request(200, 30.0, outcome="cut_off", chunk_s=[], end_s=31.0)
    assert judged(drifting).verdict == "PASS"
    assert judged([*drifting, cut]).verdict == "INCONCLUSIVE"
    late = [request(n, 10 + n / 10, ttft=0.9 if n < 150 else 0.2) for n in range(200)]
    assert judged(late).verdict == judged([*late, cut]).verdict == "FAIL"


def test_certain_misses_say_no_less_than_the_requests_they_are_weighed_with() -> None:
    threes = [request(n, 10 + n / 10, ttft=0.3 + 0.1 * (n // 3 % 2)) for n in range(800)]
    cut = [request(800 + n, 90.0, outcome="cut_off", chunk_s=[], end_s=91.0) for n in range(30)]
    assert decide(30, 830, 0.95, 0.95) == "PASS"
    assert judged(threes).verdict == "PASS"
    assert judged([*threes, *cut]).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize("metric", ["ttft", "e2e", "itl", "tpot"])
def test_what_was_cut_off_in_time_costs_nothing(metric: str) -> None:
    early = [request(60 + n, 20, outcome="cut_off", chunk_s=[20.1], end_s=20.2) for n in range(10)]
    found = judged(many(60) + early, Slo.model_validate({"metric": metric, "bound_ms": 5_000}))
    assert (found.verdict, found.certain_misses) == ("PASS", 0)


# --- requests that depend on one another ------------------------------------------------------------------------------


def stalls(count: int, every: int, late: int, ttft: float = 0.2) -> list[Sample]:
    """Of every ``every`` requests the first ``late`` wait for the same thing."""
    return [request(n, 10 + n / 10, ttft=0.9 if n % every < late else ttft) for n in range(count)]


def test_ten_stalls_of_twelve_requests_are_ten_observations() -> None:
    found = judged(stalls(4_000, 400, 12))
    assert decide(found.misses, found.requests, 0.95, 0.95) == "PASS"
    assert found.verdict == "INCONCLUSIVE"
    assert found.dependence is not None
    assert found.dependence.lag_1 > 0.8
    assert 10 <= found.independent < 600
    assert found.upper_ms is None or found.upper_ms > 500  # the bounds rest on as many as the verdict
    assert f"so the 4,000 count as {found.independent:.0f} independent ones; " in found.sentence


def test_a_refutation_has_to_hold_on_independent_requests_too() -> None:
    found = judged(stalls(400, 100, 10))
    assert decide(found.misses, found.requests, 0.95, 0.95) == "FAIL"
    assert found.verdict == "INCONCLUSIVE"
    assert judged(stalls(4_000, 100, 30)).verdict == "FAIL"


def test_what_would_settle_it_is_told_in_real_requests() -> None:
    found = judged(stalls(4_000, 400, 12))
    assert found.outlook is not None
    assert found.outlook.at_this_rate is not None
    worth, total = found.independent / 4_000, 4_000 + found.outlook.at_this_rate
    assert decide(0.03 * total, total, 0.95, 0.95, worth) == found.outlook.towards == "PASS"
    assert decide(0.03 * (total - 1), total - 1, 0.95, 0.95, worth) == "INCONCLUSIVE"
    assert judged(stalls(2 * total, 400, 12)).verdict == "PASS"


def test_as_many_misses_here_and_there_count_as_they_are() -> None:
    late = set(np.random.default_rng(1).choice(4_000, 120, replace=False).tolist())
    found = judged([request(n, 10 + n / 10, ttft=0.9 if n in late else 0.2) for n in range(4_000)])
    assert (found.verdict, found.dependence, found.independent) == ("PASS", None, 4_000)
    assert (found.weighed, found.warnings) == ("", ())


@pytest.mark.parametrize("count", [0, 1, 2, 19, 20, 59])
def test_few_requests_all_alike_count_as_they_are(count: int) -> None:
    found = judged(many(count))
    assert (found.dependence, found.independent) == (None, count)
    assert found.verdict == ("PASS" if count == 59 else "INCONCLUSIVE")


@pytest.mark.parametrize("count", [2, 30, 500])
def test_requests_that_all_failed_refute_it_however_alike(count: int) -> None:
    assert judged([failed(n, 10 + n / 10) for n in range(count)]).verdict == "FAIL"
    slower = [request(n, 10 + n / 10, ttft=1 + n) for n in range(count)]
    assert judged(slower).verdict == "FAIL"


def test_one_stall_in_few_requests_leaves_it_open() -> None:
    found = judged(stalls(100, 100, 1))
    assert found.verdict == "PASS"
    assert judged(stalls(100, 100, 3)).verdict == "INCONCLUSIVE"


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
