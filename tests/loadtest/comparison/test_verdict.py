"""The verdict on pairs of runs, held to simulated comparisons whose truth is known."""

from collections import Counter

import numpy as np
import pytest

from slipstream.loadtest.comparison.measures import Values
from slipstream.loadtest.comparison.verdict import Compared, Outcome, judge_pairs
from tests.loadtest.comparison.simulated_runs import TRUTH, pairs_of

MARGIN = 0.05
RATES = ("output_tokens_per_s", "requests_per_s")
LATENCIES = tuple(key for key in TRUTH if key.startswith(("ttft", "tpot", "itl", "e2e")))


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipstream.loadtest.statistics.bootstrap.RESAMPLES", 999)


def constant(rounds: int, **changed: float) -> list[tuple[Values, Values]]:
    """Runs without any noise."""
    return [(dict(TRUTH), {key: TRUTH[key] * changed.get(key, 1.0) for key in TRUTH}) for _ in range(rounds)]


def of(outcome: Outcome, key: str) -> Compared:
    return next(one for one in outcome.compared if one.measure.key == key)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("noise", [0.08, 0.4])
def test_equals_are_rarely_told_apart(noise: float) -> None:
    """Whatever the noise, at most 5% of comparisons of a bundle with itself report a regression, or a better B."""
    rng = np.random.default_rng(int(noise * 100))
    found = Counter(judge_pairs(pairs_of(rng, 8, noise=noise), MARGIN).verdict for _ in range(300))
    assert found["REGRESSION"] <= 15, found
    assert found["BETTER"] <= 15, found


@pytest.mark.usefixtures("quickly")
def test_a_slowdown_just_within_the_margin_is_no_regression() -> None:
    rng = np.random.default_rng(5)
    within = dict.fromkeys(LATENCIES, 1.045)
    found = Counter(judge_pairs(pairs_of(rng, 8, changed=within), MARGIN).verdict for _ in range(100))
    assert found["REGRESSION"] <= 5, found


@pytest.mark.usefixtures("quickly")
def test_a_real_slowdown_of_a_fifth_is_found() -> None:
    rng = np.random.default_rng(6)
    slower = dict.fromkeys(LATENCIES, 1.2)
    outcomes = [judge_pairs(pairs_of(rng, 8, noise=0.03, changed=slower), MARGIN) for _ in range(50)]
    assert sum(one.verdict == "REGRESSION" for one in outcomes) >= 48
    assert all(one.exit_code == 1 for one in outcomes if one.verdict == "REGRESSION")


@pytest.mark.usefixtures("quickly")
def test_quiet_equals_are_proven_to_be_no_worse() -> None:
    rng = np.random.default_rng(7)
    outcomes = [judge_pairs(pairs_of(rng, 8, noise=0.01), MARGIN) for _ in range(50)]
    assert sum(one.verdict in ("NO WORSE", "BETTER") for one in outcomes) >= 48


@pytest.mark.usefixtures("quickly")
def test_a_bundle_that_answers_half_as_long_never_wins() -> None:
    """Everything gets faster with it: end-to-end halves, and with a shorter queue TTFT and TPOT do, too."""
    rng = np.random.default_rng(8)
    shorter = dict.fromkeys(LATENCIES, 0.6) | {"output_tokens": 0.5, "requests_per_s": 1.2, "goodput_per_s": 1.2}
    outcomes = [judge_pairs(pairs_of(rng, 8, changed=shorter), MARGIN) for _ in range(50)]
    assert {one.verdict for one in outcomes} == {"REGRESSION"}
    assert all([one.measure.key for one in outcome.having("worse")] == ["output_tokens"] for outcome in outcomes)


def test_an_answer_that_became_much_longer_is_no_gain_either() -> None:
    outcome = judge_pairs(constant(8, output_tokens=1.4, output_tokens_per_s=1.4), MARGIN)
    assert outcome.verdict == "REGRESSION"
    assert of(outcome, "output_tokens").word == "worse"


def test_answers_shorter_within_the_margin_win_by_nothing_that_they_shorten() -> None:
    shorter = {"output_tokens": 0.96, "e2e_p50": 0.96, "e2e_p95": 0.96, "goodput_per_s": 1.04, "requests_per_s": 1.04}
    assert judge_pairs(constant(8, **shorter), MARGIN).verdict == "NO WORSE"


def test_faster_at_the_same_quality_is_better() -> None:
    outcome = judge_pairs(constant(8, **dict.fromkeys(LATENCIES, 0.8)), MARGIN)
    assert (outcome.verdict, outcome.exit_code) == ("BETTER", 0)
    assert of(outcome, "ttft_p95").effect.value == pytest.approx(-0.2)


