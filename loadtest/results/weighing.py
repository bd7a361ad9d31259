"""How many independent requests those of a run count as.

Near the limit of a server those that wait in one queue are late together. A test that took them as independent would
prove a claim that is false by little, and refute one that is true by little, far more often than it says. So where
neighbours are clearly alike, in whether they missed or in the order of their latencies, a claim is decided on as many
requests as the effective sample size says: of the two whichever is less.

What makes neighbours alike is not always a queue: latencies far below the bound drift with the machine. They count as
they are where none missed and there is `ROOM`. A queue that has just not come yet has none: it spreads the waits.

Simulated (``python -m tests.benchmarks.loadtest.verdicts``; 1 and 4 slots at 50% to 95% load, 300 or 1,000 requests), a
claim that is false by little is so proven in 0% to 6% of the runs, where plain counting proves 20% to 89%; one that is
true by little is refuted in 0% to 4%, by plain counting in 8% to 29%. Of 60 requests it cannot always be seen that
neighbours are alike: at 50% load 16% of the false claims are proven. Nearer to the limit a run needs thousands of
requests to be settled.
"""

import numpy as np

from slipstream.loadtest.statistics.dependence import Dependence, dependence, ranks
from slipstream.loadtest.statistics.order import Floats, quantile_rank

ROOM = 10
"""As many times what lies between the fastest and the claimed quantile has to lie between that and the bound."""
_DIGITS = 3  # times are kept to the microsecond; what is left of equal ones below it grows with the run's clock


def weigh(values: Floats, bound: float, quantile: float, certain_misses: int = 0) -> Dependence | None:
    """What makes the requests count as ``effective`` ones; None where they count as they are.

    Args:
        values: of the counted requests [n] in milliseconds, in the order in which they were due; a failed one takes
            forever.
        bound: a value above it is a miss.
        quantile: the share that is claimed to be within the bound.
        certain_misses: of requests that are not among ``values``.
    """
    missed = values > bound
    alike = [
        found for found in (dependence(missed.astype(np.float64)), dependence(ranks(np.round(values, _DIGITS))))
        if found is not None and found.is_large
    ]  # fmt: skip
    if not alike or (not certain_misses and not missed.any() and _has_room(values, bound, quantile)):
        return None
    return min(alike, key=lambda found: found.effective)


def _has_room(values: Floats, bound: float, quantile: float) -> bool:
    ordered = np.sort(values)
    observed = float(ordered[quantile_rank(len(ordered), quantile) - 1])
    return bound - observed >= ROOM * (observed - float(ordered[0]))


__all__ = ["ROOM", "weigh"]
