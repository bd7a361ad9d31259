"""What a capture says, typed: for the terminal, for ``reading.json`` and for a report to draw.

Times are milliseconds. Percentiles are nearest-rank: the least value that at least that share does not exceed.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from slipstream import InputError

CallKind = Literal["lock", "socket", "sleep", "file", "process", "other"]
GpuKind = Literal["kernel", "graph", "copy", "set"]


class NoReadingThere(InputError):
    """A file is no reading of a capture."""


@dataclass(frozen=True)
class StageTimes:
    """The closed ranges of one name.

    Attributes:
        ranges: how many there are.
        unclosed: how many more had begun and not ended when the capture did.
        requests: how many requests they belong to; None for those that belong to none (``step``).
        threads: how many threads they began on.
    """

    stage: str
    ranges: int
    unclosed: int
    requests: int | None
    threads: int
    total_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Calls:
    """Calls of one function of the system's libraries inside a stage, on the thread of its range."""

    stage: str
    function: str
    kind: CallKind
    times: int
    total_ms: float
    longest_ms: float


@dataclass(frozen=True)
class GpuWork:
    """What a stage put on a GPU: by the innermost range of the thread that launched it.

    Attributes:
        stage: empty for what was launched outside any.
        name: of the kernel, the number of the CUDA graph, or the direction of the copy.
        moved_bytes: of copies and sets; None for kernels and graphs.
    """

    stage: str
    kind: GpuKind
    name: str
    times: int
    total_ms: float
    longest_ms: float
    moved_bytes: int | None


@dataclass(frozen=True)
class Part:
    """A stretch of a request's critical path.

    Attributes:
        stage: empty where no range of the request was open.
        calls: those inside that took longest together; of ``prefill`` and ``decode`` those of the engine's steps
            meanwhile.
    """

    stage: str
    start_ms: float
    length_ms: float
    calls: tuple[Calls, ...] = ()


@dataclass(frozen=True)
class SlowRequest:
    """One of the slowest requests.

    Attributes:
        payload: that of its ranges, a hash of its id (`slipstream.profiling.spans.payload`).
        start_ms: since the capture began.
    """

    payload: int
    start_ms: float
    took_ms: float
    path: tuple[Part, ...]


@dataclass(frozen=True)
class Excess:
    """A stage on the critical path: of a usual request (the median), and of the slowest ones (the mean)."""

    stage: str
    usual_ms: float
    slowest_ms: float


@dataclass(frozen=True)
class Requests:
    """The requests in a capture.

    Attributes:
        seen: how many have a range in it.
        whole: how many began and ended in it.
        answered: how many the load generator saw begin and succeed meanwhile; None where it was another's load.
        slowest: the slowest 1% of the whole ones, slowest first; at most 20 of them are told.
        excess: of the slowest 1%, by what they lose most.
    """

    seen: int
    whole: int
    answered: int | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    slowest: tuple[SlowRequest, ...]
    excess: tuple[Excess, ...]


@dataclass(frozen=True)
class Reading:
    """A whole capture.

    Attributes:
        nsys: the version that exported it.
        schema: of the export, as it names itself.
        window_ms: how long was captured.
        processes: how many processes have ranges of ours.
        foreign_ranges: how many ranges of other domains were left out.
        calls: empty where the system's libraries were not traced.
        gpu: empty where there was none.
        notes: what a reader has to know about it.
    """

    nsys: str
    schema: str
    window_ms: float
    processes: int
    foreign_ranges: int
    stages: tuple[StageTimes, ...]
    calls: tuple[Calls, ...]
    gpu: tuple[GpuWork, ...]
    requests: Requests
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"


def read_reading(path: Path) -> Reading:
    """What `Reading.to_json` wrote.

    Raises:
        NoReadingThere: it is something else.
    """
    try:
        return _reading(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoReadingThere(f"{path} is no reading of a capture: {error!r}", "slipstream profile nsys") from error


def _reading(said: dict[str, Any]) -> Reading:
    requests = said.pop("requests")
    slowest = tuple(
        SlowRequest(
            **{**one, "path": tuple(Part(**{**part, "calls": _all(Calls, part["calls"])}) for part in one["path"])}
        )
        for one in requests.pop("slowest")
    )
    excess = _all(Excess, requests.pop("excess"))
    lists: dict[str, Any] = {
        "stages": _all(StageTimes, said.pop("stages")),
        "calls": _all(Calls, said.pop("calls")),
        "gpu": _all(GpuWork, said.pop("gpu")),
        "notes": tuple(said.pop("notes")),
    }
    return Reading(**said, **lists, requests=Requests(**requests, slowest=slowest, excess=excess))


def _all(kind: Any, rows: list[dict[str, Any]]) -> tuple[Any, ...]:
    return tuple(kind(**row) for row in rows)


__all__ = [
    "CallKind", "Calls", "Excess", "GpuKind", "GpuWork", "NoReadingThere", "Part", "Reading", "Requests", "SlowRequest",
    "StageTimes", "read_reading",
]  # fmt: skip
