"""A run that did not measure the server shows: a late generator, lost samples, a clock that jumped, wrong tokens."""

from dataclasses import replace

import numpy as np
import pytest

from slipstream.loadtest.results.checks import Check, check_run
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.verdict import judge
from slipstream.loadtest.results.window import measured_window
from slipstream.loadtest.sample import Sample
from slipstream.loadtest.scenario import Scenario
from tests.loadtest.simulated import failed, planned, request, scenario, steady

CLOSED = {"kind": "closed", "users": 4}


def checks(
    samples: list[Sample],
    given: Scenario | None = None,
    plan: list[float] | None = None,
    stopped: float | None = None,
) -> dict[str, Check]:
    given = given or scenario()
    columns = Columns.of(samples, streamed=given.stream)
    window = measured_window(given, columns, stopped)
    return {check.name: check for check in check_run(given, columns, window, plan, stopped)}


def run(count: int = 650, **changes: object) -> list[Sample]:
    """65 s of 10 requests per second that take 0.65 s each."""
    return steady([0.2] * count, **changes)


def test_a_sound_run_passes_every_check() -> None:
    samples = run()
    found = checks(samples, plan=planned(samples))
    assert {check.status for check in found.values()} == {"ok"}


def test_nothing_measured_is_unchecked_and_no_crash() -> None:
    found = checks([], plan=[])
    assert found["generator_lag"].status == "unchecked"
    assert found["littles_law"].status == "unchecked"
    assert found["steady_state"].status == "unchecked"
    assert found["tokens"].status == "unchecked"


# --- the generator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("late", "status"), [(6, "ok"), (7, "void")])  # of 600; p99 is the 594th
def test_a_generator_that_lags_in_more_than_one_of_a_hundred_voids_the_run(late: int, status: str) -> None:
    samples = [request(n, n / 10, lag=0.011 if 50 <= n < 50 + late else 0.009) for n in range(650)]
    assert checks(samples)["generator_lag"].status == status


def test_a_lag_in_the_warm_up_or_at_its_bound_is_none() -> None:
    assert checks([request(0, 1, lag=9), *run(650)[1:]])["generator_lag"].status == "ok"
    assert (
        checks([request(n, 8 + n, lag=0.0625) for n in range(3)], scenario(max_lag_ms=62.5))["generator_lag"].status
        == "ok"
    )


def test_requests_that_failed_lag_too() -> None:
    samples = [replace(failed(n, 10 + n / 10), sent_s=10.05 + n / 10) for n in range(100)]
    assert checks(samples)["generator_lag"].status == "void"


# --- each arrival once ------------------------------------------------------------------------------------------------


def test_one_lost_sample_voids_the_run() -> None:
    samples = run()
    found = checks(samples[:300] + samples[301:], plan=planned(samples))["arrivals"]
    assert (found.status, found.found) == ("void", 1)


def test_a_sample_that_is_there_twice_voids_the_run_with_or_without_a_plan() -> None:
    samples = run()
    assert checks([*samples, samples[7]], plan=planned(samples))["arrivals"].status == "void"
    assert checks([*samples, samples[7]], scenario(arrivals=CLOSED))["arrivals"].status == "void"


def test_a_sample_of_another_plan_voids_the_run() -> None:
    samples = run()
    moved = [*samples[:-1], replace(samples[-1], scheduled_s=samples[-1].scheduled_s + 0.01)]
    assert checks(moved, plan=planned(samples))["arrivals"].status == "void"
    assert checks([*samples, request(9_999, 60)], plan=planned(samples))["arrivals"].status == "void"


def test_what_was_due_after_the_run_was_stopped_is_not_lost() -> None:
    samples = run()
    sent = [sample for sample in samples if sample.scheduled_s < 30]
    assert checks(sent, plan=planned(samples), stopped=30.0)["arrivals"].status == "ok"
    assert checks(sent, plan=planned(samples), stopped=40.0)["arrivals"].status == "void"


def test_a_closed_loop_may_skip_numbers() -> None:
    samples = [request(index, 10 + index / 10) for index in (0, 1, 2, 5, 9)]
    assert checks(samples, scenario(arrivals=CLOSED))["arrivals"].status == "ok"


def test_a_closed_loop_that_lost_a_worker_is_void_though_no_number_is_missing() -> None:
    found = judge(scenario(arrivals=CLOSED), [request(index, 10 + index) for index in range(50)], lost_workers=1)
    assert (found.verdict, [check.name for check in found.void_because]) == ("VOID", ["arrivals"])
    assert "1 of the generator's workers" in found.void_because[0].message


# --- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sample",
    [
        request(end_s=9.0),
        request(end_s=float("nan")),
        request(lag=-0.5),
        request(gaps=[0.05, -0.2, 0.3]),
        request(gaps=[0.05, float("nan")], end_s=11.0),
        request(chunk_s=[9.0], end_s=11.0),
        request(end_s=10.3),  # before its last chunk
        request(ttft=400.0),  # no time-out let it live that long
    ],
)
def test_times_that_cannot_be_void_the_run(sample: Sample) -> None:
    samples = run()
    samples[100] = replace(sample, index=100)
    found = checks(samples)["times"]
    assert (found.status, found.found) == ("void", 1)


# --- Little's law -----------------------------------------------------------------------------------------------------


def test_lost_and_doubled_samples_break_littles_law() -> None:
    samples = run()
    plan = planned(samples)
    assert checks(samples[::2], plan=plan)["littles_law"].status == "void"
    assert checks(samples + samples[200:260], plan=plan)["littles_law"].status == "void"


def test_a_few_lost_at_the_edges_do_not() -> None:
    samples = run()
    assert checks(samples[:-1], plan=planned(samples))["littles_law"].status == "ok"


