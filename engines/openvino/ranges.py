"""The NVTX ranges of the requests in an engine: waiting, reading the prompt, and each step that brought tokens."""

from slipstream.profiling.spans import Open, Stage, begin, is_traced


class Ranges:
    """One open range per request at most; where no tool listens, nothing is kept."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[str, Open]] = {}

    def enter(self, number: int, stage: Stage, request_id: str) -> None:
        """End what request ``number`` was in and begin ``stage``."""
        if is_traced():
            self.leave(number)
            self._open[number] = request_id, begin(stage, request_id)

    def advance(self, number: int, *, is_last: bool) -> None:
        """A step brought something for the request; unless it was the last, the next decode step begins."""
        if not is_traced():
            return
        found = self._open.get(number)
        self.leave(number)
        if found is not None and not is_last:
            self.enter(number, "decode", found[0])

    def leave(self, number: int) -> None:
        """End what the request was in, if anything."""
        if self._open and (found := self._open.pop(number, None)) is not None:
            found[1].end()
