"""Which rate to try next: a pure function of what was tried, so that a search that was killed goes on where it was.

A point is *held* (every SLO proven, nothing grew), *refuted* (an SLO refuted, or the queue grew without end) or *open*.
A server that holds a rate holds any lower one, so the highest held rate below the lowest refuted one is what is proven.

1. From the first rate up by doubling until one is not held, or down by halving until one is.
2. Bisection, geometric, between the highest held rate and the lowest above it that is not, refuted or open, until they
   are within the precision. That gives the answer.
3. Where what stands above it is open, the same between the highest open rate and the lowest refuted one, doubling
   where none is refuted yet. That gives the upper end of the interval; an open point that is held after all there
   moves the lower one.

A point errs in at most ``1 - confidence`` of the cases, each way, and a search has several. Most are far from the
capacity, where a test all but never errs, so the interval from the highest held to the lowest refuted rate is one of
about 95% as a whole, with tests at 95% and a precision of 10%:

* where requests are independent, a test simulates searches and holds it to that;
* where a queue makes requests depend on each other they count as fewer (`results.weighing`). Of 200 simulated searches
  for each of eight cases (1 and 4 slots; SLOs that allow 50% to 90% load; 208 and 1,000 requests per point) the
  capacity then lay outside in 2% to 9%; taken as independent it did in 24% to 84%. The price is a wide interval: its
  upper end is 2.2 times the lower one at 208 requests, 1.3 to 1.4 times at 1,000 (``python -m
  tests.benchmarks.loadtest.verdicts`` prints it).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

Finding = Literal["held", "refuted", "open"]

HIGHEST, LOWEST = 1024.0, 1 / 64
"""How far from the first rate is looked, as factors. What misses its SLOs when it has nothing to do misses them at any
rate.
"""
FINEST = 0.02
_STEP = 2.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Tried:
    """A rate in requests per second and what was found."""

    rate: float
    finding: Finding


@dataclass(frozen=True)
class Bracket:
    """What is known; each is a rate that was tried, or None.

    Attributes:
        held: the highest that is held and below all that are refuted. What was open below it is settled by it: a
            server that holds a rate holds a lower one.
        ceiling: the lowest above it that is not held.
        highest_open: the highest open one between ``held`` and ``refuted``.
        refuted: the lowest that is refuted.
    """

    held: float | None
    ceiling: float | None
    highest_open: float | None
    refuted: float | None

    @classmethod
    def of(cls, tried: Iterable[Tried]) -> "Bracket":
        """Where findings contradict each other, what speaks against a rate counts."""
        points = list(tried)
        refuted = min((one.rate for one in points if one.finding == "refuted"), default=None)
        below = [one for one in points if refuted is None or one.rate < refuted]
        held = max((one.rate for one in below if one.finding == "held"), default=None)
        opened = [one.rate for one in below if one.finding == "open" and (held is None or one.rate > held)]
        ceiling = min([*opened, *([] if refuted is None else [refuted])], default=None)
        return cls(held, ceiling, max(opened, default=None), refuted)

    def is_found(self, precision: float) -> bool:
        """Whether the highest held rate is known to ``precision``, a share of itself."""
        return self.held is not None and self.ceiling is not None and _is_near(self.held, self.ceiling, precision)


def next_rate(tried: Sequence[Tried], start: float, precision: float) -> float | None:
    """The rate to try after ``tried``; None where the search is over.

    Args:
        start: the first rate, requests per second.
        precision: how far apart both ends of a bracket may be, as a share of the lower one; at least
            `FINEST`, since rates have three digits.
    """
    if not tried:
        return start
    known = Bracket.of(tried)
    if known.ceiling is None:
        return _within(max(one.rate for one in tried) * _STEP, start)
    if known.held is None:
        return _within(min(one.rate for one in tried) / _STEP, start)
    if not known.is_found(precision):
        return _middle(known.held, known.ceiling)
    if known.highest_open is None:
        return None
    if known.refuted is None:
        return _within(max(one.rate for one in tried) * _STEP, start)
    if not _is_near(known.highest_open, known.refuted, precision):
        return _middle(known.highest_open, known.refuted)
    return None


def _middle(low: float, high: float) -> float:
    """The geometric one, as a person would type it."""
    return float(f"{sqrt(low * high):.3g}")


def _is_near(low: float, high: float, precision: float) -> bool:
    return high / low <= 1 + precision + _ROUNDING


def _within(rate: float, start: float) -> float | None:
    return rate if start * LOWEST <= rate <= start * HIGHEST else None


__all__ = ["FINEST", "HIGHEST", "LOWEST", "Bracket", "Finding", "Tried", "next_rate"]
