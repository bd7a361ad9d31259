"""From source trees to the next version of a collection: walk → chunk → embed what is new → upsert → publish.

One thread parses the batch after the one that is being embedded, another writes the one before, so that all of it
hides behind the embedder. Until the last step readers keep the version they have; a run that dies changes nothing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from slipstream import InputError
from slipstream.engines.protocols import Progress
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval import bm25, chunker
from slipstream.ensemble.retrieval.sources import SourceDigest, batches, digested
from slipstream.ensemble.retrieval.store import (
    Chunk,
    CollectionNotFound,
    IndexDamaged,
    Point,
    Upserts,
    VectorStore,
    VersionInfo,
    Writer,
)
from slipstream.ensemble.retrieval.walk import Root, Skipped, SourceFile, resolve_root, walk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = structlog.get_logger(__name__)

_SOURCES = "sources_sha256"


class NothingToIndex(InputError):
    """There is no source in what was named."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What a run did.

    Attributes:
        version: the published one; the one that was there, if ``unchanged``.
        files: those it was made from.
        chunks: in that version; ``embedded`` of them are new to it and ``reused`` keep the vector they had.
        removed: chunks of the version before that are in no file any more.
        skipped: files and folders that were left out, by reason.
        empty_roots: what was named and holds no source.
    """

    collection: str
    version: str
    unchanged: bool
    files: int
    chunks: int
    embedded: int
    reused: int
    removed: int
    skipped: dict[str, int]
    empty_roots: list[str]
    seconds: float


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


def build_index(
    arguments: Sequence[str],
    collection: str,
    store: VectorStore,
    embedder: Embedder,
    progress: Progress,
    indexing: "Callable[[Writer, Embedder, Mapping[str, NDArray[np.float32]], Progress], Indexing] | None" = None,
) -> IndexReport:
    """Make the files below ``arguments`` (see `resolve_root`) the next version of ``collection``, and all of it.

    Nothing is published when neither sources nor embedder nor chunking changed. ``indexing`` is `Run` by default; it
    gets the writer, the embedder, and the vectors that are known by digest.

    Raises:
        SourceNotFound: an argument names nothing.
        NothingToIndex: no argument holds a source file; what was published stays.
        StoreUnavailable: the disk is full, another run is writing, the server does not answer.
    """
    started = time.perf_counter()
    progress(0.0, "looking for source files")
    roots = [resolve_root(argument) for argument in arguments]
    skipped = Skipped()
    seen = digested(walk(roots, skipped), skipped)
    if not seen.files:
        raise _nothing(arguments, skipped)
    current, known = _published(store, collection)
    same_embedder = current is not None and current.embedder_digest == embedder.digest
    if current is not None and same_embedder and current.facts.get(_SOURCES) == seen.hexdigest():
        version, files = current, seen.files
        embedded, reused, removed = 0, current.chunks, 0
    else:
        reusable = known if same_embedder else {}
        with store.writer(collection, embedder.digest, embedder.dimension) as writer:
            run = (indexing or Run)(writer, embedder, reusable, progress)
            run.take(seen.files, skipped)
            if not run.digests:
                raise _nothing(arguments, skipped)
            progress(1.0, f"{run.embedded + run.reused} chunks, finishing")
            version = writer.publish(**{_SOURCES: run.sources.hexdigest()})
        files = run.sources.files
        embedded, reused, removed = run.embedded, run.reused, len(known.keys() - run.digests)
    return IndexReport(
        collection=collection,
        version=version.version,
        unchanged=version is current,
        files=len(files),
        chunks=version.chunks,
        embedded=embedded,
        reused=reused,
        removed=removed,
        skipped={str(reason): count for reason, count in skipped.most_common()},
        empty_roots=[name for name, root in zip(arguments, roots, strict=True) if not _holds_any(root, files)],
        seconds=time.perf_counter() - started,
    )


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
        parsed = batches(files, self.sources, skipped)
        written: Future[None] | None = None
        with ThreadPoolExecutor(1, "index-parse") as parser, ThreadPoolExecutor(1, "index-write") as filer:
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
        self._writer.upsert(
            [
                Point(chunk, vectors[chunk.digest], bm25.encode_document(chunker.embedded_text(chunk)))
                for chunk in chunks
            ]
        )


def _published(store: VectorStore, collection: str) -> "tuple[VersionInfo | None, Mapping[str, NDArray[np.float32]]]":
    """The version there is and its vectors. A damaged one counts for nothing: this run replaces it.

    Raises:
        StoreUnavailable: the server does not answer; to embed everything again would not help.
    """
    try:
        store.check(collection)
        return store.current(collection), store.vectors(collection)
    except CollectionNotFound:
        pass
    except IndexDamaged as error:
        log.warning("index.previous_version_unusable", collection=collection, reason=error.message)
    return None, {}


def _holds_any(root: Root, files: Sequence[SourceFile]) -> bool:
    return any(file.absolute.is_relative_to(root.path) for file in files)


def _nothing(arguments: Sequence[str], skipped: Skipped) -> NothingToIndex:
    reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
    return NothingToIndex(
        f"no source to index in {', '.join(arguments)} (left out: {reasons or 'nothing, it is empty'})",
        "name a folder with Python, JavaScript, TypeScript, Go, Java, Rust, C, C++ or Markdown files",
    )


__all__ = ["IndexReport", "Indexing", "NothingToIndex", "Run", "build_index"]
