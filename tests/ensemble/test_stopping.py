"""Stop strings: found across pieces, never shown, and held back no longer than needed."""

from hypothesis import given
from hypothesis import strategies as st

from slipstream.ensemble.stopping import StopFilter


def test_a_stop_string_across_three_pieces_is_never_shown() -> None:
    stops = StopFilter(["\n\n##"])
    assert [stops.feed(piece) for piece in ("one\n", "\n#", "# two")] == ["one", "", ""]
    assert stops.stopped


def test_the_earliest_of_several_wins() -> None:
    stops = StopFilter(["c", "b"])
    assert stops.feed("abc") == "a"


def test_a_false_start_is_released() -> None:
    stops = StopFilter(["END"])
    assert stops.feed("the EN") == "the "
    assert stops.feed("vy") == "ENvy"
    assert not stops.stopped


def test_an_empty_stop_string_stops_nothing() -> None:
    stops = StopFilter(["", ""])
    assert stops.feed("text") == "text"


def test_what_was_held_at_the_end_comes_out() -> None:
    stops = StopFilter(["END"])
    assert stops.feed("E") == ""
    assert stops.flush() == "E"


@given(st.lists(st.text("ab", max_size=4), max_size=12), st.lists(st.text("ab", min_size=1, max_size=3), min_size=1))
def test_cutting_a_stream_equals_cutting_the_whole(pieces: list[str], wanted: list[str]) -> None:
    stops = StopFilter(wanted)
    shown = "".join(stops.feed(piece) for piece in pieces) + stops.flush()
    # A stream decides as soon as any stop string is complete, so compare with the first completed one.
    whole = "".join(pieces)
    ends = [whole.find(stop) + len(stop) for stop in wanted if stop in whole]
    assert stops.stopped == bool(ends)
    assert whole.startswith(shown)
    if not ends:
        assert shown == whole
    assert not any(stop in shown for stop in wanted)
