"""Whether a server fell behind during a point: its queue and its TTFT grew together, from block to block.

What grows without end holds no SLO for long, even where the run ended before the bound was reached. The measured
requests, in the order in which they were due, are cut into `BLOCKS` blocks; of each block the median number in flight
at an arrival, and the median TTFT. Medians of blocks, because neighbouring requests are alike and single ones extreme.
Both rows are tested for growth by Mann's test (*Nonparametric tests against trend*, Econometrica 13, 1945), one-sided:
`ASCENDING` of all pairs of blocks have to ascend. And both have to have grown by half at least from the first quarter
of the blocks to the last, since a test alone finds what is too small to matter.

A queue near its capacity wanders, and blocks cannot hide it altogether. Of 500 simulated points each of 208 requests
with 1, 4 and 16 slots, looked at three times (`LOOKS`): at 85% of the capacity 1% to 2% were called saturated, at 90%
2% to 8%, at 95% 7% to 11%, at 105% 30% to 37%, at 120% 80% to 82%, at 150% 99% to 100% (``python -m
tests.benchmarks.loadtest.verdicts`` prints it).
"""

from dataclasses import dataclass

import numpy as np

from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.statistics.order import Floats

BLOCKS = 8
ASCENDING = 26
"""Of the 28 pairs of blocks: by chance in 1 of 1,150 orders of independent ones, 35 of 8!."""
LEAST_GROWTH = 1.5
LOOKS = (0.5, 0.75, 1.0)
"""Shares of a point's requests after which it is looked at: who looks all the time sees growth in any queue."""
FEWEST = 4 * BLOCKS
"""Requests below which blocks are too small to have a median."""
_QUARTER = BLOCKS // 4


@dataclass(frozen=True)
class Growth:
    """From the first quarter of the measured requests to the last; medians.

    Attributes:
        is_saturated: both grew, and by more than chance.
    """

    is_saturated: bool
    first_in_flight: float
    last_in_flight: float
    first_ttft_s: float
    last_ttft_s: float


def growth(columns: Columns) -> Growth | None:
    """How queue and TTFT (of an answer in one piece: its end) went; None where too few requests are known.

    Of a run that was stopped, only what was due before the first request whose TTFT is not known: those behind it
    that are known would be the fast ones.
    """
    start = columns.scheduled_s
    ttft = (columns.first_s if columns.streamed else columns.end_s) - start
    unknown = np.flatnonzero(columns.is_cut_off & ~np.isfinite(ttft))
    known = np.zeros(len(columns), np.bool_)
    known[: unknown[0] if len(unknown) else None] = True
    rows = known & columns.measured & np.isfinite(ttft)
    if rows.sum() < FEWEST:
        return None
    return grown(_in_flight(columns)[rows], ttft[rows])


def grown(in_flight: Floats, ttft_s: Floats) -> Growth:
    """`growth` of requests [n] in the order in which they were due, n >= `FEWEST`."""
    queue, waits = _blocks(in_flight), _blocks(ttft_s)
    ends = [float(row[part].mean()) for row in (queue, waits) for part in (slice(_QUARTER), slice(-_QUARTER, None))]
    by_much = ends[1] >= LEAST_GROWTH * ends[0] and ends[3] >= LEAST_GROWTH * ends[2]
    return Growth(bool(by_much and _rises(queue) and _rises(waits)), *ends)


def _blocks(values: Floats) -> Floats:
    return np.array([np.median(block) for block in np.array_split(values, BLOCKS)])


def _rises(values: Floats) -> bool:
    ascending = np.triu(values[None, :] > values[:, None]).sum()
    return bool(ascending >= ASCENDING)


def _in_flight(columns: Columns) -> Floats:
    """How many were in flight when each request [n] was sent, itself not among them."""
    before = np.searchsorted(np.sort(columns.sent_s), columns.sent_s)
    return (before - np.searchsorted(np.sort(columns.end_s), columns.sent_s, side="right")).astype(np.float64)


__all__ = ["ASCENDING", "BLOCKS", "FEWEST", "LEAST_GROWTH", "LOOKS", "Growth", "grown", "growth"]
