"""How much two things differ that were measured in pairs of runs: a paired bootstrap, the pair of runs being the unit.

Requests of one run share its luck (the machine's temperature, what else ran), so thousands of them are one observation;
drawing requests would make any difference significant. Pairs are drawn with replacement, each with both of its runs.

Plain percentile intervals of few pairs are too narrow: 6 pairs drawn that way cover about 86% instead of 95%.
Hesterberg's expanded percentiles (*What teachers should know about the bootstrap*, The American Statistician 69,
2015, section 5.3) widen the tail from alpha / 2 to ``Phi(-sqrt(n / (n - 1)) * t)``, t being Student's quantile of n -
1 degrees of freedom. Simulated at 6, 8, 12 and 20 pairs, intervals of 95% then cover 92% to 95% for normal noise; for
very skewed noise (lognormal, sigma 0.8) 86% to 90%, where plain ones cover 77% to 88%.

No interval of means drawn from n values ends outside of them, and that range itself misses the middle of symmetric
noise in a share of ``2 ** (1 - n)``: fewer pairs than `fewest_pairs` get no interval at all.

The seed is fixed and no option: who may choose the seed may choose the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2, sqrt
from typing import Any

import numpy as np

RESAMPLES = 9_999
SEED = 7


def fewest_pairs(confidence: float) -> int:
    """How many pairs an interval at ``confidence`` needs: 6 at 95%."""
    return max(2, ceil(1 - log2(1 - confidence) - 1e-9))


@dataclass(frozen=True)
class Effect:
    """What ``after`` differs from ``before``: ``after - before``, or as a share ``after / before - 1``.

    ``low`` and ``high`` are None where there are too few pairs, or where ``before`` is not above zero and a share was
    asked for.
    """

    before: float
    after: float
    value: float | None
    low: float | None
    high: float | None
    pairs: int
    confidence: float
    is_share: bool


def paired_effect(
    before: Sequence[float], after: Sequence[float], confidence: float = 0.95, *, share: bool = False
) -> Effect:
    """The mean difference of pairs of runs, or the change of the mean as a share, with its interval.

    Args:
        before: one number per run [pairs].
        after: of the run that belongs to it [pairs].
        share: ``mean(after) / mean(before) - 1`` in place of ``mean(after) - mean(before)``.

    Raises:
        ValueError: the two are not pairs, there are none, or a number is not finite.
    """
    runs = np.array([before, after], dtype=np.float64)  # ragged input raises ValueError
    if runs.ndim != 2 or not runs.shape[1] or not np.isfinite(runs).all():
        raise ValueError("give as many finite numbers before as after, and at least one")
    pairs = runs.shape[1]
    first, second = (float(mean) for mean in runs.mean(axis=1))
    possible = not share or bool((runs[0] > 0).all())
    value = float(_statistic(runs[0], runs[1], share)) if possible else None
    low, high = _interval(runs, confidence, share) if possible and pairs >= fewest_pairs(confidence) else (None, None)
    return Effect(first, second, value, low, high, pairs, confidence, share)


def _statistic(before: Any, after: Any, share: bool, axis: int = -1) -> Any:
    first, second = before.mean(axis=axis), after.mean(axis=axis)
    return second / first - 1 if share else second - first


def _interval(runs: Any, confidence: float, share: bool) -> tuple[float, float]:
    from scipy.special import ndtr, stdtrit

    pairs = runs.shape[1]
    tail = float(ndtr(sqrt(pairs / (pairs - 1)) * stdtrit(pairs - 1, (1 - confidence) / 2)))
    drawn = np.random.default_rng(SEED).integers(pairs, size=(RESAMPLES, pairs))
    resampled = _statistic(runs[0][drawn], runs[1][drawn], share)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


__all__ = ["RESAMPLES", "SEED", "Effect", "fewest_pairs", "paired_effect"]
