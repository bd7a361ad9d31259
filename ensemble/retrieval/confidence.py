"""How sure a search is that what it found answers the question."""

from collections.abc import Sequence
from math import exp

from slipstream.ensemble.contracts import Hit

# From the development split of tests/retrieval.
_EVEN = 0.64
_SPREAD = 0.1


def confidence(hits: Sequence[Hit]) -> float:
    """0 to 1, from the score of the best of ``hits``; 0 without any.

    `contracts.SURE` stands where a twentieth of the answerable questions would be lost.
    """
    if not hits:
        return 0.0
    surplus = (max(hit.score for hit in hits) - _EVEN) / _SPREAD
    return 1 / (1 + exp(-max(-50.0, min(50.0, surplus))))


__all__ = ["confidence"]
