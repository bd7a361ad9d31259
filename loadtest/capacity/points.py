"""One rate of a search as a scenario of its own: how many requests, which seed.

A point has a fixed number of measured requests, because a test that stops when it likes what it sees proves nothing. By
default as many as prove every SLO with `ALLOWED_MISSES` misses among them (208 at p95 and a confidence of 95%): with
fewer allowed, what misses half of what it may passes too rarely; with more, a search takes hours.

Every point has a seed of its own, drawn from the scenario's, so that no point asks what another one asked in the same
order. Of the seeds that its number gives, the first is taken whose measured arrivals come at the point's rate within
2%: 208 Poisson arrivals are 7% off theirs, give or take, which would blur the very axis that is searched. What varies
within the run stays as it is drawn.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np

from slipstream import InputError
from slipstream.loadtest.scenario import Constant, Gamma, Poisson, Scenario
from slipstream.loadtest.schedule.arrivals import MOST_ARRIVALS, draw_offsets, too_many
from slipstream.loadtest.statistics.binomial import requests_to_prove

ALLOWED_MISSES = 5
LEAST_S = 30.0
"""What every point measures at least, in seconds: at a high rate, 208 requests are over before a queue can form."""
RATE_TOLERANCE = 0.02
_SEEDS = 500  # of bursts with a burstiness of 0.05 about one in twenty fits
_RATED = (Constant, Poisson, Gamma)
Rated = Constant | Poisson | Gamma


class NoCapacity(InputError):
    """The scenario has no capacity to be searched: no rate, no SLO, or too few requests for a proof."""


@dataclass(frozen=True)
class Sizing:
    """How long a point is: ``requests`` measured ones, and as many more as ``least_s`` seconds of them need."""

    requests: int
    least_s: float = LEAST_S

    def requests_at(self, rate: float) -> int:
        return max(self.requests, ceil(rate * self.least_s))

    def length_s(self, rate: float, warmup_s: float) -> float:
        """About how long a point takes, without what its last answers need."""
        return warmup_s + self.requests_at(rate) / rate


def first_rate(scenario: Scenario) -> float:
    """The scenario's own rate, where the search begins.

    Raises:
        NoCapacity: it has no SLO, or arrivals that have no rate.
    """
    if not isinstance(scenario.arrivals, _RATED):
        raise NoCapacity(
            f"{scenario.name} has {scenario.arrivals.kind} arrivals, and a capacity is a rate",
            "give a scenario with constant, poisson or gamma arrivals",
        )
    if not scenario.slos:
        raise NoCapacity(
            f"{scenario.name} has no SLO, so every rate would do",
            "add slos: to the scenario, such as [{metric: ttft, bound_ms: 500}]",
        )
    return scenario.arrivals.rate


def sizing(scenario: Scenario, requests: int | None = None, least_s: float | None = None) -> Sizing:
    """How long the points are.

    Args:
        requests: measured ones per point, in place of what proves every SLO with `ALLOWED_MISSES` misses.

    Raises:
        NoCapacity: so few that not even a point without a miss would pass, or an SLO that no number proves.
    """
    least, usual = (
        [requests_to_prove(misses, slo.quantile, scenario.confidence) for slo in scenario.slos]
        for misses in (0, ALLOWED_MISSES)
    )
    needed = [number for number in least if number is not None]
    if len(needed) < len(least):
        raise NoCapacity("an SLO is too strict for a proof by any number of requests", "give it a lower quantile")
    if requests is not None and requests < max(needed):
        raise NoCapacity(
            f"{requests} requests prove nothing: without a single miss it takes {max(needed)}",
            f"give --requests {max(needed)} or more",
        )
    most = max(number or MOST_ARRIVALS for number in usual)
    return Sizing(requests or most, LEAST_S if least_s is None else least_s)


def scenario_at(scenario: Scenario, rate: float, number: int, size: Sizing) -> Scenario:
    """Point ``number``: ``scenario`` at ``rate`` with its own seed and number of requests; counted from 1.

    Raises:
        TooManyArrivals: more than a plan holds.
    """
    if not isinstance(scenario.arrivals, _RATED):
        raise ValueError(f"{scenario.arrivals.kind} arrivals have no rate")
    arrivals = scenario.arrivals.model_copy(update={"rate": rate})
    measured = size.requests_at(rate)
    seed, warmup = _fitting(arrivals, scenario.seed, number, scenario.warmup, measured)
    change = {"arrivals": arrivals, "duration": None, "requests": warmup + measured, "seed": seed}
    return Scenario.model_validate(scenario.model_copy(update=change).model_dump(mode="json"))


def _fitting(arrivals: Rated, seed: int, number: int, warmup_s: float, measured: int) -> tuple[int, int]:
    """The first seed of point ``number`` that keeps its rate, else the best; and how many arrivals its warm-up has."""
    found: list[tuple[float, int, int]] = []
    for drawn in np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(_SEEDS).tolist():
        warmup, off = _drawn(arrivals, drawn, warmup_s, measured)
        if off <= RATE_TOLERANCE:
            return drawn, warmup
        found.append((off, drawn, warmup))
    return min(found)[1:]


def _drawn(arrivals: Rated, seed: int, warmup_s: float, measured: int) -> tuple[int, float]:
    """How many arrivals come during the warm-up, and how far off their rate the ``measured`` ones after it are."""
    count = ceil(2 * arrivals.rate * warmup_s) + measured + 1
    while True:
        offsets = draw_offsets(arrivals, seed, warmup_s=warmup_s, duration_s=None, count=count)
        warmup = int(np.searchsorted(offsets, warmup_s))
        if len(offsets) >= warmup + measured:
            length_s = float(offsets[warmup + measured - 1]) - warmup_s
            return warmup, abs(measured / length_s / arrivals.rate - 1) if length_s > 0 else np.inf
        if count > MOST_ARRIVALS:
            raise too_many()
        count *= 2


__all__ = ["ALLOWED_MISSES", "LEAST_S", "NoCapacity", "Sizing", "first_rate", "scenario_at", "sizing"]
