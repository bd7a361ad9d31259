"""How sure a search is that what it found answers the question."""

from collections.abc import Sequence
from math import exp, log1p

BEST = 3
"""Hits whose mean score is looked at: one may be near by chance."""

# From the development split of tests/retrieval, with its 15,419 chunks and with those of each of its seven packages
# alone: where a twentieth of the answerable questions would be lost. The best of many chunks that have nothing to do
# with a question is nearer than the best of few, so the bar rises with the collection.
_BAR, _RISE = 0.418, 0.03
_SPREAD = 0.065


def confidence(scores: Sequence[float], chunks: int) -> float:
    """0 to 1, from the ``scores`` of hits among ``chunks``; 0 without any.

    `contracts.SURE` stands where a twentieth of the answerable questions would be lost.
    """
    best = sorted(scores, reverse=True)[:BEST]
    if not best:
        return 0.0
    surplus = (sum(best) / len(best) - _BAR - _RISE * log1p(chunks)) / _SPREAD
    return 1 / (1 + exp(-max(-50.0, min(50.0, surplus))))


__all__ = ["BEST", "confidence"]
