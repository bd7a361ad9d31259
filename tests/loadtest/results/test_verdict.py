"""One verdict of a whole run, from its samples alone."""

import json
from dataclasses import replace

import numpy as np
import pytest

from slipstream.loadtest.results.verdict import Result, judge
from slipstream.loadtest.sample import OUTCOMES, Sample
from tests.loadtest.simulated import TTFT_BOUND, failed, planned, request, scenario, steady


def run(misses: int = 0, **changes: object) -> list[Sample]:
    """The misses are spread evenly."""
    late = set(np.linspace(60, 640, misses).astype(int).tolist())
    return steady([0.9 if n in late else 0.2 for n in range(650)], **changes)


def judged(samples: list[Sample], **changes: object) -> Result:
    return judge(scenario(**changes), samples, planned_s=planned(samples))


@pytest.mark.parametrize(
    ("misses", "verdict", "code"), [(0, "PASS", 0), (20, "PASS", 0), (30, "INCONCLUSIVE", 3), (60, "FAIL", 1)]
)
def test_a_run_is_proven_open_or_refuted(misses: int, verdict: str, code: int) -> None:
    found = judged(run(misses))
    assert (found.verdict, found.exit_code) == (verdict, code)


def test_one_refuted_slo_fails_the_run_and_one_open_one_leaves_it_open() -> None:
    proven, refuted = TTFT_BOUND, {"metric": "e2e", "bound_ms": 100}
    undecided = {"metric": "ttft", "bound_ms": 500, "quantile": 0.9999}
    assert judged(run(), slos=[proven, undecided]).verdict == "INCONCLUSIVE"
    assert judged(run(), slos=[proven, undecided, refuted]).verdict == "FAIL"


@pytest.mark.parametrize("misses", [0, 30, 60])
def test_a_lagging_generator_takes_every_verdict_back(misses: int) -> None:
    found = judged(run(misses, lag=0.05))
    assert (found.verdict, found.exit_code) == ("VOID", 2)
    assert [check.name for check in found.void_because] == ["generator_lag"]


def test_without_an_slo_nothing_is_claimed() -> None:
    found = judged(run(), slos=[])
    assert (found.verdict, found.exit_code, found.good_share) == (None, 0, None)
    assert found.metrics.rates is not None
    assert found.metrics.rates.goodput_per_s is None


def test_without_an_slo_a_run_that_only_failed_or_measured_nothing_is_no_success() -> None:
    refused = [failed(n, n / 10, "refused", after=0.0) for n in range(650)]
    assert (judged(refused, slos=[]).verdict, judged(refused, slos=[]).exit_code) == (None, 1)
    assert (judge(scenario(slos=[]), []).verdict, judge(scenario(slos=[]), []).exit_code) == (None, 3)


def test_a_server_that_was_down_fails_and_is_counted_by_kind() -> None:
    samples = [failed(n, n / 10, "refused", after=0.0) for n in range(650)]
    found = judged(samples)
    assert found.verdict == "FAIL"
    assert found.metrics.counts.errors_by_kind == {"refused": 600}
    assert found.good_share == 0
    assert found.metrics.rates is not None
    assert (found.metrics.rates.requests_per_s, found.metrics.rates.goodput_per_s) == (0, 0)


def test_no_samples_are_no_crash_and_no_verdict() -> None:
    found = judge(scenario(), [])
    assert (found.verdict, found.exit_code) == ("INCONCLUSIVE", 3)


def test_goodput_is_the_rate_of_what_met_every_slo() -> None:
    found = judged(run(60))
    assert found.good_share == pytest.approx(0.9)
    assert found.metrics.rates is not None
    assert found.metrics.rates.goodput_per_s == pytest.approx(9, abs=0.05)


def test_the_order_of_the_samples_does_not_matter() -> None:
    samples = run(20)
    shuffled = [samples[place] for place in np.random.default_rng(1).permutation(len(samples))]
    assert judged(shuffled).as_dict() == judged(samples).as_dict()


def test_whatever_the_samples_the_result_is_json() -> None:
    rng = np.random.default_rng(2)
    times = [0.0, 1.0, 9.5, 70.0, -1.0, 400.0, float("nan"), float("inf")]
    for _ in range(60):
        samples = [
            Sample(
                int(rng.integers(-2, 9)),
                *(float(rng.choice(times)) for _ in range(3)),
                outcome=OUTCOMES[rng.integers(len(OUTCOMES))],
                measured=bool(rng.integers(2)),
                chunk_s=rng.choice(times, rng.integers(4)).tolist(),
                output_tokens=int(rng.integers(3)) or None,
                stages_s={"queue": float(rng.choice(times))},
            )
            for _ in range(rng.integers(1, 8))
        ]
        found = judge(scenario(), samples, planned_s=[0.0, 1.0], stopped_s=float(rng.choice(times[:4])))
        json.dumps(found.as_dict(), allow_nan=False)


def test_a_result_says_in_words_what_it_found() -> None:
    found = judged([*run(30)[:-1], replace(request(649, 64.9), output_tokens=1_000)]).as_dict()
    assert found["slos"][0]["sentence"].startswith("30 of 600 requests missed p95 TTFT ≤ 500 ms: open; ")
    assert any("`usage` says" in warning for warning in found["warnings"])
    assert found["exit_code"] == 3
    assert found["metrics"]["latencies"]["ttft"]["percentiles"][0]["value"] == pytest.approx(200)
