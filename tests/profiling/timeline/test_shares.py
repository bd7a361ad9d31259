"""Which stage the time went to, of all requests and of the slowest."""

import pytest

from slipstream.profiling.timeline.model import Timeline
from slipstream.profiling.timeline.shares import breakdowns, row, stage_rows
from tests.profiling.made import USUAL, request, timing


def hundred() -> Timeline:
    """95 usual requests and 5 that waited 200 ms more in the queue; the slowest of all decoded longer, too."""
    usual = [request(n, n) for n in range(95)]
    slow = [request(95 + n, 95 + n, timing(USUAL | {"queue": 202.0})) for n in range(4)]
    return Timeline.of([*usual, *slow, request(99, 99, timing(USUAL | {"queue": 202.0}, steps=(20.0,) * 20))])


def test_the_tail_belongs_to_the_stage_that_makes_it_slow_and_not_to_the_largest() -> None:
    whole, first = breakdowns(hundred())
    assert (whole.until, first.until) == ("end", "first token")
    assert (whole.every.count, [group.count for _, group in whole.tails]) == (100, [5, 1])
    assert max(whole.tail.stages, key=whole.tail.share) == "decode"
    assert (whole.owner, first.owner) == ("queue", "queue")
    assert whole.grown_ms("queue") == pytest.approx(190.0)
    assert whole.tail.share("queue") == pytest.approx(202 / whole.tail.mean_ms)


def test_shares_and_rest_sum_to_the_whole() -> None:
    for breakdown in breakdowns(hundred()):
        for group in (breakdown.every, *(group for _, group in breakdown.tails)):
            assert sum(group.share(stage) for stage in group.stages) == pytest.approx(1.0)
            assert group.stages["rest"] == pytest.approx(1.0)  # half a millisecond each way


def test_until_the_first_token_no_decoding_counts() -> None:
    _, first = breakdowns(hundred())
    assert first.every.stages["decode"] == 0.0
    assert first.every.mean_ms == pytest.approx(78.0 + 10.0 + 1.0)


def test_where_nothing_grew_the_largest_stage_owns_the_tail() -> None:
    (whole, first) = breakdowns(Timeline.of([request()]))
    assert (whole.owner, first.owner) == ("decode", "prefill")
    assert breakdowns(Timeline.of([])) == ()


def test_without_spans_only_the_whole_answer_is_divided() -> None:
    told = timing()
    bare = type(told)("r", None, None, told.end_to_end_ms, told.stages)
    assert [one.until for one in breakdowns(Timeline.of([request(told=bare)]))] == ["end"]


def test_percentiles_of_a_stage_are_values_that_were_measured() -> None:
    found = row("queue", [float(n) for n in range(1, 101)])
    assert (found.count, found.mean_ms, found.at_ms) == (100, 50.5, (50.0, 95.0, 99.0))
    assert row("queue", [7.0]).at_ms == (7.0, 7.0, 7.0)


def test_a_stage_counts_over_those_that_went_through_it() -> None:
    declined = timing({"queue": 1.0, "embed": 9.0, "retrieve": 5.0}, steps=())
    rows = {one.stage: one for one in stage_rows(Timeline.of([request(0, 0), request(1, 1, declined)]))}
    assert (rows["queue"].count, rows["prefill"].count, rows["decode"].count) == (2, 1, 1)
    assert rows["retrieve"].at_ms == (5.0, 6.0, 6.0)
