"""What a vector store has to do, whoever does it: Qdrant Edge in this process, or a Qdrant server.

A collection is a name that points at one *version*. An indexer builds the next version aside while readers keep
using the current one, then `publish` switches the name over at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

from slipstream.ensemble.contracts import Hit, SearchFilter
from slipstream.ensemble.retrieval.errors import EmbedderMismatch, StoreUnavailable, remedy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DenseVector: TypeAlias = "Sequence[float] | NDArray[np.float32]"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of source. Lines are 1-based and inclusive; ``text`` is those lines of the file, as they are.

    ``digest`` is the sha256 of what was embedded, so equal digests mean equal vectors. ``path`` is relative to the
    indexed root, prefixed with the root's folder name when several roots make one collection. ``empty_after`` lines
    behind it hold nothing at all: what joins it to the chunk that follows.
    """

    path: str
    language: str
    symbol: str
    line_start: int
    line_end: int
    text: str
    repo: str
    digest: str
    empty_after: int = 0


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Term ids with their BM25 term-frequency weights; the store multiplies the IDF in."""

    indices: list[int]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Point:
    """A chunk with both of its vectors; ``dense`` has unit length."""

    chunk: Chunk
    dense: DenseVector
    sparse: SparseVector


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """What a published version remembers of its making; ``facts`` are the writer's own, as given (JSON values)."""

    collection: str
    version: str
    embedder_digest: str
    dimension: int
    chunks: int
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a version holds of one file: an identity of its bytes, and the digests of its chunks."""

    content: str
    digests: Sequence[str]


FileKey: TypeAlias = tuple[str, str]
"""Repo and path of a file."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gives.

    Attributes:
        hits: best first.
        cosine: the mean of the three highest cosines; ``words`` that of the three highest BM25 scores.
    """

    hits: list[Hit]
    cosine: float
    words: float


class Upserts(Protocol):
    """Where points go."""

    def upsert(self, points: Sequence[Point]) -> None:
        """Add points. A chunk is known by repo, path, lines and digest: the same one again changes nothing."""
        ...


class Writer(Upserts, Protocol):
    """One version under construction. `publish` makes it the collection; leaving without it discards it.

    A context manager: leaving the block, by an exception or not, discards what was not published. What a killed
    process left behind is never readable, and the next writer of the collection clears it away.
    """

    @property
    def files(self) -> Mapping[FileKey, FileEntry]:
        """The files whose chunks are in it already; none unless it started from another version."""
        ...

    def remove(self, files: Sequence[FileKey]) -> None:
        """Take out the chunks of ``files``, which are of `files`."""
        ...

    def publish(self, contents: Mapping[FileKey, str] | None = None, *, keep: int = 2, **facts: Any) -> VersionInfo:
        """Finish (flush, build the vector index), then switch the collection to this version atomically.

        Args:
            contents: the identity of each file's bytes, so that a later version can start from this one.
            keep: how many versions that were made from a revision stay (`freshness.revisions.retained`).
            facts: join those that the writer was started with.
        """
        ...

    def discard(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class Reader(Protocol):
    """One published version, open for search."""

    info: VersionInfo

    def search(self, dense: DenseVector, sparse: SparseVector, limit: int, where: SearchFilter) -> Found:
        """Hybrid search, best first; see `ranking` for the scores."""
        ...

    def scroll(self, *, with_vectors: bool = False) -> Iterator[Point]:
        """Every chunk once; ``dense`` and ``sparse`` are empty unless ``with_vectors``."""
        ...

    def close(self) -> None: ...


class VectorStore(Protocol):
    """All collections of one place."""

    def collections(self) -> list[VersionInfo]: ...

    def current(self, collection: str) -> VersionInfo:
        """The published version of ``collection``; cheap enough to ask before every search.

        Raises:
            CollectionNotFound: nothing of that name was published.
            IndexDamaged: an indexer may go on as if there were nothing.
        """
        ...

    def versions(self, collection: str) -> list[VersionInfo]:
        """The published version, then the earlier ones that are kept, the last published first; damaged ones left out.

        Raises:
            CollectionNotFound: nothing of that name was published.
        """
        ...

    def check(self, collection: str, version: str | None = None) -> None:
        """Compare what lies on the disk with what was published, also while a server holds it (a few 100 MB/s).

        Raises:
            CollectionNotFound: nothing of that name was published.
            IndexDamaged: naming the first file that is not as it was.
            VersionGone: ``version`` is not kept any more.
        """
        ...

    def files(self, info: VersionInfo) -> Mapping[FileKey, FileEntry]:
        """What a version remembers of its files; empty if it does not, and then none can start from it."""
        ...

    def reader(self, collection: str, version: str | None = None) -> Reader:
        """Open the published version, or an earlier one; it stays readable when the next one is published.

        Raises:
            CollectionNotFound: nothing of that name was published.
            VersionGone: ``version`` is not kept any more.
            IndexDamaged: its files are not what was published.
            IndexHeld: another process has it open.
            StoreUnavailable: the server does not answer.
        """
        ...

    def writer(
        self, collection: str, embedder_digest: str, dimension: int, base: VersionInfo | None = None, **facts: Any
    ) -> Writer:
        """Start the next version of ``collection``; one writer at a time, readers are not disturbed.

        It starts with what ``base`` holds if the store can do so (see `Writer.files`), else empty.
        """
        ...

    def republish(self, info: VersionInfo, keep: int = 2) -> VersionInfo:
        """Make a kept version the published one, as it is, with the facts of ``info``.

        Raises:
            VersionGone: it is not kept any more.
            StoreUnavailable: another run is writing.
        """
        ...

    def vectors(self, collection: str) -> "Mapping[str, NDArray[np.float32]]":
        """Chunk digest -> dense vector [dimension]; empty when nothing is published, or it is damaged.

        Of the published version and, where that costs little, of the kept ones that the same embedder made.

        Works while a server holds the collection open, so that an indexer reuses the vectors of unchanged chunks.
        Whether they come from the same embedder is the caller's to check (`current`).
        """
        ...

    def drop(self, collection: str) -> None: ...


def checked(info: VersionInfo, dense: DenseVector) -> "NDArray[np.float32]":
    """``dense`` as float32 [dimension].

    Raises:
        EmbedderMismatch: it has another dimension than the collection's vectors, or values that are no numbers.
    """
    import numpy as np

    vector = np.asarray(dense, dtype=np.float32)
    if vector.shape == (info.dimension,) and np.isfinite(vector).all():
        return vector
    raise EmbedderMismatch(
        f"The vectors of {info.collection!r} have {info.dimension} finite values; this one has the shape "
        f"{vector.shape} and {np.count_nonzero(np.isfinite(vector))} finite values",
        remedy(info.collection),
    )


def closed(info: VersionInfo) -> StoreUnavailable:
    return StoreUnavailable(
        f"Version {info.version} of {info.collection!r} was published or discarded already", "Start another one."
    )
