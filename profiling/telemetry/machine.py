"""How busy the cores of this machine are, and how full its memory is."""

from dataclasses import dataclass
from time import perf_counter

import psutil


@dataclass(frozen=True, slots=True)
class Counters:
    """What the kernel counted since it started: seconds of each core, and context switches of all of them."""

    at_s: float
    busy_s: tuple[float, ...]
    idle_s: tuple[float, ...]
    context_switches: int


@dataclass(frozen=True, slots=True)
class Busy:
    """What happened between two counts; None where a count went back or cores came and went."""

    cpu_share: float | None
    busiest_core_share: float | None
    context_switches_per_s: float | None


def read_counters() -> Counters:
    """Idle is what the kernel calls idle or waiting for disks; time that a hypervisor took away is busy."""
    busy, idle = [], []
    for core in psutil.cpu_times(percpu=True):
        # User time has that of guests in it already.
        whole = sum(core) - getattr(core, "guest", 0.0) - getattr(core, "guest_nice", 0.0)
        waiting = core.idle + getattr(core, "iowait", 0.0)
        busy.append(whole - waiting)
        idle.append(waiting)
    return Counters(perf_counter(), tuple(busy), tuple(idle), psutil.cpu_stats().ctx_switches)


def between(before: Counters, now: Counters) -> Busy:
    """Shares of the time between two counts."""
    seconds = now.at_s - before.at_s
    switches = now.context_switches - before.context_switches
    per_s = switches / seconds if seconds > 0 and switches >= 0 else None
    if len(before.busy_s) != len(now.busy_s):
        return Busy(None, None, per_s)
    busy = [max(0.0, later - first) for first, later in zip(before.busy_s, now.busy_s, strict=True)]
    idle = [max(0.0, later - first) for first, later in zip(before.idle_s, now.idle_s, strict=True)]
    if not sum(busy) + sum(idle):  # looked at twice within a tick of the kernel's
        return Busy(None, None, per_s)
    shares = [one / (one + rest) for one, rest in zip(busy, idle, strict=True) if one + rest]
    return Busy(sum(busy) / (sum(busy) + sum(idle)), max(shares), per_s)


def memory() -> tuple[int, int]:
    """Bytes in use and in all."""
    found = psutil.virtual_memory()
    return found.used, found.total


__all__ = ["Busy", "Counters", "between", "memory", "read_counters"]
