"""What generations wait for, by the engine's gauges: a slot, or a place in the KV cache.

`waiting` counts generations without a slot. OpenVINO's pipeline takes a request into its slot before it has a place in
the cache, so those that it holds back are counted as active, and their wait as `prefill`: a full cache with a slot free
holds them, and nothing waits. A generation that waits while slots are free waits for the cache as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slipstream.profiling.diagnosis.case import Case, EngineLook
from slipstream.profiling.timeline.shares import Breakdown

FULL = 0.95
OFTEN = 0.2  # of the looks; a cache that is full for a moment has done its work
OWNS = 0.3  # of the time until the first token, in the slow tail
_LEAST_LOOKS = 3
_UNHINDERED = 0.1  # of all prefills, the fastest ones


@dataclass(frozen=True)
class Waits:
    """The engine's looks by what held generations then.

    Attributes:
        for_cache: it was full, and a slot was free or nobody waited for one.
        for_slot: generations waited, and it was for no place in the cache alone.
        slots: the most generations in the batch that the run has seen; how many there may be is not told.
    """

    for_cache: tuple[EngineLook, ...]
    for_slot: tuple[EngineLook, ...]
    slots: float

    @property
    def both(self) -> tuple[EngineLook, ...]:
        """A generation with a slot more would have found the cache full."""
        return tuple(look for look in self.for_slot if look.cache_usage_ratio >= FULL)


def waits(case: Case) -> Waits:
    """Of the looks while requests were in flight."""
    slots = max((look.active for look in case.engine), default=0.0)
    for_cache: list[EngineLook] = []
    for_slot: list[EngineLook] = []
    for look in case.gauges:
        if look.cache_usage_ratio >= FULL and (look.waiting < 1 or look.active < slots):
            for_cache.append(look)
        elif look.waiting >= 1:
            for_slot.append(look)
    return Waits(tuple(for_cache), tuple(for_slot), slots)


def often(some: Sequence[EngineLook], of: Sequence[EngineLook]) -> bool:
    """Whether ``some`` of the looks are more than a moment."""
    return len(some) >= max(_LEAST_LOOKS, OFTEN * len(of))


def held_ms(case: Case, first: Breakdown) -> float:
    """Of the slow tail: the queue, and how much longer its prefill was than that of the fastest tenth."""
    prefills = [timing.stages["prefill"] for timing in case.timeline.timings if "prefill" in timing.stages]
    usual = float(np.quantile(prefills, _UNHINDERED)) if prefills else 0.0
    return first.tail.stages.get("queue", 0.0) + max(first.tail.stages.get("prefill", 0.0) - usual, 0.0)


def said(first: Breakdown) -> str:
    """What was divided."""
    return "TTFT" if first.until == "first token" else "answer"


__all__ = ["FULL", "OWNS", "Waits", "held_ms", "often", "said", "waits"]
