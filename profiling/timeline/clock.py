"""The server's moments on the client's clock.

On one machine both go by one clock: the server's wall-clock moment of receiving, less the offset that the client's two
clocks had when the run began. Whether the clocks agree is seen: a request is received after it was sent, and its first
token leaves the server before the client has it. Where that does not hold, the server's moments are set so that the
first token leaves when it arrives, which hides how long the network took.

On a crowded machine the server may wait for a core between writing a token and noting when, and the client has it
before. Where it is known that it is one machine, only a clock that was set during the run is told from that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from slipstream.loadtest.statistics.order import quantile_rank
from slipstream.profiling.timeline.model import Request, Timeline

_TOLERANCE_NS = 2_000_000  # wall clocks are slewed, and a client notices a chunk some time after it came
_MOST_OUT_OF_ORDER = 0.05
_MOST_OUT_OF_ORDER_HERE = 0.5
_SET_NS = 1_000_000_000  # no wait for a core is as long, so a single one says that the clock was set

Joined = Literal["one clock", "aligned by TTFT"]


@dataclass(frozen=True)
class Agreement:
    """How far client and server agree, over the requests that tell it.

    Attributes:
        joined: how the server's moments were put on the client's clock.
        accounted: share of the end-to-end time that the stages sum to: least, median, most.
        within: share of the requests for which they sum to it within 3%.
        ttft_apart_ms: client's TTFT less the server's: median, p95 and most of its absolute value; None without any.
    """

    joined: Joined
    accounted: tuple[float, float, float]
    within: float
    ttft_apart_ms: tuple[float, float, float] | None


def received_ns(timeline: Timeline, offset_ns: int, *, is_here: bool = False) -> tuple[tuple[int | None, ...], Joined]:
    """When the server received each request [n], on the client's clock; None: it cannot be said.

    Args:
        offset_ns: the client's wall clock less its monotonic one.
        is_here: the server is known to run on the client's machine.
    """
    by_clock = [_by_clock(request, offset_ns) for request in timeline.requests]
    apart = [
        _out_of_order_ns(request, at) for request, at in zip(timeline.requests, by_clock, strict=True) if at is not None
    ]
    wrong = sum(one > _TOLERANCE_NS for one in apart)
    most = _MOST_OUT_OF_ORDER_HERE if is_here else _MOST_OUT_OF_ORDER
    if apart and wrong <= most * len(apart) and not (is_here and max(apart) >= _SET_NS):
        return tuple(by_clock), "one clock"
    return tuple(_by_ttft(request) for request in timeline.requests), "aligned by TTFT"


def _by_clock(request: Request, offset_ns: int) -> int | None:
    at = request.timing.received_unix_s if request.timing else None
    return None if at is None else round(at * 1e9) - offset_ns


def _out_of_order_ns(request: Request, received: int) -> int:
    """How long before it was sent it was received, or its first token seen before it left; 0 or less: in order."""
    first, told = request.first_ns, request.timing.ttft_ms if request.timing else None
    late = received - request.end_ns if first is None or told is None else received + round(told * 1e6) - first
    return max(request.sent_ns - received, late)


def _by_ttft(request: Request) -> int | None:
    told = request.timing.ttft_ms if request.timing else None
    if request.first_ns is None or told is None:
        return None
    return request.first_ns - round(told * 1e6)


def agreement(timeline: Timeline, joined: Joined) -> Agreement | None:
    """None without requests."""
    if not len(timeline):
        return None
    shares = np.sort([request.accounted for request in timeline.requests])
    apart = [
        request.ttft_ms - request.timing.ttft_ms
        for request in timeline.requests
        if request.ttft_ms is not None and request.timing is not None and request.timing.ttft_ms is not None
    ]
    return Agreement(
        joined=joined,
        accounted=(float(shares[0]), float(np.median(shares)), float(shares[-1])),
        within=float((np.abs(shares - 1) <= 0.03).mean()),
        ttft_apart_ms=_apart(apart) if apart else None,
    )


def _apart(differences: Sequence[float]) -> tuple[float, float, float]:
    sizes = np.sort(np.abs(differences))
    return (float(np.median(differences)), float(sizes[quantile_rank(len(sizes), 0.95) - 1]), float(sizes[-1]))


__all__ = ["Agreement", "Joined", "agreement", "received_ns"]
