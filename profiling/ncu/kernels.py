"""A kernel against the roof of its card.

Method: Williams, Waterman, Patterson 2009, "Roofline: An Insightful Visual Performance Model". A kernel can end no
sooner than its bytes at the card's bandwidth, nor than its operations at the rate of the unit that does them; whichever
takes longer is its bound, and the share of it that was reached is the share of that roof.

The tensor cores' operations are those that their data path counts (``sm__ops_path_tensor_src_*``), a multiply-add being
two. These counters overlap (a group of types and one of the group), so the busiest stands for all. Where a version
lacks them, the share of the tensor pipe's instructions is known and their operations are not.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from slipstream.profiling.ncu import work as counted
from slipstream.profiling.ncu.names import short_name
from slipstream.profiling.ncu.rows import Launch
from slipstream.profiling.ncu.work import Work

FILLED = 0.6
"""Below this share of either roof a kernel waits for neither: Nsight Compute's rule of the same name (SpeedOfLight.py)
calls it latency bound."""

Bound = Literal["memory", "compute", "latency", "unknown"]
_SCALAR = {"fp32": "f", "fp16": "h", "fp64": "d"}
_TENSOR = "tensor "
_PATH = re.compile(r"^sm__ops_path_tensor_src_(?P<type>\w+?)\.sum$")


@dataclass(frozen=True)
class Kernel:
    """All launches of one kernel.

    ``memory`` is in bytes of DRAM, ``arithmetic`` in operations by unit (``fp32``, ``tensor bf16``), ``tensor_pipe`` in
    instructions. What no launch could measure is missing.
    """

    name: str
    full_name: str
    calls: int
    seconds: float
    time_share: float
    memory: Work | None
    arithmetic: Mapping[str, Work]
    tensor_pipe: Work | None

    @property
    def operations_per_second(self) -> float | None:
        if not self.arithmetic:
            return None
        return sum(work.amount for work in self.arithmetic.values()) / self.seconds

    @property
    def intensity(self) -> float | None:
        """Operations per byte of DRAM."""
        if self.memory is None or not self.memory.amount or not self.arithmetic:
            return None
        return sum(work.amount for work in self.arithmetic.values()) / self.memory.amount

    @property
    def compute_share(self) -> float | None:
        """Of the roof of the unit that is nearest to its own."""
        units = dict(self.arithmetic)
        if self.tensor_pipe is not None and not self.counts_tensor:
            units["tensor pipe"] = self.tensor_pipe
        return max((work.share for work in units.values() if work.share is not None), default=None)

    @property
    def counts_tensor(self) -> bool:
        """Whether the tensor cores' operations are among those of ``arithmetic``."""
        return any(unit.startswith(_TENSOR) for unit in self.arithmetic)

    @property
    def bound(self) -> Bound:
        """The roof that it fills; *latency* if it fills none, *unknown* if it may fill one that was not measured."""
        memory, compute, nearest = self._memory_share, self.compute_share, self.roof_share
        is_all_seen = None not in (memory, compute) and (self.counts_tensor or self.tensor_pipe is not None)
        if nearest is None or nearest < FILLED:
            return "latency" if is_all_seen else "unknown"
        return "memory" if memory == nearest else "compute"

    @property
    def roof_share(self) -> float | None:
        """Of the time that the kernel took, how much its roof explains."""
        shares = (self._memory_share, self.compute_share)
        return max((share for share in shares if share is not None), default=None)

    @property
    def _memory_share(self) -> float | None:
        return self.memory.share if self.memory else None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kernel": self.name,
            "full_name": self.full_name,
            "calls": self.calls,
            "seconds": self.seconds,
            "time_share": self.time_share,
            "dram_bytes_per_second": self.memory and self.memory.per_second,
            "dram_share_of_peak": self.memory and self.memory.share,
            "operations_per_second": self.operations_per_second,
            "operations": {unit: work.amount for unit, work in self.arithmetic.items()},
            "compute_share_of_peak": self.compute_share,
            "operations_per_byte": self.intensity,
            "bound": self.bound,
            "share_of_roof": self.roof_share,
        }


def kernels_of(launches: Sequence[Launch]) -> tuple[Kernel, ...]:
    """The kernels of a capture, the one that took longest first.

    Raises:
        ReportUnreadable: a launch has no duration, or one in a unit that is none of time.
    """
    by_name: dict[str, list[Launch]] = {}
    for launch in launches:
        by_name.setdefault(launch.kernel, []).append(launch)
    total = sum(counted.seconds(launch) for launch in launches)
    kernels = [_kernel(name, found, total) for name, found in by_name.items()]
    return tuple(sorted(kernels, key=lambda kernel: -kernel.seconds))


def missing(kernels: Sequence[Kernel]) -> tuple[str, ...]:
    """What no kernel of a capture was measured for."""
    lacking = {
        "DRAM bytes (dram__bytes.sum)": all(kernel.memory is None for kernel in kernels),
        "operations (smsp__sass_thread_inst_executed_op_*)": not any(kernel.arithmetic for kernel in kernels),
        "operations of tensor cores (sm__ops_path_tensor_src_*)": not any(kernel.counts_tensor for kernel in kernels)
        and any(kernel.tensor_pipe is None or kernel.tensor_pipe.amount for kernel in kernels),
        "the memory's roof (dram__bytes.sum.peak_sustained)": any(
            kernel.memory is not None and kernel.memory.share is None for kernel in kernels
        ),
    }
    return tuple(what for what, is_lacking in lacking.items() if is_lacking)


def _kernel(name: str, launches: Sequence[Launch], total: float) -> Kernel:
    seconds = sum(counted.seconds(launch) for launch in launches)
    arithmetic: dict[str, Work] = {}
    for unit, letter in _SCALAR.items():
        work = _summed(launches, lambda one, letter=letter: counted.scalar(one, letter))  # type: ignore[misc]
        if work is not None:
            arithmetic[unit] = work
    arithmetic.update(_tensor(launches))
    return Kernel(
        name=short_name(name),
        full_name=name,
        calls=len(launches),
        seconds=seconds,
        time_share=seconds / total if total else 0.0,
        memory=_summed(launches, counted.memory),
        arithmetic=arithmetic,
        tensor_pipe=_summed(launches, counted.pipe),
    )


def _summed(launches: Sequence[Launch], work_of: Callable[[Launch], Work | None]) -> Work | None:
    """The work of the launches that could be measured; its roof only if each of them has one."""
    works = [work for work in map(work_of, launches) if work is not None and work.seconds > 0]
    if not works:
        return None
    roofs = [work.attainable for work in works]
    known = [roof for roof in roofs if roof is not None]
    return Work(
        sum(work.amount for work in works),
        sum(work.seconds for work in works),
        sum(known) if len(known) == len(roofs) else None,
    )


def _tensor(launches: Sequence[Launch]) -> dict[str, Work]:
    """The busiest path of the tensor cores."""
    types = {
        found["type"] for launch in launches for name in launch.metrics if (found := _PATH.match(name)) is not None
    }
    works = {
        _TENSOR + kind: _summed(launches, lambda one, kind=kind: counted.path(one, kind))  # type: ignore[misc]
        for kind in sorted(types)
    }
    busy = {unit: work for unit, work in works.items() if work is not None}
    if not busy:
        return {}
    most = max(busy, key=lambda unit: busy[unit].amount)
    return {most: busy[most]}


__all__ = ["FILLED", "Bound", "Kernel", "kernels_of", "missing"]
