"""How sure a search is that what it found answers the question."""

from math import exp, log1p

from slipstream.ensemble.retrieval.store import Found

# A logistic regression on the development split of tests/retrieval: 424 queries that are answered and 60 that are not,
# asked of all 15,419 chunks and of each of its seven packages alone. Long questions share words with much, and the best
# of many chunks that have nothing to do with a question is nearer than the best of few.
_COSINE, _WORDS, _QUESTION, _COLLECTION = 20.2, 3.60, -1.22, -0.854
# Where a twentieth of the answerable queries would be lost among all chunks stands `contracts.SURE`.
_OFFSET = -4.76


def confidence(found: Found, stems: int, chunks: int) -> float:
    """0 to 1, for a question of so many different ``stems`` to a collection of ``chunks``; 0 for nothing found."""
    if not found.hits:
        return 0.0
    size = log1p(max(chunks, 1))
    surplus = (
        _COSINE * found.cosine + _WORDS * found.words / size + _QUESTION * log1p(stems) + _COLLECTION * size + _OFFSET
    )
    return 1 / (1 + exp(-max(-50.0, min(50.0, surplus))))


__all__ = ["confidence"]
