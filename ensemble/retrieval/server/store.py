"""`VectorStore` on a Qdrant server, through `qdrant-client`."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slipstream.ensemble.contracts import SearchFilter
from slipstream.ensemble.retrieval.bm25 import FORMAT, FORMAT_FACT, asks_for_tests
from slipstream.ensemble.retrieval.errors import CollectionNotFound, VersionGone, not_found
from slipstream.ensemble.retrieval.hits import (
    to_point,
)
from slipstream.ensemble.retrieval.naming import check_name, new_version
from slipstream.ensemble.retrieval.ranking import rank
from slipstream.ensemble.retrieval.server.asked import ServerAsked
from slipstream.ensemble.retrieval.server.connection import Connection, metadata, physical, to_info, versions
from slipstream.ensemble.retrieval.server.writer import ServerShare, ServerWriter
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
    from qdrant_client import QdrantClient

_PAGE = 256
# A server has no lock that tells a dead writer from a slow one on another machine: what was not published within a day
# of its start is taken for dead.
_ABANDONED_AFTER = timedelta(days=1)


class ServerStore:
    """The collections of the server that ``client`` speaks to; ``place`` names it in errors."""

    def __init__(
        self, client: "QdrantClient", place: str = "Qdrant", abandoned_after: timedelta = _ABANDONED_AFTER
    ) -> None:
        self._connection = Connection(client, place, abandoned_after)

    def collections(self) -> list[VersionInfo]:
        found = []
        with self._connection.reaching() as client:
            for alias in client.get_aliases().aliases:
                facts = metadata(client, alias.collection_name)
                if facts is not None and facts["collection"] == alias.alias_name:
                    found.append(to_info(facts))
        return sorted(found, key=lambda info: info.collection)

    def current(self, collection: str) -> VersionInfo:
        facts = self._connection.published(collection)
        if facts is None:
            raise not_found(collection)
        return to_info(facts)

    def versions(self, collection: str) -> list[VersionInfo]:
        kept = self._connection.kept(collection)
        if not kept:
            raise not_found(collection)
        return kept

    def check(self, collection: str, version: str | None = None) -> None:
        """The server answers for its own disk; that the collection is there is all there is to see from here."""
        self._info(collection, version)

    def files(self, info: VersionInfo) -> Mapping[FileKey, FileEntry]:
        """Nothing: a version on a server is always built whole, from vectors that are known."""
        return {}

    def reader(self, collection: str, version: str | None = None) -> "ServerReader":
        return ServerReader(self._connection, self._info(collection, version))

    def _info(self, collection: str, version: str | None) -> VersionInfo:
        if version is None:
            return self.current(collection)
        found = [info for info in self.versions(collection) if info.version == version]
        if not found:
            raise VersionGone(f"Version {version} of {collection!r} is not kept any more", "Search again.")
        return found[0]

    def writer(
        self, collection: str, embedder_digest: str, dimension: int, base: VersionInfo | None = None, **facts: Any
    ) -> ServerWriter:
        info = VersionInfo(
            check_name(collection), new_version(), embedder_digest, dimension, 0, {FORMAT_FACT: FORMAT, **facts}
        )
        self._connection.check_free(collection)
        self._connection.prune(collection)
        return ServerWriter(self._connection, info)

    def republish(self, info: VersionInfo, keep: int = 2) -> VersionInfo:
        self._info(info.collection, info.version)
        self._connection.publish(info, keep)
        self._connection.prune(info.collection)
        return info

    def share(self, info: VersionInfo) -> ServerShare:
        """A part in the version ``info`` that a writer, in whatever process, has under construction."""
        return ServerShare(self._connection, info)

    def vectors(self, collection: str) -> "Mapping[str, NDArray[np.float32]]":
        import numpy as np

        try:
            reader = self.reader(collection)
        except CollectionNotFound:
            return {}
        points = reader.scroll(with_vectors=True)
        return {point.chunk.digest: np.asarray(point.dense, dtype=np.float32) for point in points}

    def drop(self, collection: str) -> None:
        from qdrant_client import models

        self.current(collection)
        with self._connection.reaching() as client:
            client.update_collection_aliases(
                [models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=collection))]
            )
            for version in versions(client, collection):
                client.delete_collection(physical(collection, version))


class ServerReader:
    """A published version. It holds nothing open; the version stays as long as it is kept."""

    def __init__(self, connection: Connection, info: VersionInfo) -> None:
        self.info = info
        self._connection = connection
        self._physical = physical(info.collection, info.version)

    def search(self, dense: DenseVector, sparse: SparseVector, limit: int, where: SearchFilter) -> Found:
        vector = checked(self.info, dense)
        with self._connection.reaching() as client:
            return rank(
                ServerAsked(client, self._physical, vector, sparse, where),
                limit,
                self.info.chunks,
                tests_too=asks_for_tests(sparse),
            )

    def scroll(self, *, with_vectors: bool = False) -> Iterator[Point]:
        offset = None
        while True:
            with self._connection.reaching() as client:
                records, offset = client.scroll(
                    self._physical, limit=_PAGE, offset=offset, with_payload=True, with_vectors=with_vectors
                )
            for record in records:
                vectors: Any = record.vector or {}
                yield to_point(record.payload or {}, vectors)
            if offset is None:
                return

    def close(self) -> None:
        """Nothing is held."""
