"""How far a run was from its limit: runs and machines whose truth is known."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from slipstream.loadtest.folder import Folder
from slipstream.loadtest.report.render import render
from slipstream.loadtest.results.achieved import Achieved
from slipstream.loadtest.results.exports import to_json
from slipstream.loadtest.results.verdict import Result, judge
from slipstream.loadtest.sample import Sample
from slipstream.loadtest.terminal import lines
from slipstream.profiling.limit.known import Limit
from slipstream.profiling.limit.roof import Rate, Reading, Roof
from slipstream.profiling.limit.work import Work
from tests.loadtest.report.served import RUN
from tests.loadtest.simulated import failed, planned, request, scenario

# A step reads 9 MB and 10 kB per token of context, at 1 GB/s: 10 ms with 100 tokens of context. A prompt of 100 tokens
# is 100 x 2 x (1,000,000 - 900,000) + 2 x 900,000 = 21.8 M operations, at 0.1 G/s: 218 ms.
WORK = Work(
    weight_bytes=9_000_000,
    row_bytes=0,
    parameters=1_000_000,
    head_parameters=900_000,
    kv_bytes_per_token=10_000,
    attention_width=0,
    tokens_per_step=1,
    arithmetic="fast",
    precision="u8",
)
LIMIT = Limit(
    "0123abcd",
    4,
    WORK,
    Roof(
        "a CPU",
        (Reading(0, Rate(1e9, 9e8, 8e8)),),
        {"fast": Rate(1e8, 9e7, 8e7)},
    ),
)
FAST = replace(LIMIT, roof=replace(LIMIT.roof, compute={"fast": Rate(1e12, 1e12, 1e12)}))


def result(samples: list[Sample], limit: Limit | None = FAST) -> Result:
    return judge(scenario(), samples, planned_s=planned(samples), limit=limit)


def run(prompt_tokens: int | None = 100, ttft: float = 0.4) -> list[Sample]:
    """10 requests/s, a token every 50 ms: 10 tokens after ``ttft``."""
    return [request(n, n / 10, ttft=ttft, prompt_tokens=prompt_tokens) for n in range(650)]


def found(samples: list[Sample], limit: Limit | None = FAST) -> dict[str, Achieved]:
    return {one.metric: one for one in result(samples, limit).achieved}


def test_the_share_is_the_bound_by_what_was_measured() -> None:
    tpot = found(run())["TPOT"]
    assert tpot.measured_ms == pytest.approx(50)
    assert tpot.bound_ms == pytest.approx(10)
    assert tpot.share == pytest.approx(0.2)
    assert (tpot.resource, tpot.rate, tpot.prompt_tokens) == ("memory bandwidth", 1e9, 100)


def test_a_prompt_is_held_to_what_reading_all_of_it_takes() -> None:
    ttft = found(run(), LIMIT)["TTFT"]
    assert ttft.measured_ms == pytest.approx(400)
    assert ttft.bound_ms == pytest.approx(218)
    assert (ttft.resource, ttft.rate) == ("compute", 1e8)
    assert ttft.sentence == (
        "TTFT p50 is 1.8 times the 218 ms that a prompt of 100 tokens, none of them cached, takes at least "
        "(compute 100 MOP/s measured on this host)"
    )


def test_a_prompt_that_was_cached_is_faster_than_its_bound_and_says_so() -> None:
    ttft = found(run(ttft=0.0218), LIMIT)["TTFT"]
    assert ttft.share == pytest.approx(10)
    assert ttft.sentence.startswith("TTFT p50 is 0.1 times the 218 ms")


def test_the_bound_of_a_step_grows_with_what_was_in_flight_and_no_further_than_the_slots() -> None:
    # 10 requests/s of 0.85 s each: 8.5 in flight, of which 4 have a slot; 4 x 1 MB of cache beside 9 MB.
    tpot = found(run())["TPOT"]
    assert (tpot.streams, tpot.together_ms) == (4, pytest.approx(13))
    assert tpot.sentence == (
        "TPOT p50 is 5.0 times its lower bound of 10 ms (memory bandwidth 1 GB/s measured on this host); "
        "a step of 4, as many as were in flight by mean, takes at least 13 ms"
    )


def test_one_request_at_a_time_has_one_bound() -> None:
    alone = [request(n, n * 2.0) for n in range(33)]
    tpot = found(alone)["TPOT"]
    assert (tpot.streams, tpot.together_ms) == (1, None)
    assert "in flight" not in tpot.sentence


def test_the_median_is_that_of_the_requests_that_tell_both() -> None:
    long = [request(n, n / 10, prompt_tokens=500, gaps=(), ttft=0.4) for n in range(200)]  # one token: no TPOT
    rest = [request(n, n / 10, prompt_tokens=100) for n in range(200, 300)]
    both = found(long + rest)
    assert both["TPOT"].prompt_tokens == 100
    assert both["TTFT"].prompt_tokens == 500


@pytest.mark.parametrize(
    ("samples", "limit"),
    [
        ([], FAST),
        (run(), None),
        (run(prompt_tokens=None), FAST),
        (run(prompt_tokens=0), FAST),
        ([failed(n, n / 10) for n in range(650)], FAST),
        (run(), replace(LIMIT, roof=Roof("1 x custom", ()))),
    ],
)
def test_where_a_bound_or_a_measurement_is_missing_nothing_is_said(samples: list[Sample], limit: Limit | None) -> None:
    assert result(samples, limit).achieved == ()


def test_reports_say_it_in_every_form(tmp_path: Path) -> None:
    samples = run()
    told = result(samples)
    sentence = found(samples)["TPOT"].sentence
    assert json.loads(to_json(told))["achieved"][0]["sentence"] == sentence
    assert sentence in list(lines(told, Folder(tmp_path)))
    page = render(RUN, scenario(), samples, told)
    assert f"{sentence}." in page
    assert 'id="limit"' in page


def test_reports_of_a_server_elsewhere_have_no_such_section(tmp_path: Path) -> None:
    samples = run()
    told = result(samples, None)
    assert 'id="limit"' not in render(RUN, scenario(), samples, told)
    assert not [line for line in lines(told, Folder(tmp_path)) if "lower bound" in line]


def test_a_limit_is_kept_beside_a_run(tmp_path: Path) -> None:
    path = tmp_path / "limit.json"
    assert Limit.read(path) is None
    LIMIT.write(path)
    assert Limit.read(path) == LIMIT
    for text in ("", "[]", "{}", '{"bundle_id": "x", "slots": 1, "work": {}, "roof": {}}'):
        path.write_text(text)
        assert Limit.read(path) is None
