"""The timeline of a request: its stages, its path, what no stage accounts for."""

import pytest

from slipstream.profiling.timeline.model import Piece, Request, Span, Timeline, Timing
from tests.profiling.made import request, timing

HUGE = pytest.param(10**400, id="10**400")
SAID = {
    "request_id": "r1", "received_unix_s": 10.0, "ttft_ms": 15.0, "end_to_end_ms": 40.0, "decode_steps": 2,
    "stages": {"queue": 5.0, "prefill": 10.0, "decode": 24.0},
    "spans": [
        ["queue", 0.0, 3.0], ["prefill", 4.0, 10.0], ["queue", 14.0, 2.0], ["decode", 16.0, 12], ["decode", 28.0, 12.0],
    ],
    "beside": {"stream": 3.0},
}  # fmt: skip


def test_what_a_server_told_becomes_a_timing() -> None:
    found = Timing.of(SAID)
    assert (found.request_id, found.ttft_ms, found.decode_steps, found.cached_prompt_tokens) == ("r1", 15.0, 2, None)
    assert (found.total_ms, found.steps_ms, found.beside) == (39.0, (12.0, 12.0), {"stream": 3.0})


@pytest.mark.parametrize("absurd", [1e300, 2e12, HUGE, float("inf"), float("nan"), -1.0, "soon", True])
def test_a_number_that_is_no_time_is_left_out(absurd: object) -> None:
    odd = {name: absurd for name in SAID if isinstance(SAID[name], int | float)}
    found = Timing.of(
        odd | {"stages": {"queue": 5.0, "decode": absurd}, "beside": {"stream": absurd},
               "spans": [["queue", 0.0, 5.0], ["decode", absurd, 1.0], ["decode", 5.0, absurd]]}
    )  # fmt: skip
    assert found == Timing("", None, None, None, {"queue": 5.0}, spans=(Span("queue", 0.0, 5.0),))


def test_the_latest_moment_of_receiving_is_in_seconds() -> None:
    assert Timing.of(SAID | {"received_unix_s": 2e11, "ttft_ms": 2e11}).received_unix_s is None
    assert Timing.of(SAID | {"received_unix_s": 2e11, "ttft_ms": 2e11}).ttft_ms == 2e11


def test_the_critical_path_joins_neighbours_and_names_the_gaps() -> None:
    assert Timing.of(SAID).path() == (
        Piece("queue", 0.0, 3.0, 1),
        Piece("rest", 3.0, 1.0, 1),
        Piece("prefill", 4.0, 10.0, 1),
        Piece("queue", 14.0, 2.0, 1),
        Piece("decode", 16.0, 24.0, 2),
    )


def test_a_stage_counts_until_the_first_token_as_far_as_it_lies_before_it() -> None:
    found = Timing.of(SAID).before_first_token()
    assert found == {"queue": 4.0, "prefill": 10.0}  # the second wait of 2 ms began 1 ms before it


def test_without_spans_nothing_is_known_of_the_first_token() -> None:
    told = Timing.of({"stages": {"queue": 1.0}, "spans": [], "beside": {}})
    assert (told.before_first_token(), told.path(), told.steps_ms) == ({}, (), ())


def test_what_no_stage_accounts_for_is_left_over_and_given_to_nobody() -> None:
    one = request(told=timing({"queue": 10.0}, steps=(40.0,)))
    assert one.end_to_end_ms == pytest.approx(51.5)
    assert one.rest_ms == pytest.approx(1.0)
    assert one.accounted == pytest.approx(50.5 / 51.5)


def test_a_request_without_content_has_no_ttft_and_one_without_length_no_share() -> None:
    assert request(first_ns=None).ttft_ms is None
    one = request(end_ns=request().sent_ns)
    assert (one.end_to_end_ms, one.accounted) == (0.0, 0.0)


def test_a_timeline_holds_what_succeeded_and_told_in_the_order_of_sending() -> None:
    def sent(index: int, at_s: float, **changes: object) -> Request:
        return request(index, at_s, **changes)

    timeline = Timeline.of(
        [
            sent(3, 3.0),
            sent(1, 1.0),
            sent(2, 2.0, outcome="stalled"),
            sent(4, 0.5, timing=None),
            sent(5, 0.1, measured=False),
            sent(6, 0.2, outcome="cut_off"),
        ]
    )
    assert [one.index for one in timeline.requests] == [1, 3]
    assert (timeline.asked, timeline.failed, len(timeline)) == (5, 1, 2)


def test_the_stages_have_their_own_order_whoever_comes_first() -> None:
    short = Timing("a", None, None, 3.0, {"decode": 2.0, "of another server": 1.0, "queue": 1.0})
    full = Timing("b", None, None, 3.0, {"queue": 1.0, "prompt": 1.0, "prefill": 1.0, "retrieve": 1.0})
    timeline = Timeline.of([request(0, 0.0, short), request(1, 1.0, full)])
    assert timeline.stages == ("queue", "retrieve", "prompt", "prefill", "decode", "of another server")
    assert Timeline.of([]).stages == ()


def test_overlapping_spans_leave_no_negative_gap() -> None:
    spans = (Span("queue", 0.0, 10.0), Span("prefill", 5.0, 3.0), Span("decode", 12.0, 1.0))
    pieces = Timing("a", None, None, 13.0, {}, spans=spans).path()
    assert [piece.stage for piece in pieces] == ["queue", "prefill", "rest", "decode"]
    assert pieces[2] == Piece("rest", 10.0, 2.0, 1)
