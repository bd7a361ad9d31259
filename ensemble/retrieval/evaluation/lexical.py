"""BM25 over a list of texts, exact and in memory: the yardstick for every lexical search.

Robertson and Zaragoza, *The Probabilistic Relevance Framework: BM25 and Beyond*, 2009, section 3.4, with the inverse
document frequency that Lucene and Qdrant use, ``ln(1 + (N - n + 0.5) / (n + 0.5))``, which is never negative.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from slipstream.ensemble.retrieval.bm25 import K1, B
from slipstream.ensemble.retrieval.words import terms


class Lexical:
    """An inverted index; ``split`` makes words of a text."""

    def __init__(self, texts: Sequence[str], split: Callable[[str], list[str]] = terms) -> None:
        self._split = split
        rows: defaultdict[str, array[int]] = defaultdict(lambda: array("i"))
        counts: defaultdict[str, array[int]] = defaultdict(lambda: array("i"))
        lengths = np.zeros(len(texts))
        for row, text in enumerate(texts):
            found = split(text)
            lengths[row] = len(found)
            for term, count in Counter(found).items():
                rows[term].append(row)
                counts[term].append(count)
        norms = K1 * (1 - B + B * lengths / max(lengths.mean(), 1.0)) if len(texts) else lengths
        self._size = len(texts)
        self._postings = {
            term: self._weighted(np.asarray(rows[term]), np.asarray(counts[term]), norms) for term in rows
        }

    def _weighted(
        self, rows: NDArray[np.int32], counts: NDArray[np.int32], norms: NDArray[np.float64]
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        idf = np.log1p((self._size - len(rows) + 0.5) / (len(rows) + 0.5))
        return rows, idf * counts * (K1 + 1) / (counts + norms[rows])

    def scores(self, query: str) -> NDArray[np.float64]:
        """The score of every text [n]; 0 for one that has no word of ``query``."""
        total = np.zeros(self._size)
        for term in set(self._split(query)):
            if (posting := self._postings.get(term)) is not None:
                rows, weights = posting
                total[rows] += weights
        return total


__all__ = ["Lexical"]
