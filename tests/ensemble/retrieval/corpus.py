"""Points to put into a store: their dense vectors follow from a word, so that equal words are near."""

from collections.abc import Iterable, Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from slipstream.ensemble.contracts import Hit, SearchFilter
from slipstream.ensemble.retrieval.bm25 import encode_document, encode_query
from slipstream.ensemble.retrieval.store import Chunk, Point, Reader, VectorStore, VersionInfo

DIMENSION = 16
EMBEDDER = "e" * 64
ANYWHERE = SearchFilter()


def dense(word: str) -> NDArray[np.float32]:
    """A vector of unit length that only ``word`` decides."""
    seed = int.from_bytes(sha256(word.encode()).digest()[:8], "little")
    vector = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
    return vector / np.linalg.norm(vector)


def point(
    path: str, text: str = "", *, language: str = "python", repo: str = "shop", line: int = 1, word: str | None = None
) -> Point:
    text = text or f"def f():\n    return {path!r}"
    chunk = Chunk(
        path=path,
        language=language,
        symbol="f",
        line_start=line,
        line_end=line + text.count("\n"),
        text=text,
        repo=repo,
        digest=sha256(text.encode()).hexdigest(),
    )
    return Point(chunk, dense(word or text), encode_document(chunk))


def publish(store: VectorStore, points: Sequence[Point], collection: str = "code") -> VersionInfo:
    with store.writer(collection, EMBEDDER, DIMENSION) as writer:
        writer.upsert(points)
        return writer.publish()


def search(
    reader: Reader, text: str, *, word: str | None = None, limit: int = 10, where: SearchFilter = ANYWHERE
) -> list[Hit]:
    return reader.search(dense(word or text), encode_query(text), limit, where).hits


def paths(hits: Iterable[Hit]) -> list[str]:
    return [hit.path for hit in hits]
