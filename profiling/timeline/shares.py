"""Which stage the time of requests went to: of all of them, and of the slowest.

A stage owns the slow tail where most of what makes the tail slower than all requests lies in it. The largest share
alone would name the decoding of every answer: it takes the most time of the fast ones, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from slipstream.loadtest.report.stages import REST
from slipstream.loadtest.statistics.order import quantile_rank
from slipstream.profiling.timeline.model import Request, Timeline

LEVELS = (0.5, 0.95, 0.99)
TAILS = (0.05, 0.01)


@dataclass(frozen=True)
class Group:
    """Some requests together.

    Attributes:
        name: which of them.
        count: how many.
        mean_ms: of the time that is divided.
        stages: mean milliseconds by stage, ``rest`` among them, in the server's order.
    """

    name: str
    count: int
    mean_ms: float
    stages: Mapping[str, float]

    def share(self, stage: str) -> float:
        """Of the time that is divided."""
        return self.stages.get(stage, 0.0) / self.mean_ms if self.mean_ms > 0 else 0.0


@dataclass(frozen=True)
class Breakdown:
    """The time until ``until``, of all requests and of the slowest of them by that very time.

    Attributes:
        until: ``end`` of the answer, or its ``first token``.
        every: all requests.
        tails: the slowest, each with the share of requests that it holds.
    """

    until: str
    every: Group
    tails: tuple[tuple[float, Group], ...]

    @property
    def tail(self) -> Group:
        """The widest of the tails, which rests on the most requests."""
        return self.tails[0][1]

    def grown_ms(self, stage: str) -> float:
        """How much more of ``stage`` the tail has than all requests."""
        return self.tail.stages.get(stage, 0.0) - self.every.stages.get(stage, 0.0)

    @property
    def owner(self) -> str:
        """The stage in which most of the tail's slowness lies; where nothing grew, the largest."""
        return max(self.tail.stages, key=lambda stage: (round(self.grown_ms(stage), 6), self.tail.stages[stage]))


@dataclass(frozen=True)
class StageRow:
    """Milliseconds of one stage over the requests that went through it, at each of `LEVELS`."""

    stage: str
    count: int
    mean_ms: float
    at_ms: tuple[float, ...]


def stage_rows(timeline: Timeline) -> tuple[StageRow, ...]:
    """Of every stage, in the server's order."""
    return tuple(
        row(stage, [timing.stages[stage] for timing in timeline.timings if stage in timing.stages])
        for stage in timeline.stages
    )


def row(stage: str, milliseconds: Sequence[float]) -> StageRow:
    """Of the values [n], one at least; a percentile is the value at its rank, never between two."""
    values = np.sort(np.asarray(milliseconds, np.float64))
    at = tuple(float(values[quantile_rank(len(values), level) - 1]) for level in LEVELS)
    return StageRow(stage, len(values), float(values.mean()), at)


def breakdowns(timeline: Timeline) -> tuple[Breakdown, ...]:
    """Of the whole time, and where the server told spans, of the time until the first token."""
    if not len(timeline):
        return ()
    whole = breakdown("end", timeline.requests, timeline.stages, lambda request: request.end_to_end_ms, _stages)
    first = [request for request in timeline.requests if request.ttft_ms is not None and _until_first(request)]
    if not first:
        return (whole,)
    return (
        whole,
        breakdown("first token", first, timeline.stages, lambda request: request.ttft_ms or 0.0, _until_first),
    )


def breakdown(
    until: str,
    requests: Sequence[Request],
    stages: Sequence[str],
    total_ms: Callable[[Request], float],
    parts: Callable[[Request], Mapping[str, float]],
) -> Breakdown:
    """Of one request at least.

    Args:
        total_ms: the time that is divided, as the client measured it.
        parts: milliseconds of it by stage.
    """
    slowest = sorted(requests, key=total_ms, reverse=True)
    tails = tuple(
        (share, _group(f"slowest {100 * share:g}%", slowest[: ceil(share * len(slowest))], stages, total_ms, parts))
        for share in TAILS
    )
    return Breakdown(until, _group("all requests", slowest, stages, total_ms, parts), tails)


def _group(
    name: str,
    requests: Sequence[Request],
    stages: Sequence[str],
    total_ms: Callable[[Request], float],
    parts: Callable[[Request], Mapping[str, float]],
) -> Group:
    mean = sum(map(total_ms, requests)) / len(requests)
    told = [parts(request) for request in requests]
    means = {stage: sum(one.get(stage, 0.0) for one in told) / len(told) for stage in stages}
    rest = mean - sum(means.values())
    return Group(name, len(requests), mean, means | ({REST: rest} if rest > 0 else {}))


def _stages(request: Request) -> Mapping[str, float]:
    return request.timing.stages if request.timing else {}


def _until_first(request: Request) -> Mapping[str, float]:
    return request.timing.before_first_token() if request.timing else {}


__all__ = ["LEVELS", "TAILS", "Breakdown", "Group", "StageRow", "breakdown", "breakdowns", "row", "stage_rows"]
