"""Files on their way into a version: chunk → embed what is new → upsert.

One thread parses the batch after the one that is being embedded, another writes the one before, so that all of it
hides behind the embedder.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import takewhile
from threading import Event
from typing import TYPE_CHECKING, Protocol

from slipstream.engines.protocols import Progress
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval import bm25, chunker
from slipstream.ensemble.retrieval.sources import SourceDigest, batches
from slipstream.ensemble.retrieval.store import Chunk, Point, Upserts
from slipstream.ensemble.retrieval.walk import Skipped, SourceFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Indexing(Protocol):
    """How files get into a version: in this process (`Run`), or handed out to others.

    Attributes:
        sources: the files that were chunked, as they were read.
        digests: of their chunks; ``embedded`` of these were new, ``reused`` had a vector.
    """

    sources: SourceDigest
    digests: set[str]
    embedded: int
    reused: int

    def take(self, files: Sequence[SourceFile], skipped: Skipped) -> None:
        """Index ``files``; what cannot be read any more is counted in ``skipped``."""
        ...


class Run:
    """Files on their way into a version under construction."""

    def __init__(
        self, writer: Upserts, embedder: Embedder, known: "Mapping[str, NDArray[np.float32]]", progress: Progress
    ) -> None:
        self._writer = writer
        self._embedder = embedder
        self._known = known
        self._progress = progress
        self.sources = SourceDigest()
        self.digests: set[str] = set()
        self.embedded = 0
        self.reused = 0

    def take(self, files: Sequence[SourceFile], skipped: Skipped) -> None:
        """Index ``files``; what cannot be read any more is counted in ``skipped``."""
        total = sum(file.size for file in files) or 1
        ended = Event()
        parsed = batches(takewhile(lambda file: not ended.is_set(), files), self.sources, skipped)
        written: Future[None] | None = None
        with (
            ThreadPoolExecutor(1, "index-parse") as parser,
            ThreadPoolExecutor(1, "index-write") as filer,
            ExitStack() as stack,
        ):
            stack.callback(ended.set)  # whoever pressed Ctrl-C does not wait for a batch of files
            following = parser.submit(next, parsed, None)
            while (batch := following.result()) is not None:
                following = parser.submit(next, parsed, None)
                vectors = self._vectors(batch.chunks)
                if written is not None:
                    written.result()
                written = filer.submit(self._write, batch.chunks, vectors)
                self._progress(batch.bytes_done / total, f"{self.embedded + self.reused} chunks")
            if written is not None:
                written.result()

    def _vectors(self, chunks: Sequence[Chunk]) -> "dict[str, NDArray[np.float32]]":
        """Digest -> vector of every chunk; what has no vector yet is embedded, equal text once."""
        digests = {chunk.digest: chunk for chunk in chunks}
        new = [chunk for digest, chunk in digests.items() if digest not in self._known]
        made = self._embedder.embed([chunker.embedded_text(chunk) for chunk in new])
        vectors = {digest: self._known[digest] for digest in digests if digest in self._known}
        vectors.update((chunk.digest, vector) for chunk, vector in zip(new, made, strict=True))
        reused = sum(chunk.digest in self._known for chunk in chunks)
        self.reused += reused
        self.embedded += len(chunks) - reused
        self.digests |= vectors.keys()
        return vectors

    def _write(self, chunks: Sequence[Chunk], vectors: "Mapping[str, NDArray[np.float32]]") -> None:
        self._writer.upsert([Point(chunk, vectors[chunk.digest], bm25.encode_document(chunk)) for chunk in chunks])


__all__ = ["Indexing", "Run"]
