"""Servers with slots and one queue, simulated many runs at once: what waits is served in turn (Kiefer, Wolfowitz)."""

from typing import NamedTuple

import numpy as np

from slipstream.loadtest.statistics.order import Floats

FLOOR = 0.1
"""TTFT of who does not wait, in mean service times; the unit of all times here."""
_SHAPE = 4  # of the gamma distribution of service times: their standard deviation is half of their mean


class Served(NamedTuple):
    """Requests of every run [runs, requests], in the order in which they were due."""

    due: Floats
    end: Floats
    ttft: Floats

    def first(self, count: int) -> "Served":
        return Served(*(values[:, :count] for values in self))


def served(load: float | Floats, slots: int, runs: int, requests: int, before: int, rng: np.random.Generator) -> Served:
    """Poisson arrivals at ``load`` times the capacity, into a system that is empty.

    Args:
        load: of all runs, or of each [runs].
        before: requests that come before those that are kept.
    """
    busy = np.zeros((runs, slots))  # for how long, seen from the last arrival
    now = np.zeros(runs)
    kept = Served(*(np.empty((requests, runs)) for _ in range(3)))
    for place in range(-before, requests):
        gap = rng.exponential(size=runs) / (slots * load)
        answer = FLOOR + rng.gamma(_SHAPE, (1 - FLOOR) / _SHAPE, runs)
        now += gap
        busy = np.maximum(busy - gap[:, None], 0.0)
        busy.sort(axis=1)
        wait = busy[:, 0].copy()
        busy[:, 0] += answer
        if place >= 0:
            kept.due[place], kept.end[place], kept.ttft[place] = now, now + wait + answer, wait + FLOOR
    return Served(*(np.ascontiguousarray(values.T) for values in kept))


def in_flight(due: Floats, end: Floats) -> Floats:
    """How many of the requests of one run [requests] were in flight when each was due, itself not among them."""
    gone = np.searchsorted(np.sort(end), due, side="right")
    return (np.arange(len(due)) - gone).astype(np.float64)