def test_what_a_stopped_run_had_no_time_to_send_is_no_arrival() -> None:
    samples = run()
    sent = [sample for sample in samples if sample.scheduled_s < 7.5]
    found = checks(sent, plan=planned(samples), stopped=8.0)
    assert (found["littles_law"].status, found["arrivals"].status) == ("ok", "ok")
    assert checks(sent, plan=planned(samples), stopped=9.0)["littles_law"].status == "void"
    result = judge(scenario(), sent, planned_s=planned(samples), stopped_s=8.0, was_killed=True)
    assert [check.name for check in result.void_because] == ["littles_law"]  # what was in flight is lost


def test_it_holds_for_bursts_ramps_and_queues_that_grow() -> None:
    rng = np.random.default_rng(3)
    bursts = np.sort(rng.uniform(0, 65, 20).repeat(30))
    growing = np.linspace(0, 65, 600)
    runs = [(bursts, rng.exponential(1, 600)), (growing, growing / 2), (growing**2 / 65, growing * 0)]
    for due, ttft in runs:
        waits = enumerate(zip(due.tolist(), ttft.tolist(), strict=True))
        samples = [request(n, when, ttft=wait) for n, (when, wait) in waits]
        assert checks(samples, plan=planned(samples))["littles_law"].status == "ok"


def test_four_users_never_have_five_requests_in_flight() -> None:
    four = [request(n, 10 + n // 4, lag=0.0) for n in range(200)]
    assert checks(four, scenario(arrivals=CLOSED))["littles_law"].status == "ok"
    five = [*four, request(200, 20.2, lag=0.0)]
    assert checks(five, scenario(arrivals=CLOSED))["littles_law"].status == "void"


# --- steady state -----------------------------------------------------------------------------------------------------


def test_a_queue_that_grows_is_no_steady_state_and_no_void() -> None:
    samples = [request(n, n / 10, ttft=n / 20) for n in range(650)]
    found = checks(samples, plan=planned(samples))
    assert found["steady_state"].status == "warning"
    assert "lower the rate" in found["steady_state"].remedy
    assert found["littles_law"].status == "ok"


def test_a_ramp_is_not_expected_to_be_steady() -> None:
    ramp = scenario(arrivals={"kind": "ramp", "start": 1, "end": 20})
    assert checks(run(), ramp)["steady_state"].status == "unchecked"


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "status"), [(100, "ok"), (102, "ok"), (98, "ok"), (103, "warning"), (97, "warning")])
def test_usage_may_differ_from_the_tokenizer_by_two_percent(said: int, status: str) -> None:
    samples = [request(n, 10 + n, output_tokens=said, counted_tokens=100) for n in range(20)]
    assert checks(samples)["tokens"].status == status


def test_the_token_that_ends_an_answer_may_be_counted_or_not() -> None:
    stopped = [request(n, 10 + n, output_tokens=11, counted_tokens=10, finish_reason="stop") for n in range(20)]
    assert checks(stopped)["tokens"].status == "ok"
    cut = [replace(sample, finish_reason="length") for sample in stopped]
    assert checks(cut)["tokens"].status == "warning"


def test_wrong_tokens_void_a_run_that_claims_a_tpot() -> None:
    samples = [request(n, 10 + n, output_tokens=20, counted_tokens=10) for n in range(20)]
    claim = scenario(slos=[{"metric": "tpot", "bound_ms": 60}])
    assert checks(samples, claim)["tokens"].status == "void"


@pytest.mark.parametrize("known", ["output_tokens", "counted_tokens"])
def test_one_count_alone_cannot_be_checked(known: str) -> None:
    other = {"output_tokens": None, "counted_tokens": None} | {known: 10}
    assert checks([request(**other)])["tokens"].status == "unchecked"


def test_text_where_the_tokenizer_sees_none_is_no_division_by_zero() -> None:
    assert checks([request(output_tokens=10, counted_tokens=0)])["tokens"].status == "warning"


def asked(prompts: list[str], again_s: float = 0.01) -> list[Sample]:
    """One request a tick; a prompt that stood before is answered after ``again_s``, another after 0.2 s."""
    seen: set[str] = set()
    samples = []
    for index, prompt in enumerate(prompts):
        samples.append(request(index, 10 + index / 10, ttft=again_s if prompt in seen else 0.2, prompt=prompt))
        seen.add(prompt)
    return samples


def test_a_few_prompts_asked_again_and_again_are_said_to_measure_a_cache() -> None:
    found = checks(asked([f"q{number % 30}" for number in range(300)]))["repeats"]
    assert found.status == "warning"
    assert found.message == (
        "270 of 300 requests ask what was asked before (median TTFT 200 ms the first time, 10 ms again)"
    )


def test_a_prompt_that_the_warm_up_asked_is_a_repeated_one() -> None:
    warm = [request(number, number / 100, prompt=f"q{number}") for number in range(20)]
    samples = [*warm, *(replace(one, index=one.index + 20) for one in asked([f"q{number}" for number in range(20)]))]
    found = checks(samples)["repeats"]
    assert (found.status, found.found) == ("warning", 1.0)


def test_prompts_of_their_own_are_fine_and_so_are_few_that_repeat() -> None:
    names = [f"q{number}" for number in range(100)]
    assert checks(asked(names))["repeats"].status == "ok"
    assert checks(asked([*names, *names[:10]]))["repeats"].status == "ok"
    assert checks(asked([*names, *names[:20]]))["repeats"].status == "warning"


def test_repeated_prompts_of_failed_requests_are_counted_without_a_time() -> None:
    samples = [replace(failed(number, 10 + number / 10), prompt="q") for number in range(20)]
    assert checks(samples)["repeats"].message == "19 of 20 requests ask what was asked before"
