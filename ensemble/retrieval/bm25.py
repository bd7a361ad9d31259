"""Sparse vectors of chunks and questions for the lexical half of the hybrid search.

The BM25 score of a document is, over the terms of the query, ``IDF(t) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * L))``
with ``L`` the document's length in average lengths (Robertson and Zaragoza, *The Probabilistic Relevance Framework:
BM25 and Beyond*, 2009, section 3.4). A chunk has three fields, text, symbol and path, whose frequencies are summed with
weights before they saturate (ibid., section 3.6). The right factor is known when a chunk is indexed and becomes its
sparse vector; Qdrant multiplies the IDF in, from the collection as it is
(https://qdrant.tech/documentation/concepts/indexing/#idf-modifier).
"""

import re
from collections import Counter
from functools import lru_cache
from hashlib import blake2b

from slipstream.ensemble.retrieval.question import stem_weights
from slipstream.ensemble.retrieval.roles import is_test
from slipstream.ensemble.retrieval.store import Chunk, SparseVector
from slipstream.ensemble.retrieval.words import stems

K1 = 1.2
B = 0.75
# Weights of the fields, chosen on the development split of tests/retrieval.
SYMBOL, PATH = 3, 1
# The average over the 15,419 chunks of tests/retrieval. Fixed, so that a vector depends on its chunk alone.
AVERAGE_TERMS = 80.0

# Raise it when a question's words would miss those of chunks that were indexed before: other stems, fields or ids.
FORMAT = 3
FORMAT_FACT = "terms"

_TEST = "test"
_OF_TESTS = "\0tests"  # no text has such a word

_SUFFIX = re.compile(r"\.\w+$")


@lru_cache(maxsize=65536)
def term_id(term: str) -> int:
    """A 32-bit id that is the same on every machine: the first bytes of BLAKE2b."""
    return int.from_bytes(blake2b(term.encode("utf-8", "replace"), digest_size=4).digest(), "little")


def encode_document(chunk: Chunk) -> SparseVector:
    """A chunk's term ids, ascending, with their saturated frequencies; empty for one without words.

    A chunk of a test has `TESTS` besides, which no question asks for and `ranking` looks at.
    """
    counts = Counter(map(term_id, stems(chunk.text)))
    for field, weight in ((chunk.symbol, SYMBOL), (_SUFFIX.sub("", chunk.path), PATH)):
        for term in stems(field):
            counts[term_id(term)] += weight
    norm = K1 * (1 - B + B * counts.total() / AVERAGE_TERMS)
    weights = {term: tf * (K1 + 1) / (tf + norm) for term, tf in counts.items()}
    if is_test(chunk.path):
        weights |= dict(zip(TESTS.indices, TESTS.values, strict=True))
    return _vector(weights)


def encode_query(text: str) -> SparseVector:
    """A question's term ids, ascending, each with the weight that `stem_weights` gives it, however often it comes."""
    return _vector({term_id(stem): weight for stem, weight in stem_weights(text).items()})


def asks_for_tests(query: SparseVector) -> bool:
    """Whether a question speaks of tests."""
    return term_id(_TEST) in query.indices


def _vector(weights: dict[int, float]) -> SparseVector:
    ordered = sorted(weights.items())
    return SparseVector([term for term, _ in ordered], [weight for _, weight in ordered])


TESTS = _vector({term_id(_OF_TESTS): 1.0})
"""The query that finds the chunks of tests."""
