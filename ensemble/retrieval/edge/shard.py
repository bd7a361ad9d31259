"""One shard of Qdrant Edge: made, opened, shared inside this process, asked.

The engine loads some damaged shards as smaller ones without a word, and panics on others. So the checksums of a
published version's files are compared before it is opened. They are settled: the engine compacts its journals when it
loads a shard for the first time, which `finish` does before anything is published.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import structlog

from slipstream.ensemble.retrieval.edge.versions import CollectionFolder
from slipstream.ensemble.retrieval.errors import IndexHeld, StoreUnavailable, remedy
from slipstream.ensemble.retrieval.hits import DENSE, FILTERED, REPO, SPARSE, WITHIN, folders, point_id, to_payload
from slipstream.ensemble.retrieval.lock import FileLock
from slipstream.ensemble.retrieval.store import FileKey, Point, VersionInfo
from slipstream.ensemble.retrieval.vector_index import DEFAULT, FULL_SCAN_KB, Quantization, VectorIndex

if TYPE_CHECKING:
    import numpy as np
    import qdrant_edge
    from numpy.typing import NDArray

log = structlog.get_logger(__name__)


@contextmanager
def engine(message: str, what_next: str) -> Iterator[None]:
    """Turn what the engine raises, its panics among it, into `StoreUnavailable`."""
    try:
        yield
    except StoreUnavailable:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise StoreUnavailable(f"{message}: {error}", what_next) from error


def config(dimension: int, index: VectorIndex) -> "qdrant_edge.EdgeConfig":
    """What a shard is: no write-ahead log, since nothing is read before it is whole."""
    import qdrant_edge as edge

    quantizations: dict[Quantization, Any] = {
        Quantization.NONE: None,
        Quantization.INT8: edge.ScalarQuantizationConfig(edge.ScalarType.Int8, quantile=0.99, always_ram=True),
        Quantization.BINARY: edge.BinaryQuantizationConfig(always_ram=True),
    }
    dense = edge.EdgeVectorParams(
        size=dimension,
        distance=edge.Distance.Cosine,
        hnsw_config=edge.HnswIndexConfig(index.m, index.ef_construct, FULL_SCAN_KB),
        quantization_config=quantizations[index.quantization],
    )
    return edge.EdgeConfig(
        vectors={DENSE: dense},
        sparse_vectors={SPARSE: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=index.scanned_up_to_kb),
        wal_enabled=False,
    )


def search_params(index: VectorIndex) -> "qdrant_edge.SearchParams":
    """How dense vectors are looked for; the sparse ones are found exactly, whatever this says."""
    import qdrant_edge as edge

    rescored = edge.QuantizationSearchParams(rescore=True, oversampling=index.oversampling)
    return edge.SearchParams(hnsw_ef=index.ef, quantization=rescored)


def create(path: Path, dimension: int) -> "qdrant_edge.EdgeShard":
    """An empty shard for one version.

    The fields that searches filter by are indexed first, so that the HNSW graph gets links along them.
    """
    import qdrant_edge as edge

    path.mkdir()
    shard = edge.EdgeShard.create(str(path), config(dimension, DEFAULT))
    for name in FILTERED:
        shard.update(edge.UpdateOperation.create_field_index(name, edge.PayloadSchemaType.Keyword))
    return shard


def upsert(shard: Any, points: Sequence[Point], vectors: "Sequence[NDArray[np.float32]]") -> None:
    import qdrant_edge as edge

    made = []
    for point, dense in zip(points, vectors, strict=True):
        sparse = edge.SparseVector(point.sparse.indices, point.sparse.values)
        both: dict[str, Any] = {DENSE: dense, SPARSE: sparse}
        made.append(edge.Point(point_id(point.chunk), both, to_payload(point.chunk)))
    shard.update(edge.UpdateOperation.upsert_points(made))


def load(path: Path) -> "qdrant_edge.EdgeShard":
    """A shard that nobody else has open, to go on writing to it.

    Raises:
        StoreUnavailable: the engine does not take it.
    """
    import qdrant_edge as edge

    with engine(f"{path} cannot be opened", "Build it anew."):
        return edge.EdgeShard.load(str(path))


def remove_files(shard: Any, files: Sequence[FileKey]) -> None:
    """Delete the points of every file."""
    import qdrant_edge as edge

    for repo, path in files:
        conditions: list[Any] = [
            edge.FieldCondition(REPO, match=edge.MatchValue(repo)),
            edge.FieldCondition(WITHIN, match=edge.MatchValue(folders(path)[-1])),
        ]
        shard.update(edge.UpdateOperation.delete_points_by_filter(edge.Filter(must=conditions)))


def finish(shard: "qdrant_edge.EdgeShard", path: Path) -> int:
    """Build the vector index, settle and close the files; gives the number of points."""
    import qdrant_edge as edge

    shard.optimize()
    shard.flush()
    shard.close()
    settled = edge.EdgeShard.load(str(path))
    points: int = settled.info().points_count
    settled.flush()
    settled.close()
    return points


class SharedShard:
    """A published version's shard, open once in this process however many readers it has."""

    _open: ClassVar[dict[Path, "SharedShard"]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path, shard: "qdrant_edge.EdgeShard", lock: FileLock) -> None:
        self.engine = shard
        self._path = path
        self._lock = lock
        self._readers = 0

    @classmethod
    def open(cls, folder: CollectionFolder, info: VersionInfo, expected: Mapping[str, int]) -> "SharedShard":
        """The shard of ``info``; `close` it once per call.

        Raises:
            FileNotFoundError: the version was removed.
            IndexDamaged: its files are not what was published.
            IndexHeld: another process has it open.
        """
        path = (folder.version_path(info.version) / "shard").resolve()
        with cls._guard:
            shared = cls._open.get(path)
            if shared is None:
                lock = folder.reader_lock(info.version)
                if not lock.acquire():
                    raise IndexHeld(
                        f"Another process has the index of {folder.collection!r} open",
                        "Another search, or `slipstream serve`, is holding it: wait for it, or stop it first.",
                    )
                try:
                    shared = cls._open[path] = cls(path, _load(folder, path, info, expected), lock)
                except BaseException:
                    lock.release()
                    raise
            shared._readers += 1
            return shared

    def close(self) -> None:
        with self._guard:
            self._readers -= 1
            if self._readers == 0:
                del self._open[self._path]
                self.engine.close()
                self._lock.release()


def _load(folder: CollectionFolder, path: Path, info: VersionInfo, expected: Mapping[str, int]) -> Any:
    import qdrant_edge as edge

    folder.check(info, expected)
    with engine(f"The index of {folder.collection!r} cannot be opened", remedy(folder.collection)):
        shard = edge.EdgeShard.load(str(path))
    log.info("index.opened", collection=info.collection, version=info.version, chunks=info.chunks)
    return shard
