"""When a point may end early: only where the verdict over all of its requests is certain, or its queue only grows."""

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from slipstream.loadtest.capacity.stopping import ALIKE, Watcher, misses_that_refute
from slipstream.loadtest.sample import Sample
from slipstream.loadtest.statistics.binomial import decide
from tests.loadtest.capacity.queueing import served
from tests.loadtest.simulated import failed, request, scenario

ENOUGH = 24  # of 208


def write(path: Path, samples: Sequence[Sample], ending: str = "\n") -> None:
    with path.open("a") as file:
        file.write("\n".join(sample.to_line() for sample in samples) + ending)


def late(index: int) -> Sample:
    return request(index, 10 + index / 10, ttft=0.9)


def test_as_many_misses_as_refute_the_whole_even_if_four_say_no_more_than_one() -> None:
    assert misses_that_refute(208, 0.95, 0.95) == ENOUGH
    assert decide(ENOUGH / ALIKE, 208 / ALIKE, 0.95, 0.95) == "FAIL"
    assert decide((ENOUGH - 1) / ALIKE, 208 / ALIKE, 0.95, 0.95) == "INCONCLUSIVE"
    assert misses_that_refute(2, 0.95, 0.95) is None


@given(st.integers(20, 500), st.sampled_from([0.5, 0.9, 0.95, 0.99]), st.data())
def test_a_point_that_is_stopped_would_have_failed_whatever_came(
    requests: int, quantile: float, data: st.DataObject
) -> None:
    least = misses_that_refute(requests, quantile, 0.95)
    if least is None:
        return
    ran = data.draw(st.integers(least, requests))
    assert decide(least, ran, quantile, 0.95) == "FAIL"  # as it stands where it was stopped
    assert decide(least, requests, quantile, 0.95) == "FAIL"  # none of the rest missed


def test_it_ends_with_the_miss_that_refutes_and_not_before(tmp_path: Path) -> None:
    watcher = Watcher(scenario(), tmp_path / "samples.jsonl", 208)
    assert not watcher.look()  # nothing was written yet
    write(tmp_path / "samples.jsonl", [late(index) for index in range(ENOUGH - 1)])
    assert not watcher.look()
    write(tmp_path / "samples.jsonl", [late(ENOUGH - 1)], ending="")
    assert not watcher.look()  # the line is not whole
    write(tmp_path / "samples.jsonl", [])
    assert watcher.look()
    assert watcher.reason == "refuted"


def test_failed_requests_are_misses_and_those_of_the_warm_up_or_cut_off_are_not(tmp_path: Path) -> None:
    watcher = Watcher(scenario(), tmp_path / "samples.jsonl", 208)
    warm = [request(index, index / 10, ttft=0.9) for index in range(40)]
    away = [request(index, 10, ttft=0.9, outcome="disconnected") for index in range(40, 80)]
    write(tmp_path / "samples.jsonl", [*warm, *away, *(failed(index, 10) for index in range(80, 79 + ENOUGH))])
    assert not watcher.look()
    write(tmp_path / "samples.jsonl", [failed(79 + ENOUGH, 10)])
    assert watcher.look()


def test_what_holds_is_never_ended_early(tmp_path: Path) -> None:
    watcher = Watcher(scenario(), tmp_path / "samples.jsonl", 208)
    for start in range(0, 208, 8):
        write(tmp_path / "samples.jsonl", [request(index, 10 + index / 10) for index in range(start, start + 8)])
        assert not watcher.look()


def test_a_queue_that_grows_ends_it_though_no_slo_is_missed(tmp_path: Path) -> None:
    patient = scenario(slos=[{"metric": "ttft", "bound_ms": 1_000_000}])
    watcher = Watcher(patient, tmp_path / "samples.jsonl", 240)
    samples = served(2.0, 4, 1)
    for start in range(0, len(samples), 10):
        write(tmp_path / "samples.jsonl", samples[start : start + 10])
        if watcher.look():
            break
    assert watcher.reason == "saturated"
    assert start < 200


def test_those_behind_a_request_that_has_not_ended_wait_to_be_looked_at(tmp_path: Path) -> None:
    """They would be the lucky ones."""
    patient = scenario(slos=[{"metric": "ttft", "bound_ms": 1_000_000}])
    watcher = Watcher(patient, tmp_path / "samples.jsonl", 240)
    first, *others = served(2.0, 4, 1)
    write(tmp_path / "samples.jsonl", others)
    assert not watcher.look()
    write(tmp_path / "samples.jsonl", [first])
    assert watcher.look()
