"""Sparse vectors of code and questions for the lexical half of the hybrid search.

The BM25 score of a document is, over the terms of the query, ``IDF(t) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * L))``
with ``L`` the document's length in average lengths (Robertson and Zaragoza, *The Probabilistic Relevance Framework:
BM25 and Beyond*, 2009, section 3.4). The right factor is known when a chunk is indexed and becomes its sparse vector; a
query has weight 1 for each of its terms; Qdrant multiplies the IDF in, from the collection as it is
(https://qdrant.tech/documentation/concepts/indexing/#idf-modifier).
"""

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from hashlib import blake2b

from slipstream.ensemble.retrieval.store import SparseVector

K1 = 1.2
B = 0.75
# The average over the 1,458 chunks of FastAPI and Starlette. Fixed, so that a vector depends on its chunk alone.
AVERAGE_TERMS = 106.0

_WORD = re.compile(r"\w+")
# `parseHTTPResponse2` is parse, HTTP, Response, 2; a letter of a script without case counts as a small one.
_PART = re.compile(r"[A-ZА-ЯЁ]+(?![^\W\d_A-ZА-ЯЁ])|[A-ZА-ЯЁ]?[^\W\d_A-ZА-ЯЁ]+|\d+")
# Minified code and encoded data are words without end, and nobody asks for them.
_LONGEST_WORD = 128


def terms(text: str) -> list[str]:
    """Words of ``text`` in lower case, in order: each as a whole and, where it has several, its parts.

    ``get_userName`` gives ``get_username``, ``get``, ``user``, ``name``.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)  # й may come as и and a breve, and would be cut in two
    found: list[str] = []
    for word in _WORD.findall(text):
        if len(word) <= _LONGEST_WORD:
            found.extend(_split(word))
    return found


@lru_cache(maxsize=65536)
def _split(word: str) -> tuple[str, ...]:
    parts = _PART.findall(word)
    whole = word.strip("_").lower()
    if len(parts) < 2:
        return (whole,) if whole else ()
    return (whole, *(part.lower() for part in parts))


@lru_cache(maxsize=65536)
def term_id(term: str) -> int:
    """A 32-bit id that is the same on every machine: the first bytes of BLAKE2b."""
    return int.from_bytes(blake2b(term.encode(), digest_size=4).digest(), "little")


def encode_document(text: str) -> SparseVector:
    """A chunk's term ids, ascending, with their saturated frequencies; empty for a text without words."""
    found = terms(text)
    norm = K1 * (1 - B + B * len(found) / AVERAGE_TERMS)
    counts = sorted(Counter(map(term_id, found)).items())
    return SparseVector([term for term, _ in counts], [tf * (K1 + 1) / (tf + norm) for _, tf in counts])


def encode_query(text: str) -> SparseVector:
    """A question's term ids, ascending, each with weight 1 however often it comes."""
    ids = sorted({term_id(term) for term in terms(text)})
    return SparseVector(ids, [1.0] * len(ids))
