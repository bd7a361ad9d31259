"""How much the requests of a run depend on each other: those that waited in one queue are late together.

A verdict by counting takes requests as independent. Where they are not, n of them say as much as fewer independent
ones: the effective sample size is ``n / (1 + 2 * sum of autocorrelations)``, the sum cut off where two neighbouring
terms together fall to zero or below (Geyer, *Practical Markov chain Monte Carlo*, Statistical Science 7, 1992,
initial positive sequence), since further ones are noise.

The sum is an estimate, and of a short run one that is too small: deviations are from the run's own mean. With its
correction for that, and one standard error added (both of Wolff, *Monte Carlo errors with less errors*, Computer
Physics Communications 156, 2004), the effective size is rather too small than too large.
"""

from dataclasses import dataclass

import numpy as np

from slipstream.loadtest.statistics.order import Floats

FEWEST = 20
"""Values below which autocorrelations are noise."""
_LARGE = 0.2
_ALIKE = 1e-12  # of the largest value: what is left of equal ones after rounding
_NOISE = 2.0  # standard errors of the autocorrelation of independent values, 1 / sqrt(n) each


@dataclass(frozen=True)
class Dependence:
    """Autocorrelation of values in the order in which they were due.

    Attributes:
        lag_1: of neighbours, -1..1.
        effective: at least as many independent values would say as much, but for one standard error; 1 to the number
            of values.
        is_large: whether neighbours resemble each other clearly: more than 0.2 and more than chance would make them.
    """

    lag_1: float
    effective: float
    is_large: bool


def dependence(values: Floats) -> Dependence | None:
    """How much neighbours among ``values`` [n] resemble each other; None for fewer than `FEWEST` or all alike."""
    count = len(values)
    if count < FEWEST or np.ptp(values) <= _ALIKE * np.abs(values).max():
        return None
    centred = (values - values.mean()) / np.ptp(values)
    spectrum = np.fft.rfft(centred, 1 << (2 * count - 1).bit_length())
    covariances = np.fft.irfft(np.abs(spectrum) ** 2)[:count]
    correlations = covariances / covariances[0]
    pairs = correlations[: count // 2 * 2].reshape(-1, 2).sum(axis=1)
    ended = np.flatnonzero(pairs <= 0)
    summed = int(ended[0]) if len(ended) else len(pairs)
    total = 2 * float(pairs[:summed].sum()) - 1
    lags = 2 * summed - 1  # the last one in the sum
    total *= 1 + (2 * lags + 1) / count
    total *= 1 + max(4 * lags + 2 - 2 * total, 0.0) ** 0.5 / count**0.5
    lag_1 = float(correlations[1])
    return Dependence(lag_1, count / max(total, 1.0), lag_1 > max(_LARGE, _NOISE / count**0.5))


def ranks(values: Floats) -> Floats:
    """Ranks of ``values`` [n], equal ones sharing theirs: one extreme latency must not hide waves."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: Floats = np.cumsum(counts) - (counts - 1) / 2
    return shared[inverse]
