"""Requests in a capture: which are whole, and what the slowest lose."""

from pathlib import Path

import pytest

from slipstream.profiling.nsys.answered import Answered
from slipstream.profiling.nsys.reading import read_export
from slipstream.profiling.nsys.requests import Range, Stretch, critical_path
from slipstream.profiling.nsys.results import read_reading
from tests.profiling.nsys.exports import Made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "capture.sqlite")


def test_requests_that_the_capture_cut_off_are_not_whole(made: Made) -> None:
    for payload in range(1, 11):
        made.request(payload, payload * 1000)
    made.begun("prefill", 0, 5, payload=50)  # began before the capture
    made.begun("decode", 5, 100, payload=50)
    made.begun("stream", 5, 103, payload=50)
    made.begun("queue", 11_000, 11_005, payload=51)  # the capture ended while it waited for the next stage
    made.pushed("embed", 11_005, 11_015, payload=51)
    made.begun("queue", 11_000, 11_005, payload=52)  # and while this one was in the engine
    made.begun("decode", 11_005, None, payload=52)
    requests = read_export(made.path).requests
    assert (requests.seen, requests.whole) == (13, 10)
    assert requests.p50_ms == pytest.approx(0.138)


def test_a_wait_for_the_engine_is_not_the_beginning_of_a_request(tmp_path: Path) -> None:
    """A request that had been prepared before the capture has a ``queue`` first, too, of another process."""
    made = Made(tmp_path / "two.sqlite", processes=(1, 2))
    for payload in range(1, 4):
        made.request(payload, payload * 1000)
    made.begun("queue", 0, 5, process=2, payload=9)
    made.begun("decode", 5, 100, payload=9)
    made.begun("stream", 5, 103, payload=9)
    requests = read_export(made.path).requests
    assert (requests.seen, requests.whole) == (4, 3)


def test_a_capture_of_nothing_whole_says_so(made: Made) -> None:
    made.begun("queue", 0, None, payload=1)
    made.pushed("step", 0, 5, payload=1)
    requests = read_export(made.path).requests
    assert (requests.seen, requests.whole, requests.p50_ms, requests.slowest, requests.excess) == (1, 0, None, (), ())


def test_the_slowest_hundredth_is_rounded_up(made: Made) -> None:
    for payload in range(1, 151):
        made.request(payload, payload * 1000, decode=100 + payload)
    requests = read_export(made.path).requests
    assert [one.payload for one in requests.slowest] == [150, 149]
    assert requests.p99_ms == pytest.approx((38 + 100 + 149) / 1000)


def test_what_the_slowest_lose_is_told_by_stage(made: Made) -> None:
    for payload in range(1, 51):
        made.request(payload, payload * 1000)
    made.request(60, 60_000, embed=410)
    excess = {one.stage: (one.usual_ms, one.slowest_ms) for one in read_export(made.path).requests.excess}
    assert next(iter(excess)) == "embed"
    assert excess["embed"] == pytest.approx((0.01, 0.41))
    assert excess["decode"] == pytest.approx((0.1, 0.1))
    assert excess["stream"] == pytest.approx((0.003, 0.003))  # what ran after the engine; the rest was beside it


def test_a_stage_that_few_went_through_is_usually_nothing(made: Made) -> None:
    for payload in range(1, 11):
        made.request(payload, payload * 1000)
    made.request(60, 60_000)
    made.pushed("retrieve", 60_008, 60_012, payload=60)
    made.begun("stream", 60_138, 60_900, payload=60)
    excess = {one.stage: (one.usual_ms, one.slowest_ms) for one in read_export(made.path).requests.excess}
    assert excess["retrieve"] == pytest.approx((0.0, 0.004))


def test_the_slowest_request_is_told_part_by_part_with_its_waits(made: Made) -> None:
    made.request(1, 1000)
    made.request(2, 5000, embed=200)
    made.call("pthread_cond_wait", 5010, 5180, thread=2)
    made.call("read", 5190, 5191, thread=2)
    made.pushed("step", 5230, 5260, thread=70, payload=1)
    made.call("sem_wait", 5235, 5255, thread=70)
    made.call("sem_wait", 1050, 1060, thread=70)  # in no step
    (slowest,) = read_export(made.path).requests.slowest
    assert (slowest.payload, slowest.start_ms, slowest.took_ms) == pytest.approx((2, 5.0, 0.328))
    told = [(part.stage, round(part.length_ms, 6), [call.function for call in part.calls]) for part in slowest.path]
    assert told == [
        ("queue", 0.005, []),
        ("embed", 0.2, ["pthread_cond_wait", "read"]),
        ("prefill", 0.02, []),
        ("decode", 0.1, ["sem_wait"]),
        ("stream", 0.003, []),
    ]
    assert slowest.path[1].calls[0].total_ms == pytest.approx(0.17)


