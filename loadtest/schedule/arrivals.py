"""When requests are due: drawn from the seed before the run, whatever the server will do.

Every process is one of unit rate, stretched: the k-th arrival is where the integrated rate reaches the sum of the first
k gaps of mean 1 (Brown et al. 2002, "The time-rescaling theorem"). That is exact for a ramp too, without thinning.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from slipstream import InputError
from slipstream.loadtest.scenario import Constant, Gamma, Poisson, Ramp
from slipstream.loadtest.schedule.randomness import Purpose, stream_of

MOST_ARRIVALS = 1_000_000
"""A plan holds every request before the first is sent."""

_BLOCK = 4096  # of gaps drawn at once; part of the plan, because sums of floats depend on where they are cut

Drawn = Constant | Poisson | Gamma | Ramp


class TooManyArrivals(InputError):
    """The load has more requests than a plan holds."""


def draw_offsets(
    arrivals: Drawn, seed: int, *, warmup_s: float, duration_s: float | None, count: int | None
) -> NDArray[np.float64]:
    """Seconds since the start of the run at which requests are due, sorted, to the microsecond, shape ``(n,)``.

    They lie in ``[0, warmup_s + duration_s)``, and are at most ``count``; at least one of the two is given. A ramp
    holds its first rate during the warm-up, so that what is measured goes over the whole of it.

    Raises:
        TooManyArrivals: more than `MOST_ARRIVALS`.
    """
    end_s = math.inf if duration_s is None else warmup_s + duration_s
    most = MOST_ARRIVALS + 1 if count is None else min(count, MOST_ARRIVALS + 1)
    drawn = np.empty(0)
    for sums in _unit_sums(arrivals, seed):
        with np.errstate(
            over="ignore", divide="ignore", invalid="ignore"
        ):  # what a rate of next to nothing never reaches
            # Whole microseconds: the last bit of a logarithm differs between machines, a plan must not.
            offsets = np.round(_stretched(arrivals, sums, warmup_s, duration_s), 6)
        drawn = np.concatenate([drawn, offsets[offsets < end_s]])
        if len(drawn) >= most or not offsets[-1] < end_s:
            break
    if len(drawn[:most]) > MOST_ARRIVALS:
        raise too_many()
    return drawn[:most]


def too_many() -> TooManyArrivals:
    return TooManyArrivals(
        f"the load has more than {MOST_ARRIVALS:,} requests, and all are drawn before the first is sent",
        "give a lower rate, a shorter duration or fewer requests",
    )


def _unit_sums(arrivals: Drawn, seed: int) -> Iterator[NDArray[np.float64]]:
    """Sums of gaps with mean 1, without end, in blocks. A constant rate begins at 0, others after a first gap."""
    if isinstance(arrivals, Constant):
        for start in range(0, MOST_ARRIVALS + _BLOCK, _BLOCK):
            yield np.arange(start, start + _BLOCK, dtype=np.float64)
        return
    stream = stream_of(seed, Purpose.ARRIVALS)
    shape = arrivals.burstiness if isinstance(arrivals, Gamma) else 1.0
    reached = 0.0
    for _ in range(0, MOST_ARRIVALS + _BLOCK, _BLOCK):
        gaps = stream.standard_exponential(_BLOCK) if shape == 1 else stream.standard_gamma(shape, _BLOCK) / shape
        gaps[0] += reached
        sums = np.cumsum(gaps)
        reached = float(sums[-1])
        yield sums


def _stretched(
    arrivals: Drawn, sums: NDArray[np.float64], warmup_s: float, duration_s: float | None
) -> NDArray[np.float64]:
    """Where the integrated rate reaches ``sums``; infinite where it never does."""
    if not isinstance(arrivals, Ramp):
        return sums / arrivals.rate
    if duration_s is None:
        raise ValueError("a ramp goes over the run's duration")
    in_warmup = arrivals.start * warmup_s
    rest = np.maximum(sums - in_warmup, 0.0)
    slope = (arrivals.end - arrivals.start) / duration_s
    squared = arrivals.start**2 + 2 * slope * rest  # of the rate at that moment; below 0 where a falling rate ended
    # The root that does not cancel when the slope is small.
    ramped = warmup_s + 2 * rest / (arrivals.start + np.sqrt(squared))
    steady = sums / arrivals.start if arrivals.start else np.full_like(sums, math.inf)
    return np.where(sums < in_warmup, steady, np.where(squared > 0, ramped, math.inf))


__all__ = ["MOST_ARRIVALS", "TooManyArrivals", "draw_offsets", "too_many"]
