"""`VectorStore` on Qdrant Edge: one shard per version, owned by one process at a time, no server."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import structlog

from slipstream.ensemble.contracts import Hit, SearchFilter
from slipstream.ensemble.retrieval.edge import shard as shards
from slipstream.ensemble.retrieval.edge.vectors import VectorWriter, read_vectors
from slipstream.ensemble.retrieval.edge.versions import CollectionFolder, FileLock, remove_tree
from slipstream.ensemble.retrieval.hits import DENSE, SPARSE, Candidate, candidates, conditions, fuse, to_point
from slipstream.ensemble.retrieval.store import (
    CollectionNameInvalid,
    CollectionNotFound,
    DenseVector,
    IndexDamaged,
    Point,
    SparseVector,
    StoreUnavailable,
    VersionInfo,
    Writer,
    checked,
    closed,
    new_version,
    not_found,
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

    def check(self, collection: str) -> None:
        folder = CollectionFolder(self._index_dir, collection)
        info, expected = folder.current()
        folder.check(info, expected.shard)

    def reader(self, collection: str) -> "EdgeReader":
        folder = CollectionFolder(self._index_dir, collection)
        while True:
            info, expected = folder.current()
            try:
                return EdgeReader(info, shards.SharedShard.open(folder, info, expected.shard))
            except FileNotFoundError as error:
                folder.raise_if_current(info.version, error)

    def writer(self, collection: str, embedder_digest: str, dimension: int, **facts: Any) -> "EdgeWriter":
        folder = CollectionFolder(self._index_dir, collection)
        info = VersionInfo(collection, new_version(), embedder_digest, dimension, 0, facts)
        with _writing(folder):
            folder.path.mkdir(parents=True, exist_ok=True)
            lock = _exclusive(folder)
            try:
                folder.clear_leftovers()
                return EdgeWriter(folder, info, lock)
            except BaseException:
                lock.release()
                raise

    def vectors(self, collection: str) -> "Mapping[str, NDArray[np.float32]]":
        folder = CollectionFolder(self._index_dir, collection)
        try:
            info, expected = folder.current()
            folder.check_vectors(info, expected.vectors)
            return read_vectors(folder.version_path(info.version), info.dimension)
        except CollectionNotFound:
            return {}
        except (IndexDamaged, OSError, ValueError) as error:
            log.warning("index.vectors_damaged", collection=collection, error=str(error))
            return {}

    def drop(self, collection: str) -> None:
        folder = CollectionFolder(self._index_dir, collection)
        if not folder.path.is_dir():
            raise not_found(collection)
        with _writing(folder):
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

    def search(self, dense: DenseVector, sparse: SparseVector, limit: int, where: SearchFilter) -> list[Hit]:
        import qdrant_edge as edge

        must: list[Any] = [
            edge.FieldCondition(name, match=edge.MatchValue(value)) for name, value in conditions(where).items()
        ]
        vector: Any = checked(self.info, dense)  # the engine takes arrays; its stubs do not know
        queries = [edge.Query.Nearest(vector, using=DENSE)]
        if sparse.indices:
            queries.append(edge.Query.Nearest(edge.SparseVector(sparse.indices, sparse.values), using=SPARSE))
        request = edge.QueryBatchRequest(
            [
                edge.QueryRequest(
                    limit=candidates(limit), query=query, filter=edge.Filter(must=must), with_payload=True
                )
                for query in queries
            ]
        )
        with self._engine() as shard:
            found = shard.query_batch(request)
        return fuse(([Candidate(point.score, point.payload) for point in ranked] for ranked in found), limit)

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


class EdgeWriter(Writer):
    """A version in a folder of its own that no reader knows, until it is whole."""

    def __init__(self, folder: CollectionFolder, info: VersionInfo, lock: FileLock) -> None:
        self._folder = folder
        self._info = info
        self._lock = lock
        self._path = folder.building_path(info.version)
        self._path.mkdir()
        self._vectors = VectorWriter(self._path)
        self._shard: Any = shards.create(self._path / "shard", info.dimension)

    def upsert(self, points: Sequence[Point]) -> None:
        vectors = [checked(self._info, point.dense) for point in points]
        with _writing(self._folder):
            shards.upsert(self._open_shard(), points, vectors)
            self._vectors.append([point.chunk.digest for point in points], vectors)

    def publish(self, **facts: Any) -> VersionInfo:
        with _writing(self._folder):
            chunks = shards.finish(self._open_shard(), self._path / "shard")
            self._vectors.close()
            self._info = replace(self._info, chunks=chunks, facts={**self._info.facts, **facts})
            self._folder.publish(self._info)
            self._shard = None
            self._folder.prune()
        self._lock.release()
        log.info("index.published", collection=self._info.collection, version=self._info.version, chunks=chunks)
        return self._info

    def discard(self) -> None:
        if self._shard is not None:
            with suppress(Exception):
                self._shard.close()
            self._shard = None
            self._vectors.close()
            rmtree(self._path, ignore_errors=True)
        self._lock.release()

    def _open_shard(self) -> Any:
        if self._shard is None:
            raise closed(self._info)
        return self._shard


def _writing(folder: CollectionFolder) -> Any:
    return shards.engine(
        f"The index of {folder.collection!r} cannot be written", f"Check space and permissions of {folder.path}."
    )


def _exclusive(folder: CollectionFolder) -> FileLock:
    lock = folder.writer_lock()
    if not lock.acquire(create=True):
        raise StoreUnavailable(
            f"Another process is indexing {folder.collection!r}", "Let it finish, then run this again."
        )
    return lock
