"""Triton's log file: where the running start begins in it, and the last error that it tells."""

from contextlib import suppress
from pathlib import Path

MOST_BYTES = 16 * 1024**2
"""A start finds at most that much before it; the part before the last cut stays beside it as ``.log.1``."""
_READ_BYTES = 256 * 1024
_TOLD_CHARACTERS = 600


class TritonLog:
    """The log at ``path``. Every start of Triton appends to it, after `begin`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = 0

    def cut(self) -> None:
        """Set what is there aside, in place of what was set aside before."""
        with suppress(FileNotFoundError):
            self.path.replace(self.path.with_suffix(".log.1"))

    def begin(self) -> None:
        """Remember that a start writes from here. A log that restarts have made long is cut."""
        self._start = self._size()
        if self._start > MOST_BYTES:
            self.cut()
            self._start = 0

    def last_error(self) -> str:
        """The last error since `begin`; empty if there is none."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(self._start, self._size() - _READ_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        told = [line for line in lines if _is_error(line)]
        return told[-1].partition("] ")[2].strip().strip('"')[:_TOLD_CHARACTERS] if told else ""

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0


def _is_error(line: str) -> bool:
    """Triton marks errors with ``E`` and the date; those about CUDA are usual on a machine without a GPU."""
    return line[:1] == "E" and line[1:5].isdigit() and "cuda" not in line.lower()
