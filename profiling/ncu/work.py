"""What one launch of a kernel did, and what the card could have done meanwhile, from its counters.

Operations and roofs are those of Nsight Compute's own roofline sections: additions + multiplications + 2 × fused
multiply-adds, counted where predicates held; ``peak_sustained`` per cycle × cycles per second, at the clocks of the
capture.
"""

from dataclasses import dataclass

from slipstream.profiling.ncu.faults import ReportUnreadable
from slipstream.profiling.ncu.names import short_name
from slipstream.profiling.ncu.rows import Launch

TIME = "gpu__time_duration.sum"
_AGAIN = "capture it again with --set roofline, or --set full"
_PIPE = "inst_executed_pipe_tensor"


@dataclass(frozen=True)
class Work:
    """What was done, in how many seconds, and how much the card could have done in them (None: it does not tell)."""

    amount: float
    seconds: float
    attainable: float | None

    @property
    def per_second(self) -> float:
        return self.amount / self.seconds

    @property
    def share(self) -> float | None:
        """Of the card's roof, 0..1."""
        return self.amount / self.attainable if self.attainable else None


def seconds(launch: Launch) -> float:
    value = launch.metrics.get(TIME)
    if value is None or value.unit != "second":
        said = "has no value" if value is None else f"is in {value.unit!r}"
        raise ReportUnreadable(f"{TIME} of {short_name(launch.kernel)} {said}", _AGAIN)
    return value.amount


def memory(launch: Launch) -> Work | None:
    total = _count(launch, "dram__bytes")
    amount = _read_and_written(launch) if total is None else total
    if amount is None:
        return None
    lasted = seconds(launch)
    peak, hertz = _get(launch, "dram__bytes.sum.peak_sustained"), _get(launch, "dram__cycles_elapsed.avg.per_second")
    share = _get(launch, "dram__throughput.avg.pct_of_peak_sustained_elapsed")
    if peak is not None and hertz is not None:
        return Work(amount, lasted, peak * hertz * lasted)
    return Work(amount, lasted, amount / share * 100 if share else None)


def _read_and_written(launch: Launch) -> float | None:
    """Releases from 2025 on call the directions ``op_read`` and ``op_write``."""
    for kind in ("", "op_"):
        both = [_count(launch, f"dram__bytes_{kind}{way}") for way in ("read", "write")]
        if None not in both:
            return sum(amount for amount in both if amount is not None)
    return None


def scalar(launch: Launch, letter: str) -> Work | None:
    """Operations of the ordinary units: additions, multiplications and two for a fused one."""
    counts = [_of_sm(launch, f"sass_thread_inst_executed_op_{letter}{kind}_pred_on") for kind in ("add", "mul", "fma")]
    if None in counts:
        return None
    additions, products, fused = (count for count in counts if count is not None)
    peak = _roof(launch, f"sass_thread_inst_executed_op_{letter}fma_pred_on")
    return Work(additions + products + 2 * fused, seconds(launch), None if peak is None else 2 * peak)


def pipe(launch: Launch) -> Work | None:
    count = _of_sm(launch, _PIPE)
    return None if count is None else Work(count, seconds(launch), _roof(launch, _PIPE))


def path(launch: Launch, kind: str) -> Work | None:
    name = f"ops_path_tensor_src_{kind}"
    count = _of_sm(launch, name)
    return None if count is None else Work(count, seconds(launch), _roof(launch, name))


def _of_sm(launch: Launch, name: str) -> float | None:
    """A counter that is summed over the multiprocessors, or over their quarters, which is the same."""
    for part in ("smsp", "sm"):
        count = _count(launch, f"{part}__{name}")
        if count is not None:
            return count
    return None


def _roof(launch: Launch, name: str) -> float | None:
    """How much of ``name`` the card could have done while the launch ran."""
    for part in ("sm", "smsp"):
        peak, hertz = _get(launch, f"{part}__{name}.sum.peak_sustained"), _hertz(launch, part)
        if peak is not None and hertz is not None:
            return peak * hertz * seconds(launch)
    return None


def _count(launch: Launch, name: str) -> float | None:
    """A counter's total: as such, from its rate in time, or from its rate in cycles, whichever was captured."""
    total, rate = _get(launch, f"{name}.sum"), _get(launch, f"{name}.sum.per_second")
    if total is not None:
        return total
    if rate is not None:
        return rate * seconds(launch)
    per_cycle, hertz = _get(launch, f"{name}.sum.per_cycle_elapsed"), _hertz(launch, name.split("__", 1)[0])
    return None if per_cycle is None or hertz is None else per_cycle * hertz * seconds(launch)


def _hertz(launch: Launch, part: str) -> float | None:
    return _get(launch, f"{part}__cycles_elapsed.avg.per_second")


def _get(launch: Launch, name: str) -> float | None:
    value = launch.metrics.get(name)
    if value is None:
        return None
    if "bytes" in name and not value.unit.startswith("byte"):
        raise ReportUnreadable(f"{name} of {short_name(launch.kernel)} is in {value.unit!r}", _AGAIN)
    return value.amount


__all__ = ["TIME", "Work", "memory", "path", "pipe", "scalar", "seconds"]
