"""Whether the machine is ours while we measure: what everybody else takes of its processors."""

import os
import time
from collections.abc import Sequence

import psutil

from slipstream import EnvironmentFault

IDLE_SHARE = 0.05
"""Of all processors: what other processes may take for a machine to count as idle. A quiet desktop is well below."""

_WINDOW_S = 1.0


class MachineBusy(EnvironmentFault):
    """Other processes compute, and a comparison would tell of them."""


class Watch:
    """From its making on: CPU seconds of the machine, and of what we measure (this process and those of ``pids``)."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = [os.getpid(), *pids]
        self._started = time.perf_counter()
        self._all, self._ours = _machine_s(), self._ours_s()

    def others(self) -> float:
        """Share of all processors that others have had: other processes, the kernel, other virtual machines."""
        capacity = (time.perf_counter() - self._started) * (psutil.cpu_count() or 1)
        return max(0.0, (_machine_s() - self._all) - (self._ours_s() - self._ours)) / capacity

    def _ours_s(self) -> float:
        return sum(map(process_s, self._pids))


def wait_until_idle(pids: Sequence[int], patience_s: float) -> None:
    """Return once others leave the machine alone; this is the cool-down between measurements, too.

    Raises:
        MachineBusy: they did not for ``patience_s``.
    """
    deadline = time.monotonic() + patience_s
    while True:
        watch = Watch(pids)
        time.sleep(_WINDOW_S)
        share = watch.others()
        if share <= IDLE_SHARE:
            return
        if time.monotonic() >= deadline:
            load = psutil.getloadavg()[0]
            raise MachineBusy(
                f"other processes take {share:.0%} of the processors (load {load:.1f}); a comparison needs them idle",
                "stop them, or give --busy to measure all the same, with the share that others took in the table",
            )


def process_s(pid: int) -> float:
    """Seconds of processor time that a process has had."""
    return float(sum(psutil.Process(pid).cpu_times()[:2]))


def _machine_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)
