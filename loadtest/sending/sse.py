"""Server-sent events from blocks of bytes, as the HTML standard parses them (section 9.2, "Server-sent events")."""

from typing import NamedTuple


class Event(NamedTuple):
    """``kind`` is what ``event:`` says, empty without one; ``data`` its lines, joined by line feeds."""

    kind: str
    data: bytes


class EventReader:
    """Splits a stream that comes in any pieces.

    Lines end with LF or CRLF. A lone CR, which the standard also allows, would make every CR at the end of a block wait
    for the next one; no server of completions writes it.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._kind = ""
        self._data: list[bytes] = []
        self._is_first = True

    def feed(self, block: bytes) -> list[Event]:
        """The events that ``block`` completes."""
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        if self._is_first and lines:
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
            self._is_first = False
        return [event for line in lines if (event := self._line(line)) is not None]

    def close(self) -> list[Event]:
        """What a stream that ended leaves: an event without the empty line after it.

        The standard drops that; clients of completions take it, because servers leave the last line feeds out.
        """
        rest, self._rest = self._rest, b""
        return [event for line in (rest, b"") if (event := self._line(line)) is not None]

    def _line(self, line: bytes) -> Event | None:
        if line.endswith(b"\r"):
            line = line[:-1]
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b"event:"):
            self._kind = line[6:].strip().decode(errors="replace")
        elif line == b"data":
            self._data.append(b"")
        elif not line:
            kind, data = self._kind, self._data
            self._kind, self._data = "", []
            if data:
                return Event(kind, data[0] if len(data) == 1 else b"\n".join(data))
        return None  # a comment, an id, or a field that no one knows


__all__ = ["Event", "EventReader"]
