"""Quantiles and their intervals from order statistics: no distribution is assumed.

The q-quantile of a sample is the smallest of its values x for which at least the share q of the values is <= x. So it
is always a value that was measured, and it is within a bound exactly when the share q is: a percentile and a verdict
cannot disagree. (It is Hyndman and Fan's first definition, *Sample quantiles in statistical packages*, 1996; the
interpolating ones can lie below a bound that too many values exceed.)

Of n independent values the number that lies at or below the true quantile is binomial with n and q, so ranks bound it
(David and Nagaraja, *Order Statistics*, 2003, section 7.1). Where n is too small for a rank, that end is None.
"""

from bisect import bisect_left
from dataclasses import dataclass
from math import ceil, floor
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from slipstream.loadtest.statistics.binomial import at_least, at_most

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

_ROUNDING = 1e-9  # 0.95 * 20 is a little more than 19 in binary


def quantile_rank(count: int, level: float) -> int:
    """1-based rank of the ``level`` quantile among ``count`` sorted values."""
    return max(1, ceil(level * count - _ROUNDING))


def interval_ranks(count: int, level: float, tail: float, worth: float = 1.0) -> tuple[int | None, int | None]:
    """1-based ranks of a lower and an upper bound of the ``level`` quantile, each wrong with at most ``tail``.

    Args:
        worth: each value says as much as this share of an independent one.
    """
    known = count * worth
    below = bisect_left(range(count), True, key=lambda hits: at_most(hits * worth, known, level) > tail)
    above = bisect_left(range(1, count + 1), True, key=lambda hits: at_least(hits * worth, known, level) <= tail) + 1
    return below or None, above if above <= count else None


@dataclass(frozen=True)
class Percentile:
    """A quantile with the ends of its interval, in the unit of its values; None: n is too small to bound it."""

    level: float
    value: float
    low: float | None
    high: float | None


def _pick(values: Floats, rank: int | None) -> float | None:
    return None if rank is None else float(values[rank - 1])


def percentile(values: Floats, level: float, confidence: float) -> Percentile:
    """The ``level`` quantile with a two-sided interval.

    Args:
        values: sorted [n], n >= 1, independent of each other.
    """
    low, high = interval_ranks(len(values), level, (1 - confidence) / 2)
    value = float(values[quantile_rank(len(values), level) - 1])
    return Percentile(level, value, _pick(values, low), _pick(values, high))


def clustered_percentile(values: Floats, owners: Integers, level: float, confidence: float) -> Percentile:
    """The ``level`` quantile of values of which those with one owner depend on each other, as the gaps of a request do.

    The interval is that of as many independent values as would know the share at or below the quantile equally well
    (Woodruff, *Confidence intervals for medians*, 1952, with the effective sample size of Korn and Graubard, 1998):
    the variance of that share comes from the differences between owners.

    Args:
        values: sorted [n], n >= 1.
        owners: of each value [n], 0-based.
    """
    count = len(values)
    value = float(values[quantile_rank(count, level) - 1])
    sizes = np.bincount(owners)
    inside = np.bincount(owners, weights=values <= value)[sizes > 0]
    sizes = sizes[sizes > 0]
    share = inside.sum() / count
    residuals = inside - share * sizes
    groups = len(sizes)
    if groups < 2:
        return Percentile(level, value, None, None)
    variance = float(residuals @ residuals) * groups / (groups - 1) / count**2
    independent = share * (1 - share) / variance if variance and share < 1 else float(groups)
    effective = max(1, floor(min(count, independent)))
    low, high = interval_ranks(effective, level, (1 - confidence) / 2)
    lower = None if low is None else floor((low - 1) * count / effective) + 1
    upper = None if high is None else ceil(high * count / effective)
    return Percentile(level, value, _pick(values, lower), _pick(values, upper))