def test_fewer_golden_passes_take_the_win_and_beyond_the_margin_they_are_a_regression() -> None:
    faster = dict.fromkeys(LATENCIES, 0.7)
    little = judge_pairs(constant(8, **faster, golden_pass_rate=0.95), MARGIN)  # 3 points
    assert (little.verdict, little.loses_quality) == ("NO WORSE", True)
    much = judge_pairs(constant(8, **faster, golden_pass_rate=0.9), MARGIN)  # 6 points
    assert much.verdict == "REGRESSION"
    assert [one.measure.key for one in much.having("worse")] == ["golden_pass_rate"]


def test_more_output_per_second_is_better_and_less_is_worse() -> None:
    assert judge_pairs(constant(8, output_tokens_per_s=1.2), MARGIN).verdict == "BETTER"
    outcome = judge_pairs(constant(8, output_tokens_per_s=0.8), MARGIN)
    assert [one.measure.key for one in outcome.having("worse")] == ["output_tokens_per_s"]


def test_failures_are_held_to_one_point() -> None:
    pairs = [(a, dict(b) | {"error_share": 0.03}) for a, b in constant(8)]
    assert judge_pairs(pairs, MARGIN).verdict == "REGRESSION"
    assert judge_pairs(pairs, 0.005).compared[-4].margin in (0.005,)
    none_worse = [(a, dict(b) | {"error_share": 0.005}) for a, b in constant(8)]
    assert judge_pairs(none_worse, MARGIN).verdict == "NO WORSE"


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_too_few_rounds_tell_nothing_however_large_the_effect(rounds: int) -> None:
    outcome = judge_pairs(constant(rounds, **dict.fromkeys(LATENCIES, 3.0)), MARGIN)
    assert (outcome.verdict, outcome.exit_code) == ("INCONCLUSIVE", 3)
    assert outcome.more_rounds == 8 - rounds


def test_between_six_and_eight_rounds_a_regression_waits_for_the_wider_interval() -> None:
    outcome = judge_pairs(constant(6, ttft_p95=1.5), MARGIN)
    assert outcome.rounds_to_tell == 8
    assert (of(outcome, "ttft_p95").word, of(outcome, "ttft_p95").more_rounds) == ("open", 2)
    assert outcome.verdict == "INCONCLUSIVE"


def test_an_open_metric_says_how_many_more_rounds_and_they_settle_it() -> None:
    rng = np.random.default_rng(2)
    pairs = pairs_of(rng, 8, noise=0.05)
    outcome = judge_pairs(pairs, MARGIN)
    assert outcome.verdict == "INCONCLUSIVE"
    more = outcome.more_rounds
    assert more is not None
    assert judge_pairs([*pairs, *pairs_of(rng, 2 * more, noise=0.05)], MARGIN).verdict in ("NO WORSE", "BETTER")


def test_an_effect_at_the_margin_is_never_settled_and_says_so() -> None:
    pairs = [
        (a, dict(b) | {"ttft_p95": 320.0 * (1.05 + 0.01 * (-1) ** number)}) for number, (a, b) in enumerate(constant(8))
    ]
    outcome = judge_pairs(pairs, MARGIN)
    assert of(outcome, "ttft_p95").word == "open"
    assert of(outcome, "ttft_p95").more_rounds is None


def test_what_some_run_has_no_number_of_is_not_held_and_named() -> None:
    pairs = [(a, dict(b) | {"golden_pass_rate": None, "tpot_p50": None}) for a, b in constant(8)]
    outcome = judge_pairs(pairs, MARGIN)
    assert outcome.verdict == "NO WORSE"
    assert outcome.unmeasured == ("TPOT p50",)
    assert of(outcome, "golden_text_rate").word == "no worse"  # both are judged by text then


def test_citations_are_judged_where_both_sides_have_them() -> None:
    keys = {one.measure.key for one in judge_pairs(constant(8), MARGIN).compared}
    assert "golden_pass_rate" in keys
    assert "golden_text_rate" not in keys


def test_runs_in_which_nothing_succeeded_prove_nothing() -> None:
    dead = {**dict.fromkeys(TRUTH), "error_share": 1.0}
    assert judge_pairs([(dead, dead)] * 8, MARGIN).verdict == "INCONCLUSIVE"
    assert judge_pairs([(TRUTH, dead)] * 8, MARGIN).verdict == "REGRESSION"