def test_waits_of_a_stage_that_comes_in_pieces_are_summed_by_function(made: Made) -> None:
    made.begun("queue", 0, 10, payload=1)
    for piece in range(8):
        start = 10 + piece * 100
        made.pushed("stream", start, start + 100, payload=1)
        made.call("poll", start, start + 20)  # the longest of no piece, and of all together
        made.call(f"function{piece}", start + 20, start + 60)
    made.call("poll", 2000, 2500)  # after it
    (slowest,) = read_export(made.path).requests.slowest
    assert [part.stage for part in slowest.path] == ["queue", "stream"]
    calls = slowest.path[1].calls
    assert len(calls) == 3
    assert (calls[0].function, calls[0].times, calls[0].total_ms) == ("poll", 8, pytest.approx(0.16))
    assert {call.times for call in calls[1:]} == {1}


def test_the_steps_of_an_engine_are_one_part_and_short_gaps_none(made: Made) -> None:
    made.begun("queue", 0, 10, payload=1)
    made.begun("decode", 200, 300, payload=1)  # a gap of 190 us before it
    made.begun("decode", 320, 400, payload=1)  # and of 20 us
    made.begun("decode", 400, 500, payload=1)
    (slowest,) = read_export(made.path).requests.slowest
    assert [(part.stage, part.start_ms, part.length_ms) for part in slowest.path] == [
        ("queue", 0.0, 0.01),
        ("", 0.01, 0.19),
        ("decode", 0.2, 0.3),
    ]


@pytest.mark.parametrize(
    ("ranges", "path"),
    [
        ([], []),
        ([(0, 10, "queue", 1), (10, 20, "embed", 2)], [("queue", 0, 10), ("embed", 10, 20)]),
        ([(0, 10, "queue", 1), (15, 20, "embed", 2)], [("queue", 0, 10), ("", 10, 15), ("embed", 15, 20)]),
        ([(0, 100, "decode", 1), (20, 30, "stream", 2)], [("decode", 0, 100)]),
        ([(0, 100, "decode", 1), (90, 130, "stream", 2)], [("decode", 0, 100), ("stream", 100, 130)]),
        (
            [(0, 100, "retrieve", 1), (20, 30, "embed", 2)],
            [("retrieve", 0, 20), ("embed", 20, 30), ("retrieve", 30, 100)],
        ),
        ([(5, 5, "queue", 1), (5, 9, "embed", 2)], [("embed", 5, 9)]),
        ([(0, 20, "queue", 1), (5, 5, "embed", 2)], [("queue", 0, 20)]),
        ([(0, 20, "stream", 1), (5, 5, "decode", 2)], [("stream", 0, 20)]),
        ([(0, 0, "queue", 1), (5, 9, "embed", 2)], [("", 0, 5), ("embed", 5, 9)]),
    ],
)
def test_a_critical_path_has_one_stage_at_a_time(
    ranges: list[tuple[int, int, str, int]], path: list[tuple[str, int, int]]
) -> None:
    found = critical_path(Range(*one) for one in reversed(ranges))
    assert [(part.stage, part.start, part.end) for part in found] == path
    assert all(isinstance(part, Stretch) for part in found)


def test_what_the_load_saw_decides_which_are_whole(made: Made) -> None:
    for payload in range(1, 6):
        made.request(payload, payload * 1000)
    made.pushed("embed", 0, 10, payload=7)  # one of another kind than most
    requests = read_export(made.path, Answered(3, frozenset({1, 2, 7}))).requests
    assert (requests.seen, requests.whole, requests.answered) == (6, 3, 3)
    assert {one.payload for one in requests.slowest} <= {1, 2}


def test_where_the_load_saw_none_answered_none_is_whole(made: Made) -> None:
    """That it saw none is known; only where the server told no ids it is not known which."""
    for payload in range(1, 4):
        made.request(payload, payload * 1000)
    nothing, nameless = read_export(made.path, Answered(0)), read_export(made.path, Answered(3))
    assert (nothing.requests.seen, nothing.requests.whole, nothing.requests.answered) == (3, 0, 0)
    assert not any("the slowest" in note for note in nothing.notes)
    assert nameless.requests.whole == 3


def test_lost_ranges_are_told_by_what_the_load_saw(made: Made) -> None:
    for payload in range(1, 4):
        made.request(payload, payload * 1000)
    lost, whole = Answered(4, frozenset({1, 2, 3, 4})), Answered(3, frozenset({1, 2, 3}))
    assert any("4 requests were answered" in note for note in read_export(made.path, lost).notes)
    assert not any("were answered" in note for note in read_export(made.path, whole).notes)


def test_a_request_that_may_go_on_after_the_capture_is_not_whole(made: Made) -> None:
    """Old versions of nsys drop what is open at the end, so its last range looks like an end."""
    made.request(1, 1000)
    end = 1_000_000
    made.request(2, end - 200)  # ends 62 us before the capture does, and a step of it took 100 us
    made.request(3, end - 400)
    assert {one.payload for one in read_export(made.path).requests.slowest} == {1}
    assert read_export(made.path).requests.whole == 2


def test_a_reading_survives_being_written(made: Made, tmp_path: Path) -> None:
    made.request(1, 0)
    made.call("poll", 6, 8, thread=1)
    made.launch(1, 7, thread=1)
    made.kernel("gemm", 1, 9, 10)
    reading = read_export(made.path, Answered(2))
    assert reading.requests.slowest[0].path
    assert reading.gpu
    (tmp_path / "reading.json").write_text(reading.to_json())
    assert read_reading(tmp_path / "reading.json") == reading
