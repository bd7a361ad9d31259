"""In which order runs go, what seeds they draw, and what is left of a comparison that was ended."""

import pytest

from slipstream.loadtest.comparison.record import RunRecord, Status
from slipstream.loadtest.comparison.rounds import estimated_s, left, turns
from slipstream.loadtest.comparison.sides import Letter
from tests.loadtest.comparison.recorded import record
from tests.loadtest.simulated import scenario


def test_rounds_go_a_b_b_a_and_share_a_seed_that_no_other_has() -> None:
    found = turns(4, 100, own_seeds=False)
    assert "".join(turn.letter for turn in found) == "ABBAABBA"
    assert [turn.seed for turn in found] == [100, 100, 101, 101, 102, 102, 103, 103]


def test_one_server_never_draws_a_seed_twice() -> None:
    seeds = [turn.seed for turn in turns(5, 7, own_seeds=True)]
    assert len(set(seeds)) == 10


def ran(number: int, letter: Letter, status: Status = "complete") -> RunRecord:
    return RunRecord(number, letter, 1, f"round-{number}-{letter}", status)


def test_what_was_stopped_or_void_is_done_again_and_what_is_complete_is_not() -> None:
    begun = record(rounds=3, runs=(ran(1, "A"), ran(1, "B"), ran(2, "B", "void"), ran(2, "A", "stopped"), ran(3, "A")))
    assert [(turn.round, turn.letter) for turn in left(begun)] == [(2, "B"), (2, "A"), (3, "B")]
    assert [(a.round, b.round) for a, b in begun.pairs()] == [(1, 1)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"warmup": 5, "duration": 60}, 65.0),
        ({"duration": None, "requests": 100}, 10.0),
        ({"warmup": 5, "duration": 60, "requests": 100}, 10.0),
        ({"duration": None, "requests": 100, "arrivals": {"kind": "closed", "users": 2}}, None),
    ],
)
def test_how_long_a_run_takes_is_known_beforehand_or_said_to_be_unknown(
    changes: dict[str, object], expected: float | None
) -> None:
    assert estimated_s(scenario(**changes)) == expected
