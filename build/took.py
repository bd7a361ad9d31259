"""What a piece of work took: seconds, and the most memory this process held meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter

from pydantic import BaseModel, ConfigDict

_RESET_PEAK = "5"  # proc(5), clear_refs: "reset the peak resident set size to the process's current"


class Took(BaseModel):
    """``peak_memory_bytes`` is this process's highest resident size during the work; 0 where the kernel tells none."""

    model_config = ConfigDict(frozen=True)

    seconds: float = 0.0
    peak_memory_bytes: int = 0


class Stopwatch:
    """Holds what the work took once it is over."""

    took = Took()


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Measure what happens inside; nested uses would reset each other's peak."""
    started = perf_counter()
    _reset_peak()
    watch = Stopwatch()
    yield watch
    watch.took = Took(seconds=round(perf_counter() - started, 3), peak_memory_bytes=_peak_bytes())


def _reset_peak() -> None:
    with suppress(OSError):  # not Linux, or forbidden: the peak is that of the whole process then
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")


def _peak_bytes() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) * 1024


__all__ = ["Stopwatch", "Took", "stopwatch"]
