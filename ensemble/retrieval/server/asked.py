"""One question to one collection of a Qdrant server."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slipstream.ensemble.contracts import SearchFilter
from slipstream.ensemble.retrieval.bm25 import TESTS
from slipstream.ensemble.retrieval.hits import DENSE, SPARSE, conditions
from slipstream.ensemble.retrieval.ranking import PointId, Scores
from slipstream.ensemble.retrieval.server.writer import search_params
from slipstream.ensemble.retrieval.store import SparseVector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qdrant_client import QdrantClient, models


class ServerAsked:
    """`ranking.Asked` on the collection ``name`` of the server that ``client`` reaches."""

    def __init__(
        self,
        client: "QdrantClient",
        name: str,
        dense: "NDArray[np.float32]",
        sparse: SparseVector,
        where: SearchFilter,
    ) -> None:
        from qdrant_client import models

        self._client, self._name = client, name
        self._dense = dense.tolist()
        self._sparse = models.SparseVector(indices=sparse.indices, values=sparse.values) if sparse.indices else None
        self._where: list[models.Condition] = [
            models.FieldCondition(key=key, match=models.MatchValue(value=value))
            for key, value in conditions(where).items()
        ]

    def nearest(self, limit: int) -> tuple[Scores, Scores]:
        from qdrant_client import models

        where = models.Filter(must=self._where)
        more: dict[str, Any] = {"filter": where, "limit": limit, "params": search_params()}
        cosines, words = self._all(self._by_cosine(more), self._by_words(more))
        return cosines, words

    def scores(
        self, dense: Sequence[PointId], sparse: Sequence[PointId], tests: Sequence[PointId]
    ) -> tuple[Scores, Scores, Collection[PointId]]:
        from qdrant_client import models

        def of(points: Sequence[PointId]) -> dict[str, Any] | None:
            if not points:
                return None
            known = models.Filter(must=[models.HasIdCondition(has_id=list(points))])
            return {"filter": known, "limit": len(points)}  # so few are compared one by one

        mark = models.SparseVector(indices=TESTS.indices, values=TESTS.values)
        among = of(tests)
        marked = models.QueryRequest(query=mark, using=SPARSE, **among) if among else None
        cosines, words, found = self._all(self._by_cosine(of(dense)), self._by_words(of(sparse)), marked)
        return cosines, words, found.keys()

    def payloads(self, ids: Sequence[PointId]) -> Mapping[PointId, Mapping[str, Any]]:
        records = self._client.retrieve(self._name, list(ids), with_payload=True)
        return {record.id: record.payload or {} for record in records}

    def _by_cosine(self, more: dict[str, Any] | None) -> "models.QueryRequest | None":
        from qdrant_client import models

        return models.QueryRequest(query=self._dense, using=DENSE, **more) if more else None

    def _by_words(self, more: dict[str, Any] | None) -> "models.QueryRequest | None":
        from qdrant_client import models

        return models.QueryRequest(query=self._sparse, using=SPARSE, **more) if more and self._sparse else None

    def _all(self, *requests: "models.QueryRequest | None") -> list[Scores]:
        """The scores of the points that each request finds; of none where there is no request."""
        made = [request for request in requests if request is not None]
        answers = iter(self._client.query_batch_points(self._name, made) if made else ())
        return [
            {point.id: point.score for point in next(answers).points} if request is not None else {}
            for request in requests
        ]
