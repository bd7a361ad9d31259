"""A search from point to point: what ends it, and what it came to then."""

from collections.abc import Callable
from pathlib import Path

import pytest

from slipstream import EnvironmentFault
from slipstream.loadtest.capacity.findings import Point
from slipstream.loadtest.capacity.outcome import Capacity
from slipstream.loadtest.capacity.record import Begun, CapacityFolder, NoSearchThere
from slipstream.loadtest.capacity.searching import go_on
from tests.loadtest.capacity.recorded import conditions, judged, requests
from tests.loadtest.simulated import failed, scenario

TWO = [{"metric": "ttft", "bound_ms": 500}, {"metric": "tpot", "bound_ms": 60}]


class Server:
    """Misses nothing up to ``capacity``, and beyond it the more the faster it is asked."""

    def __init__(self, root: Path, capacity: float, at: dict[int, Callable[[], None]] | None = None) -> None:
        self._root, self._capacity, self._at = root, capacity, at or {}
        self.number = 0

    def __call__(self, rate: float) -> Point:
        self.number += 1
        self._at.get(self.number, lambda: None)()
        misses = 0 if rate <= self._capacity else min(208, int(30 * rate / self._capacity))
        return judged(self._root, requests(misses), Begun(self.number, rate, f"point-{self.number:02}"))


def raising(error: BaseException) -> Callable[[], None]:
    def throw() -> None:
        raise error

    return throw


def test_it_finds_the_rate_and_says_what_binds(tmp_path: Path) -> None:
    found = go_on(conditions(), [], Server(tmp_path, 23.0))
    assert found.verdict == "FOUND"
    assert found.exit_code == 0
    assert found.bracket.held is not None
    assert found.bracket.refuted is not None
    assert found.bracket.held <= 23 <= found.bracket.refuted <= found.bracket.held * 1.1
    assert found.sentence == "22.4 requests/s is proven, 23.9 requests/s is refuted; p95 TTFT ≤ 500 ms binds" or (
        "is proven" in found.sentence and "p95 TTFT ≤ 500 ms binds" in found.sentence
    )


def test_a_server_that_never_holds_fails(tmp_path: Path) -> None:
    found = go_on(conditions(max_time_s=1e9), [], Server(tmp_path, 0.0001))
    assert (found.verdict, found.exit_code) == ("FAIL", 1)
    assert found.sentence.startswith("not even 0.156 requests/s holds: it is refuted")


def test_no_point_begins_that_would_end_too_late(tmp_path: Path) -> None:
    times = iter(range(0, 10_000, 30))
    found = go_on(conditions(max_time_s=100), [], Server(tmp_path, 23.0), clock=lambda: float(next(times)))
    assert 1 <= len(found.points) <= 3
    assert (found.verdict, found.exit_code) == ("INCONCLUSIVE", 3)
    assert "would end after the 100 s of --max-time" in found.ended


def test_ctrl_c_ends_it_with_what_ran(tmp_path: Path) -> None:
    found = go_on(conditions(), [], Server(tmp_path, 23.0, {3: raising(KeyboardInterrupt())}))
    assert len(found.points) == 2
    assert (found.verdict, found.ended) == ("INCONCLUSIVE", "it was stopped")
    assert found.sentence == "20.0 requests/s is proven, and the limit lies above"


def test_a_point_that_somebody_stopped_ends_it(tmp_path: Path) -> None:
    def stopped(rate: float) -> Point:
        return judged(tmp_path, requests(), Begun(1, rate, "point-01"), stopped_s=9.0)

    found = go_on(conditions(), [], stopped)
    assert (found.verdict, found.ended, len(found.points)) == ("INCONCLUSIVE", "it was stopped", 1)


def test_a_server_that_goes_away_ends_it_with_the_reason(tmp_path: Path) -> None:
    away = raising(EnvironmentFault("nothing answers", "start it"))
    found = go_on(conditions(), [], Server(tmp_path, 23.0, {3: away}))
    assert (found.verdict, found.exit_code, found.ended) == ("VOID", 2, "nothing answers")
    assert found.bracket.held == 20.0
    with pytest.raises(EnvironmentFault):
        go_on(conditions(), [], Server(tmp_path, 23.0, {1: away}))


def test_a_generator_that_was_late_ends_it_with_the_reason(tmp_path: Path) -> None:
    def lagging(rate: float) -> Point:
        samples = requests()
        for one in samples:
            one.scheduled_s -= 0.1
        return judged(tmp_path, samples, Begun(1, rate, "point-01"))

    found = go_on(conditions(), [], lagging)
    assert (found.verdict, found.exit_code, len(found.points)) == ("VOID", 2, 1)
    assert "p99 of sent - scheduled is 101 ms" in found.ended


def test_it_goes_on_from_what_ran(tmp_path: Path) -> None:
    whole = go_on(conditions(), [], Server(tmp_path / "whole", 23.0))
    first = go_on(conditions(), [], Server(tmp_path / "parts", 23.0, {4: raising(KeyboardInterrupt())}))
    rest = go_on(conditions(), list(first.points), Server(tmp_path / "more", 23.0))
    assert [point.rate for point in rest.points] == [point.rate for point in whole.points]


def test_the_slo_binds_that_is_missed_most_beyond_what_it_allows(tmp_path: Path) -> None:
    slow = requests(misses=20)
    for one in slow[::2]:
        one.end_s += 1.0  # and half of them with a TPOT above 60 ms
    point = judged(tmp_path, slow, load=scenario(slos=TWO))
    assert Capacity((point,), 0.1).binds == "p95 TPOT ≤ 60 ms"


def test_misses_that_were_failures_are_told(tmp_path: Path) -> None:
    samples = requests()
    samples[-40:] = [failed(one.index, one.scheduled_s, "rate_limited") for one in samples[-40:]]
    point = judged(tmp_path, samples)
    assert Capacity((point,), 0.1).binds == "p95 TTFT ≤ 500 ms (40 of its 40 misses failed)"


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    folder, begun = CapacityFolder(tmp_path), [Begun(1, 3.0, "point-01"), Begun(2, 6.0, "point-02", "refuted")]
    folder.write(conditions(), begun, "it was stopped", {"anything": 1})
    assert folder.read() == (conditions(), begun, "it was stopped")


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"format": 2}', '{"format": 1, "begun": [{"rate": 1}]}'])
def test_a_folder_without_a_search_is_said(tmp_path: Path, text: str | None) -> None:
    folder = CapacityFolder(tmp_path)
    if text is not None:
        folder.record.write_text(text)
    with pytest.raises(NoSearchThere, match="holds no capacity search"):
        folder.read()
