"""Shares of cores between two counts of the kernel's."""

from time import perf_counter, process_time

import pytest

from slipstream.profiling.telemetry.machine import Busy, Counters, between, memory, read_counters


def counters(at_s: float, *cores: tuple[float, float], switches: int = 0) -> Counters:
    return Counters(at_s, tuple(busy for busy, _ in cores), tuple(idle for _, idle in cores), switches)


def test_shares_are_of_the_time_between_two_looks() -> None:
    before = counters(10.0, (50.0, 100.0), (70.0, 10.0), switches=1000)
    now = counters(12.0, (50.5, 101.5), (72.0, 10.0), switches=1600)
    assert between(before, now) == Busy(cpu_share=2.5 / 4, busiest_core_share=1.0, context_switches_per_s=300)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (counters(10.0, (50.0, 100.0)), Busy(None, None, None)),
        (counters(11.0, (50.0, 100.0)), Busy(None, None, 0)),
        (counters(11.0, (51.0, 100.0), (1.0, 1.0)), Busy(None, None, 0)),
        (counters(11.0, (51.0, 99.9)), Busy(1.0, 1.0, 0)),
        (counters(11.0, (51.0, 101.0), switches=-5), Busy(0.5, 0.5, None)),
    ],
    ids=["the same moment", "no tick", "a core more", "idle went back, as waiting for disks may", "switches went back"],
)
def test_what_cannot_be_known_is_none(now: Counters, expected: Busy) -> None:
    assert between(counters(10.0, (50.0, 100.0)), now) == expected


def test_a_core_that_works_is_seen_on_this_machine() -> None:
    before, started, spent = read_counters(), perf_counter(), process_time()
    while process_time() - spent < 0.3:
        pass
    now = read_counters()
    busy = sum(now.busy_s) - sum(before.busy_s)
    assert busy >= 0.25, "the kernel counts in ticks of 10 ms, on each core"
    elapsed = perf_counter() - started
    assert sum(now.idle_s) - sum(before.idle_s) + busy == pytest.approx(elapsed * len(now.busy_s), rel=0.25, abs=0.1)
    found = between(before, now)
    assert found.cpu_share is not None
    assert found.busiest_core_share is not None
    assert 0 < found.cpu_share <= found.busiest_core_share <= 1


def test_memory_in_use_is_part_of_all() -> None:
    used, total = memory()
    assert 0 < used < total
