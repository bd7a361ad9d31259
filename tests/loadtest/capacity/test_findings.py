"""What a point means for the search, from its files."""

from dataclasses import replace
from pathlib import Path

import pytest

from slipstream.loadtest.capacity.findings import tried
from slipstream.loadtest.capacity.record import Begun
from slipstream.loadtest.capacity.search import Tried
from tests.loadtest.capacity.queueing import served
from tests.loadtest.capacity.recorded import PLANNED, judged, requests
from tests.loadtest.simulated import scenario


@pytest.mark.parametrize(("misses", "word"), [(0, "held"), (5, "held"), (6, "open"), (16, "open"), (17, "refuted")])
def test_a_whole_point_is_what_its_verdict_says(tmp_path: Path, misses: int, word: str) -> None:
    point = judged(tmp_path, requests(misses))
    assert (point.word, point.planned, point.stopped_s) == (word, PLANNED, None)
    assert tried([point]) == [Tried(10.0, word)]


def test_requests_that_are_late_together_say_less_than_as_many_others(tmp_path: Path) -> None:
    assert judged(tmp_path / "spread", requests(misses=20)).word == "refuted"
    assert judged(tmp_path / "together", requests(misses=20, together=True)).word == "open"
    assert judged(tmp_path / "many", requests(misses=60, together=True)).word == "refuted"


def test_a_point_that_was_stopped_is_refuted_by_the_misses_that_refute_all_of_it(tmp_path: Path) -> None:
    """23 misses in 24 requests are a FAIL of those; of the 208 that were planned they need not be."""
    assert judged(tmp_path, requests(misses=24, together=True), stopped_s=9.5).word == "refuted"
    point = judged(tmp_path, requests(misses=23, together=True), stopped_s=9.5)
    assert (point.result.slos[0].misses, point.word) == (23, "unfinished")


@pytest.mark.parametrize("was_killed", [False, True])
def test_a_point_that_was_stopped_never_holds(tmp_path: Path, was_killed: bool) -> None:
    point = judged(tmp_path, requests(), stopped_s=15.0, was_killed=was_killed)
    assert point.result.verdict == ("VOID" if was_killed else "PASS")
    assert point.word == "unfinished"
    assert tried([point]) == []


def test_a_queue_that_grew_refutes_what_the_slos_let_pass(tmp_path: Path) -> None:
    patient = scenario(slos=[{"metric": "ttft", "bound_ms": 1_000_000}])
    point = judged(tmp_path, served(1.6, 4, 3), load=patient)
    assert point.result.verdict == "PASS"
    assert (point.word, point.is_saturated) == ("refuted", True)


def test_what_was_stopped_for_its_queue_is_refuted_however_little_ran(tmp_path: Path) -> None:
    point = judged(tmp_path, requests(), Begun(1, 10.0, "point-01", "saturated"), stopped_s=9.0)
    assert (point.word, point.is_saturated) == ("refuted", True)


def test_a_generator_that_was_late_says_nothing(tmp_path: Path) -> None:
    late = [replace(one, sent_s=one.sent_s + 0.1, end_s=one.end_s + 0.1) for one in requests()]
    for one in late:
        one.chunk_s = [moment + 0.1 for moment in one.chunk_s]
    point = judged(tmp_path, late)
    assert point.word == "void"
    assert tried([point]) == []


def test_the_rate_at_which_requests_were_due_is_told(tmp_path: Path) -> None:
    assert judged(tmp_path, requests(rate=4.0)).offered_per_s == pytest.approx(4.0, rel=0.01)
