"""The verdict in one sentence."""

from dataclasses import replace
from typing import Any

import pytest

from slipstream.loadtest.report.headline import claims, load_in_words, sentence
from slipstream.loadtest.sample import Sample
from tests.loadtest.results.test_verdict import judged, run
from tests.loadtest.simulated import TTFT_BOUND, failed, scenario, steady


def said(samples: list[Sample], **changes: Any) -> str:
    return sentence(scenario(**changes), judged(samples, **changes))


def test_a_proven_claim_says_n_misses_and_confidence() -> None:
    assert said(run(3)) == (
        "at 10 requests/s, p95 TTFT ≤ 500 ms holds (3 of 600 requests missed it, 0.5% where 5% may). "
        "Proven with 95% confidence."
    )


def test_a_refuted_one_says_the_same() -> None:
    assert said(run(60)) == (
        "at 10 requests/s, p95 TTFT ≤ 500 ms does not hold (60 of 600 requests missed it, 10.0% where 5% may). "
        "Refuted with 95% confidence."
    )


@pytest.mark.parametrize(
    ("requests", "misses", "needed"),
    [(30, 0, "29 more without a miss would prove it"), (30, 1, "63 more without a miss, or about"),
     (50, 5, "more without a miss would prove it, about")],
)  # fmt: skip
def test_an_open_one_says_how_many_more_requests_would_settle_it(requests: int, misses: int, needed: str) -> None:
    samples = steady([0.9 if 50 <= n < 50 + misses else 0.2 for n in range(50 + requests)])
    found = said(samples, duration=requests / 10)
    assert "too few requests to tell with 95% confidence" in found
    assert f"{misses} of {requests} requests missed it" in found
    assert needed in found


def test_why_requests_count_as_fewer_is_said_in_the_sentence_and_in_the_claim() -> None:
    """Every fourth second of ten requests is late altogether."""
    samples = steady([0.9 if n // 10 % 8 == 7 else 0.2 for n in range(650)])
    result = judged(samples)
    (slo,) = result.slos
    counted = f"so the 600 count as {slo.independent:.0f} independent ones"
    assert slo.independent < 150
    assert counted in sentence(scenario(), result)
    assert counted in claims(result)[0].text


def test_a_void_run_says_why_and_no_claim_keeps_its_verdict() -> None:
    result = judged(run(30, lag=0.05))
    assert "says nothing about the server: p99 of sent - scheduled is 50 ms" in sentence(scenario(), result)
    assert [claim.word for claim in claims(result)] == ["void"]
    assert "would prove it" not in claims(result)[0].text


def test_without_slos_there_is_no_verdict() -> None:
    assert said(run(), slos=[]).startswith(
        "the scenario has no SLO, so there is no verdict: 600 requests were measured"
    )


def test_no_requests_at_all_are_said_and_no_division_by_zero() -> None:
    assert "p95 TTFT ≤ 500 ms is open (no request was counted), 59 more without a miss would prove it" in said([])
    assert claims(judged([]))[0].text == "no request was counted; 59 more without a miss would prove it"


def test_a_claim_that_every_request_failed_has_no_latency() -> None:
    samples = [failed(n, n / 10) for n in range(650)]
    (claim,) = claims(judged(samples))
    assert "600 of 600 requests missed it (100%, allowed 5%), 600 of them failed" in claim.text
    assert "beyond any bound" in claim.text


def test_several_claims_are_all_named() -> None:
    slos = [TTFT_BOUND, {"metric": "e2e", "bound_ms": 2000}]
    found = said(run(), slos=slos)
    assert "p95 TTFT ≤ 500 ms holds (0 of 600" in found
    assert " and p95 end-to-end ≤ 2000 ms holds (0 of 600" in found


def test_what_the_end_of_the_run_cut_off_can_leave_a_claim_open() -> None:
    samples = steady([0.2] * 650)
    cut = [replace(sample, outcome="cut_off", end_s=sample.sent_s + 2, chunk_s=[]) for sample in samples[-60:]]
    assert "let it run to its end" in said([*samples[:-60], *cut])


@pytest.mark.parametrize(
    ("arrivals", "words"),
    [({"kind": "closed", "users": 8}, "with 8 users in a closed loop"),
     ({"kind": "ramp", "start": 1, "end": 8}, "from 1 to 8 requests/s"),
     ({"kind": "gamma", "rate": 3, "burstiness": 0.25}, "at 3 requests/s in bursts (burstiness 0.25)"),
     ({"kind": "replay", "trace": "t.jsonl", "speed": 2}, "under the replayed trace at 2 times its speed")],
)  # fmt: skip
def test_the_load_is_named(arrivals: dict[str, Any], words: str) -> None:
    assert load_in_words(scenario(arrivals=arrivals)) == words
