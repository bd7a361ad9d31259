"""Client's and server's moments on one clock."""

import pytest

from slipstream.profiling.timeline.clock import agreement, received_ns
from slipstream.profiling.timeline.model import Timeline
from tests.profiling.made import START_NS, S, request, timing

OFFSET_NS = 1_700_000_000 * S  # wall clock less monotonic


def sent(count: int, received_after_s: float) -> Timeline:
    """Requests that the server says it received that long after they were sent."""
    return Timeline.of(
        [request(n, n, timing(received_unix_s=(START_NS + OFFSET_NS) / S + n + received_after_s)) for n in range(count)]
    )


def test_on_one_machine_both_go_by_one_clock() -> None:
    moments, joined = received_ns(sent(20, 0.0005), OFFSET_NS)
    assert joined == "one clock"
    for number, moment in enumerate(moments):
        assert moment == pytest.approx(START_NS + number * S + 500_000, abs=1_000)


@pytest.mark.parametrize("off_s", [-0.2, 0.2, 3600.0])
def test_a_server_with_another_clock_is_aligned_by_its_first_token(off_s: float) -> None:
    moments, joined = received_ns(sent(20, off_s), OFFSET_NS)
    assert joined == "aligned by TTFT"
    assert moments[3] == pytest.approx(START_NS + 3 * S + 1_000_000, abs=1_000)  # first token seen less its own TTFT


def test_one_moment_out_of_order_in_twenty_is_a_slewed_clock_and_no_other_machine() -> None:
    timeline = sent(40, 0.0005)
    odd = request(41, 41, timing(received_unix_s=0.0))
    assert received_ns(Timeline.of([*timeline.requests, odd]), OFFSET_NS)[1] == "one clock"
    many = [request(50 + n, 50 + n, timing(received_unix_s=0.0)) for n in range(5)]
    assert received_ns(Timeline.of([*timeline.requests, *many]), OFFSET_NS)[1] == "aligned by TTFT"


def test_on_a_machine_known_to_be_one_a_late_note_is_no_other_clock() -> None:
    """Three of ten firsts are noted 5 ms after the client has them: the server waited for a core in between."""
    late = [request(n, n, timing(received_unix_s=(START_NS + OFFSET_NS) / S + n + 0.006)) for n in range(3)]
    timeline = Timeline.of([*late, *sent(10, 0.0005).requests[3:]])
    assert received_ns(timeline, OFFSET_NS)[1] == "aligned by TTFT"
    moments, joined = received_ns(timeline, OFFSET_NS, is_here=True)
    assert joined == "one clock"
    assert moments[3] == pytest.approx(START_NS + 3 * S + 500_000, abs=1_000)


def test_a_clock_that_was_set_is_seen_even_there() -> None:
    assert received_ns(sent(20, -3.0), OFFSET_NS, is_here=True)[1] == "aligned by TTFT"


def test_a_clock_that_was_set_late_in_a_run_is_another_one_also_here() -> None:
    late = [request(n, n, timing(received_unix_s=(START_NS + OFFSET_NS) / S + n + 3600)) for n in range(12, 20)]
    timeline = Timeline.of([*sent(12, 0.0005).requests, *late])
    assert received_ns(timeline, OFFSET_NS, is_here=True)[1] == "aligned by TTFT"


def test_a_server_that_names_no_moment_is_aligned_and_one_without_first_token_cannot_be() -> None:
    timeline = Timeline.of([request(0, 0), request(1, 1, first_ns=None)])
    moments, joined = received_ns(timeline, OFFSET_NS)
    assert (joined, moments[1]) == ("aligned by TTFT", None)
    assert moments[0] is not None


def test_how_far_both_agree_is_told() -> None:
    whole = sent(9, 0.0005)
    halved = request(10, 10, timing(), end_ns=request(10, 10).end_ns + 300 * 1_000_000)
    found = agreement(Timeline.of([*whole.requests, halved]), "one clock")
    assert found is not None
    assert found.within == 0.9
    assert found.accounted[1] == pytest.approx(318.5 / 319.5)
    assert found.accounted[0] == pytest.approx(318.5 / 619.5)
    assert found.ttft_apart_ms == pytest.approx((1.0, 1.0, 1.0))
    assert agreement(Timeline.of([]), "one clock") is None
