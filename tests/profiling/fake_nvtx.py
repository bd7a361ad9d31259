"""NVTX's domain as `profiling.spans` uses it, writing down what arrives; real tools are in `tests/profiling/nsys`."""

from typing import Any


class RecordingDomain:
    """``open`` holds what has begun and not ended; ``ranges`` what has ended, as (name, payload)."""

    def __init__(self) -> None:
        self.ranges: list[tuple[str, int]] = []
        self.open: dict[int, tuple[str, int]] = {}
        self.pushed: list[tuple[str, int]] = []
        self._handles = 0

    def get_event_attributes(self, message: str, payload: int) -> Any:
        return message, payload

    def push_range(self, attributes: Any) -> None:
        self.pushed.append(attributes)

    def pop_range(self) -> None:
        self.ranges.append(self.pushed.pop())

    def start_range(self, attributes: Any) -> int:
        self._handles += 1
        self.open[self._handles] = attributes
        return self._handles

    def end_range(self, handle: int) -> None:
        self.ranges.append(self.open.pop(handle))
