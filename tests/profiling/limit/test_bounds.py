"""Work and bounds against numbers that are worked out by hand."""

from dataclasses import replace

import pytest

from slipstream.profiling.limit.bounds import tpot_bound, ttft_bound
from slipstream.profiling.limit.cards import CARDS, card_roof
from slipstream.profiling.limit.roof import Rate, Reading, Roof
from slipstream.profiling.limit.work import LimitUnknown, Load, Work

WORK = Work(
    weight_bytes=1000,
    row_bytes=10,
    parameters=800,
    head_parameters=300,
    kv_bytes_per_token=4.0,
    attention_width=6,
    tokens_per_step=1,
    arithmetic="fast",
    precision="u8",
)


def rate(best: float) -> Rate:
    return Rate(best, best / 2, best / 4)


def roof(bytes_per_s: float = 100.0, operations_per_s: float = 1e9) -> Roof:
    return Roof("a CPU", (Reading(0, rate(bytes_per_s)),), {"fast": rate(operations_per_s)})


def test_a_step_reads_the_weights_once_and_each_stream_its_row_and_its_cache() -> None:
    assert WORK.decode() == Load(1000 + 10, 2 * 800)
    assert WORK.decode(streams=3, context_tokens=50) == Load(1000 + 3 * (10 + 50 * 4), 3 * (2 * 800 + 4 * 6 * 50))


def test_a_prompt_needs_the_head_once_and_attends_what_is_before_each_position() -> None:
    # 4 positions attend 1 + 2 + 3 + 4 = 10.
    assert WORK.prefill(4) == Load(1000 + 4 * 10, 2 * (4 * 500 + 300) + 4 * 6 * 10)


def test_what_is_cached_is_read_and_not_computed() -> None:
    # Positions 3 and 4 attend 3 + 4 = 7, and the cache holds 2.
    assert WORK.prefill(4, cached_tokens=2) == Load(1000 + 2 * 10 + 2 * 4, 2 * (2 * 500 + 300) + 4 * 6 * 7)


@pytest.mark.parametrize("cached", [4, 5, 1000])
def test_the_last_position_is_computed_however_much_is_cached(cached: int) -> None:
    assert WORK.prefill(4, cached) == WORK.prefill(4, 3)


@pytest.mark.parametrize(("prompt", "cached"), [(0, 0), (-1, 0), (1, -1)])
def test_no_prompt_has_no_bound(prompt: int, cached: int) -> None:
    with pytest.raises(LimitUnknown):
        WORK.prefill(prompt, cached)


@pytest.mark.parametrize(("streams", "context"), [(0, 1), (-1, 1), (1, -1)])
def test_no_step_has_no_bound(streams: int, context: int) -> None:
    with pytest.raises(LimitUnknown):
        WORK.decode(streams, context)


def test_a_bound_is_the_longer_of_reading_and_computing() -> None:
    reading = tpot_bound(WORK, roof())
    assert reading is not None
    assert (reading.seconds, reading.by) == (1010 / 100, "memory bandwidth")
    computing = tpot_bound(WORK, roof(operations_per_s=10.0))
    assert computing is not None
    assert (computing.seconds, computing.by) == (1600 / 10, "compute")
    prompt = ttft_bound(WORK, roof(operations_per_s=10.0), 4, 2)
    assert prompt is not None
    assert prompt.seconds == (2 * (2 * 500 + 300) + 4 * 6 * 7) / 10


def test_a_step_that_verifies_proposals_may_give_them_all() -> None:
    work = replace(WORK, tokens_per_step=5)
    reading, computing = tpot_bound(work, roof()), tpot_bound(work, roof(operations_per_s=10.0))
    assert reading is not None
    assert computing is not None
    assert reading.seconds == 1010 / 100 / 5
    assert computing.seconds == 1600 / 10  # each is computed, whether it is accepted or not


def test_without_compute_a_bound_is_made_of_the_reading() -> None:
    bound = ttft_bound(WORK, Roof("a card", (Reading(0, rate(100.0)),)), 4)
    assert bound is not None
    assert (bound.seconds, bound.by, bound.operations_per_s) == (1040 / 100, "memory bandwidth", None)


def test_without_a_bandwidth_there_is_no_bound() -> None:
    assert tpot_bound(WORK, Roof("a card", ())) is None


def test_the_arithmetic_of_the_engine_is_what_counts() -> None:
    both = Roof("a CPU", (Reading(0, rate(1e9)),), {"fast": rate(100.0), "f32": rate(10.0)})
    fast, exact = tpot_bound(WORK, both), tpot_bound(replace(WORK, arithmetic="f32"), both)
    assert fast is not None
    assert exact is not None
    assert (fast.seconds, exact.seconds) == (16.0, 160.0)


def test_the_bandwidth_is_that_of_the_next_smaller_working_set() -> None:
    readings = tuple(Reading(size, rate(best)) for size, best in ((10, 90.0), (20, 50.0), (40, 30.0)))
    measured = Roof("a CPU", readings)
    told = {size: measured.bandwidth(size) for size in (1, 10, 19, 20, 39, 40, 1000)}
    assert {size: found.best for size, found in told.items() if found} == {
        1: 90.0, 10: 90.0, 19: 90.0, 20: 50.0, 39: 50.0, 40: 30.0, 1000: 30.0,
    }  # fmt: skip


def test_a_larger_working_set_that_came_out_faster_counts() -> None:
    disturbed = Roof("a CPU", (Reading(10, rate(90.0)), Reading(20, rate(20.0)), Reading(40, rate(30.0))))
    found = disturbed.bandwidth(20)
    assert found is not None
    assert found.best == 30.0


def test_cards_that_share_an_engine_read_and_compute_together() -> None:
    one, two = card_roof("h100", 1), card_roof("h100", 2)
    assert (one.readings[0].rate.best, two.readings[0].rate.best) == (3.35e12, 6.7e12)
    assert two.compute["8-bit"].best == 2 * 1979e12
    assert "not measured" in two.source


def test_of_a_card_that_nobody_knows_nothing_is_said() -> None:
    unknown = card_roof("custom", 1)
    assert (unknown.readings, unknown.compute) == ((), {})
    assert "not measured" in unknown.source


def test_every_card_that_is_planned_for_has_a_bandwidth() -> None:
    from slipstream.engines.tensorrt_llm.planning.cards import CARDS as PLANNED

    assert CARDS.keys() == PLANNED.keys()
