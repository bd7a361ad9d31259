"""What the rules look at: timelines, machine, engine and limit, on one clock: seconds since the start of the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from slipstream.profiling.limit.work import Load
from slipstream.profiling.telemetry.records import Telemetry
from slipstream.profiling.timeline.model import Timeline, Timing
from slipstream.profiling.timeline.shares import Breakdown, breakdowns

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EngineLook:
    """The engine's own counters and gauges at a moment; counters are since it was loaded.

    Attributes:
        active: generations in the batch.
        waiting: generations without a slot.
        cache_usage_ratio: of the KV cache, 0..1.
        proposed, accepted: tokens of a speculative draft.
    """

    t_s: float
    active: float = 0.0
    waiting: float = 0.0
    cache_usage_ratio: float = 0.0
    steps: float = 0.0
    tokens: float = 0.0
    proposed: float = 0.0
    accepted: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkLimit:
    """What this machine cannot do faster with this bundle: the work of this profile's steps, and its roofs.

    Attributes:
        decode: a step of ``streams`` sequences, at the length that they had here.
        prefill: the prompt of the request whose prefill is nearest to the median in its share of the limit; None: no
            request told both how long its prompt was and how long reading it took.
        prefill_ms: what that took.
        memory_bytes_per_s, operations_per_s: measured on this machine.
    """

    decode: Load
    prefill: Load | None
    streams: int
    memory_bytes_per_s: float
    operations_per_s: float
    prefill_ms: float | None = None

    def least_ms(self, load: Load) -> float:
        """No machine with these roofs does it in less (Williams, Waterman and Patterson, Roofline, 2009)."""
        return max(self.reading_ms(load), 1e3 * load.operations / self.operations_per_s)

    def reading_ms(self, load: Load) -> float:
        """What reading alone takes."""
        return 1e3 * load.read_bytes / self.memory_bytes_per_s


@dataclass(frozen=True)
class Steps:
    """Decode steps as the requests saw them [n], one batch's step once for each request in it."""

    start_s: Floats
    length_ms: Floats
    request: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def end_s(self) -> Floats:
        ends: Floats = self.start_s + self.length_ms / 1e3
        return ends


@dataclass(frozen=True)
class Case:
    """One profile. What was not watched is empty, and then the rules that need it say nothing.

    Attributes:
        received_s: when the server received each request of the timeline; None: it cannot be said.
        telemetry: of the machine that serves; empty where the load was sent from another one.
        cores: of that machine.
    """

    timeline: Timeline
    received_s: Sequence[float | None] = ()
    telemetry: Sequence[Telemetry] = ()
    engine: Sequence[EngineLook] = ()
    limit: WorkLimit | None = None
    cores: int | None = None

    @cached_property
    def breakdowns(self) -> tuple[Breakdown, ...]:
        return breakdowns(self.timeline)

    @cached_property
    def until_first(self) -> Breakdown | None:
        """Where the time until the first token goes; of the whole answer where that is not known."""
        return self.breakdowns[-1] if self.breakdowns else None

    @cached_property
    def placed(self) -> tuple[tuple[int, float, Timing], ...]:
        """Every request whose moment is known: its place in the timeline, when it was received, what it told."""
        pairs = zip(self.received_s, self.timeline.requests, strict=False)
        return tuple(
            (place, at, request.timing)
            for place, (at, request) in enumerate(pairs)
            if at is not None and request.timing is not None
        )

    @cached_property
    def steps(self) -> Steps:
        """In the order in which they began."""
        found = [
            (at + span.start_ms / 1e3, span.length_ms, place)
            for place, at, timing in self.placed
            for span in timing.spans
            if span.stage == "decode"
        ]
        columns = np.array(sorted(found), np.float64).reshape(-1, 3)
        return Steps(columns[:, 0], columns[:, 1], columns[:, 2].astype(np.int64))

    @cached_property
    def busy_s(self) -> tuple[float, float]:
        """From when to when requests of the timeline were in flight."""
        starts = [at for _, at, _ in self.placed]
        ends = [at + (timing.end_to_end_ms or 0.0) / 1e3 for _, at, timing in self.placed]
        return (min(starts), max(ends)) if starts else (0.0, 0.0)

    @cached_property
    def looks(self) -> tuple[Telemetry, ...]:
        """At the machine while requests were in flight."""
        return tuple(look for look in self.telemetry if self.busy_s[0] <= look.t_s <= self.busy_s[1])

    @cached_property
    def gauges(self) -> tuple[EngineLook, ...]:
        """Of the engine while requests were in flight."""
        return tuple(look for look in self.engine if self.busy_s[0] <= look.t_s <= self.busy_s[1])

    def machine(self, name: str) -> Floats:
        """One quantity of the looks [n], those that tell it."""
        values = [value for look in self.looks if (value := getattr(look, name)) is not None]
        return np.array(values, np.float64)

    def processes(self) -> dict[str, float]:
        """Mean cores that the processes of each role used while requests were in flight."""
        used: dict[str, float] = {}
        for look in self.looks:
            for process in look.processes:
                used[process.role] = used.get(process.role, 0.0) + (process.cpu_share or 0.0)
        return {role: total / len(self.looks) for role, total in used.items()}


__all__ = ["Case", "EngineLook", "Floats", "Steps", "WorkLimit"]
