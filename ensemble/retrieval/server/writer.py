"""A version under construction on a Qdrant server: one writer starts and publishes it, others may add to it."""

import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import structlog

from slipstream.ensemble.retrieval.errors import StoreUnavailable
from slipstream.ensemble.retrieval.hits import DENSE, FILTERED, SPARSE, point_id, to_payload
from slipstream.ensemble.retrieval.server.connection import METADATA, Connection, physical
from slipstream.ensemble.retrieval.store import FileEntry, FileKey, Point, VersionInfo, Writer, checked, closed
from slipstream.ensemble.retrieval.vector_index import DEFAULT, FULL_SCAN_KB, Quantization

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

log = structlog.get_logger(__name__)

_BATCH = 256
# Searches are right without the HNSW graph, only slower; so a server that is busy elsewhere holds nobody up for longer.
_INDEXING_TIMEOUT_S = 600.0


class ServerShare:
    """What one process adds to a version that another one publishes."""

    def __init__(self, connection: Connection, info: VersionInfo) -> None:
        self._connection = connection
        self._info = info
        self._physical = physical(info.collection, info.version)

    def upsert(self, points: Sequence[Point]) -> None:
        from qdrant_client import models

        made = [
            models.PointStruct(
                id=point_id(point.chunk),
                vector={
                    DENSE: checked(self._info, point.dense).tolist(),
                    SPARSE: models.SparseVector(indices=point.sparse.indices, values=point.sparse.values),
                },
                payload=to_payload(point.chunk),
            )
            for point in points
        ]
        with self._connection.reaching() as client:
            for start in range(0, len(made), _BATCH):
                client.upsert(self._physical, made[start : start + _BATCH], wait=True)


class ServerWriter(ServerShare, Writer):
    """A collection of the server that no alias points at yet."""

    def __init__(self, connection: Connection, info: VersionInfo) -> None:
        super().__init__(connection, info)
        self._open = True
        try:
            self._create(connection, info)
        except BaseException:
            self.discard()  # of what the server made before it refused the rest
            raise

    def _create(self, connection: Connection, info: VersionInfo) -> None:
        from qdrant_client import models

        with connection.reaching() as client, warnings.catch_warnings():
            # The client's in-memory mode, which stands in for a server in tests, warns that it needs no indexes.
            warnings.simplefilter("ignore", UserWarning)
            client.create_collection(
                self._physical,
                vectors_config={DENSE: _vector_params(info.dimension)},
                sparse_vectors_config={SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                optimizers_config=models.OptimizersConfigDiff(indexing_threshold=DEFAULT.scanned_up_to_kb),
                metadata={METADATA: asdict(info) | {"published": False}},
            )
            for name in FILTERED:
                client.create_payload_index(self._physical, name, models.PayloadSchemaType.KEYWORD, wait=True)

    @property
    def info(self) -> VersionInfo:
        """What the others have to know to take a share in it (`ServerStore.share`)."""
        return self._info

    def upsert(self, points: Sequence[Point]) -> None:
        self._check_open()
        super().upsert(points)

    @property
    def files(self) -> Mapping[FileKey, FileEntry]:
        return {}

    def remove(self, files: Sequence[FileKey]) -> None:
        """There is nothing to remove: it started empty."""

    def count(self) -> int:
        """The chunks that are in it, whoever wrote them."""
        with self._connection.reaching() as client:
            return int(client.count(self._physical, exact=True).count)

    def publish(self, contents: Mapping[FileKey, str] | None = None, *, keep: int = 2, **facts: Any) -> VersionInfo:
        self._check_open()
        with self._connection.reaching() as client:
            _wait_indexed(client, self._physical)
        chunks = self.count()
        self._info = replace(self._info, chunks=chunks, facts={**self._info.facts, **facts})
        self._connection.publish(self._info, keep)
        self._open = False
        self._connection.prune(self._info.collection)
        log.info(
            "index.published",
            collection=self._info.collection,
            version=self._info.version,
            chunks=self._info.chunks,
        )
        return self._info

    def discard(self) -> None:
        if self._open:
            self._open = False
            with suppress(StoreUnavailable), self._connection.reaching() as client:
                client.delete_collection(self._physical)

    def _check_open(self) -> None:
        if not self._open:
            raise closed(self._info)


def _vector_params(dimension: int) -> "models.VectorParams":
    from qdrant_client import models

    quantizations: dict[Quantization, models.QuantizationConfig | None] = {
        Quantization.NONE: None,
        Quantization.INT8: models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        ),
        Quantization.BINARY: models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True)),
    }
    return models.VectorParams(
        size=dimension,
        distance=models.Distance.COSINE,
        hnsw_config=models.HnswConfigDiff(
            m=DEFAULT.m, ef_construct=DEFAULT.ef_construct, full_scan_threshold=FULL_SCAN_KB
        ),
        quantization_config=quantizations[DEFAULT.quantization],
    )


def search_params() -> "models.SearchParams":
    from qdrant_client import models

    rescored = models.QuantizationSearchParams(rescore=True, oversampling=DEFAULT.oversampling)
    return models.SearchParams(hnsw_ef=DEFAULT.ef, quantization=rescored)


def _wait_indexed(client: "QdrantClient", name: str) -> None:
    deadline = time.monotonic() + _INDEXING_TIMEOUT_S
    while client.get_collection(name).status != "green" and time.monotonic() < deadline:
        time.sleep(0.2)
