"""Messages arrive whole and in order however the stream is cut, and the end of the other side is seen."""

import socket
from collections.abc import Iterator

import pytest

from slipstream.engines.openvino.link import Link


@pytest.fixture
def ends() -> Iterator[tuple[Link, socket.socket]]:
    ours, theirs = socket.socketpair()
    link = Link(ours)
    with theirs:
        yield link, theirs
    link.release()


def test_the_end_of_the_other_side_is_seen_and_a_half_message_is_dropped(ends: tuple[Link, socket.socket]) -> None:
    link, other = ends
    other.sendall(b'["ready"]\n["hal')
    other.shutdown(socket.SHUT_WR)
    assert link.receive() == [["ready"]]
    assert link.receive() is None
    assert link.receive(wait=False) is None


def test_sending_to_nobody_is_an_error(ends: tuple[Link, socket.socket]) -> None:
    link, other = ends
    other.close()
    with pytest.raises(OSError, match="Broken pipe"):
        link.send(["ready"])


def test_nothing_yet_is_told_without_waiting(ends: tuple[Link, socket.socket]) -> None:
    assert ends[0].receive(wait=False) == []


def test_messages_are_whole_however_the_stream_is_cut(ends: tuple[Link, socket.socket]) -> None:
    link, other = ends
    other.sendall(b'["cancel",1]\n["cancel",2]\n["can')
    assert link.receive() == [["cancel", 1], ["cancel", 2]]
    other.sendall(b'cel"')
    assert link.receive(wait=False) == []
    other.sendall(b",3]\n")
    assert link.receive() == [["cancel", 3]]


def test_a_text_with_line_breaks_crosses(ends: tuple[Link, socket.socket]) -> None:
    link, other = ends
    far = Link(other)
    link.send(["broken", "first\nsecond \u0416"])
    assert far.receive() == [["broken", "first\nsecond \u0416"]]
