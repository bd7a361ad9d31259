"""`VectorStore` on Qdrant Edge: one shard per version, owned by one process at a time, no server."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from slipstream.ensemble.contracts import SearchFilter
from slipstream.ensemble.retrieval.bm25 import FORMAT, FORMAT_FACT, asks_for_tests
from slipstream.ensemble.retrieval.edge import shard as shards
from slipstream.ensemble.retrieval.edge.asked import EdgeAsked
from slipstream.ensemble.retrieval.edge.files import read_files
from slipstream.ensemble.retrieval.edge.vectors import Vectors, segments
from slipstream.ensemble.retrieval.edge.versions import CollectionFolder, remove_tree
from slipstream.ensemble.retrieval.edge.writer import EdgeWriter, writing
from slipstream.ensemble.retrieval.errors import (
    CollectionNameInvalid,
    CollectionNotFound,
    IndexDamaged,
    StoreUnavailable,
    not_found,
)
from slipstream.ensemble.retrieval.hits import to_point
from slipstream.ensemble.retrieval.lock import FileLock
from slipstream.ensemble.retrieval.naming import new_version
from slipstream.ensemble.retrieval.ranking import rank
from slipstream.ensemble.retrieval.store import (
    DenseVector,
    FileEntry,
    FileKey,
    Found,
    Point,
    SparseVector,
    VersionInfo,
    checked,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = structlog.get_logger(__name__)

_SCROLL_PAGE = 256


class EdgeStore:
    """The collections below ``index_dir``; see `edge.versions` for what lies there."""

    def __init__(self, index_dir: Path) -> None:
        self._index_dir = index_dir

    def collections(self) -> list[VersionInfo]:
        """Every published collection, by name; a damaged one is left out (`current` says what is wrong with it)."""
        found = []
        for path in sorted(self._index_dir.iterdir()) if self._index_dir.is_dir() else ():
            if not path.name.startswith(".") and (path / "CURRENT").exists():
                with suppress(IndexDamaged, CollectionNameInvalid):
                    found.append(self.current(path.name))
        return found

    def current(self, collection: str) -> VersionInfo:
        return CollectionFolder(self._index_dir, collection).current()[0]

    def versions(self, collection: str) -> list[VersionInfo]:
        folder = CollectionFolder(self._index_dir, collection)
        return folder.versions() or [folder.current()[0]]

    def check(self, collection: str, version: str | None = None) -> None:
        folder = CollectionFolder(self._index_dir, collection)
        info, expected = folder.current() if version is None else folder.kept(version)
        folder.check(info, expected.shard)

    def files(self, info: VersionInfo) -> Mapping[FileKey, FileEntry]:
        folder = CollectionFolder(self._index_dir, info.collection)
        try:
            return read_files(folder.version_path(info.version))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("index.files_damaged", collection=info.collection, error=str(error))
            return {}

    def reader(self, collection: str, version: str | None = None) -> "EdgeReader":
        folder = CollectionFolder(self._index_dir, collection)
        while True:
            info, expected = folder.current() if version is None else folder.kept(version)
            try:
                return EdgeReader(info, shards.SharedShard.open(folder, info, expected.shard))
            except FileNotFoundError as error:
                folder.raise_if_current(info.version, error)

    def writer(
        self, collection: str, embedder_digest: str, dimension: int, base: VersionInfo | None = None, **facts: Any
    ) -> EdgeWriter:
        folder = CollectionFolder(self._index_dir, collection)
        info = VersionInfo(collection, new_version(), embedder_digest, dimension, 0, {FORMAT_FACT: FORMAT, **facts})
        with writing(folder):
            folder.path.mkdir(parents=True, exist_ok=True)
            lock = _exclusive(folder)
            try:
                folder.clear_leftovers()
                return EdgeWriter(folder, info, lock, base)
            except BaseException:
                lock.release()
                raise

    def republish(self, info: VersionInfo, keep: int = 2) -> VersionInfo:
        folder = CollectionFolder(self._index_dir, info.collection)
        with writing(folder):
            lock = _exclusive(folder)
            try:
                folder.republish(info, keep)
                folder.prune()
            finally:
                lock.release()
        return info

    def vectors(self, collection: str) -> "Mapping[str, NDArray[np.float32]]":
        folder = CollectionFolder(self._index_dir, collection)
        try:
            current, _ = folder.current()
            found, seen = Vectors(current.dimension), set[str]()
            for info in folder.versions():
                if info.embedder_digest == current.embedder_digest:
                    _add_vectors(folder, info, found, seen)
        except (CollectionNotFound, IndexDamaged):
            return {}
        return found

    def drop(self, collection: str) -> None:
        folder = CollectionFolder(self._index_dir, collection)
        if not folder.path.is_dir():
            raise not_found(collection)
        with writing(folder):
            lock = _exclusive(folder)
            try:
                remove_tree(folder.path)
            finally:
                lock.release()


class EdgeReader:
    """A published version. Threads may share it; the engine works outside Python's lock."""

    def __init__(self, info: VersionInfo, shard: shards.SharedShard) -> None:
        self.info = info
        self._shard: shards.SharedShard | None = shard

    def search(self, dense: DenseVector, sparse: SparseVector, limit: int, where: SearchFilter) -> Found:
        vector = checked(self.info, dense)
        with self._engine() as shard:
            return rank(
                EdgeAsked(shard, vector, sparse, where), limit, self.info.chunks, tests_too=asks_for_tests(sparse)
            )

    def scroll(self, *, with_vectors: bool = False) -> Iterator[Point]:
        import qdrant_edge as edge

        offset = None
        while True:
            request = edge.ScrollRequest(offset=offset, limit=_SCROLL_PAGE, with_payload=True, with_vector=with_vectors)
            with self._engine() as shard:
                records, offset = shard.scroll(request)
            for record in records:
                yield to_point(record.payload, record.vector if with_vectors else {})
            if offset is None:
                return

    def close(self) -> None:
        if self._shard is not None:
            self._shard.close()
            self._shard = None

    @contextmanager
    def _engine(self) -> Iterator[Any]:
        with shards.engine(f"The index of {self.info.collection!r} failed", "Look into the server's log."):
            if self._shard is None:
                raise StoreUnavailable(f"The reader of {self.info.collection!r} is closed", "Open another one.")
            yield self._shard.engine


def _add_vectors(folder: CollectionFolder, info: VersionInfo, found: Vectors, seen: set[str]) -> None:
    """Add the vectors of a version to ``found``, but for the segments that were ``seen`` in another one."""
    try:
        _, expected = folder.kept(info.version)
        folder.check_indexer_files(info, expected.indexer)
        for segment in segments(folder.version_path(info.version)):
            if segment.name not in seen:
                seen.add(segment.name)
                found.add(segment)
    except (StoreUnavailable, OSError, ValueError) as error:
        log.warning("index.vectors_damaged", collection=info.collection, version=info.version, error=str(error))


def _exclusive(folder: CollectionFolder) -> FileLock:
    lock = folder.writer_lock()
    if not lock.acquire(create=True):
        raise StoreUnavailable(
            f"Another process is indexing {folder.collection!r}", "Let it finish, then run this again."
        )
    return lock
