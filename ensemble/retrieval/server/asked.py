"""One question to one collection of a Qdrant server."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slipstream.ensemble.contracts import SearchFilter
from slipstream.ensemble.retrieval.hits import DENSE, SPARSE, conditions
from slipstream.ensemble.retrieval.ranking import PointId, Scores
from slipstream.ensemble.retrieval.server.writer import search_params
from slipstream.ensemble.retrieval.store import SparseVector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qdrant_client import QdrantClient


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
        return self._both(more, more)

    def scores(self, dense: Sequence[PointId], sparse: Sequence[PointId]) -> tuple[Scores, Scores]:
        from qdrant_client import models

        def of(points: Sequence[PointId]) -> dict[str, Any] | None:
            if not points:
                return None
            known = models.Filter(must=[models.HasIdCondition(has_id=list(points))])
            return {"filter": known, "limit": len(points)}  # so few are compared one by one

        return self._both(of(dense), of(sparse))

    def payloads(self, ids: Sequence[PointId]) -> Mapping[PointId, Mapping[str, Any]]:
        records = self._client.retrieve(self._name, list(ids), with_payload=True)
        return {record.id: record.payload or {} for record in records}

    def _both(self, dense: dict[str, Any] | None, sparse: dict[str, Any] | None) -> tuple[Scores, Scores]:
        """The scores of the points that two requests find; of none where there is no request."""
        from qdrant_client import models

        requests = {}
        if dense is not None:
            requests[DENSE] = models.QueryRequest(query=self._dense, using=DENSE, **dense)
        if sparse is not None and self._sparse is not None:
            requests[SPARSE] = models.QueryRequest(query=self._sparse, using=SPARSE, **sparse)
        answers = self._client.query_batch_points(self._name, list(requests.values())) if requests else []
        found = {
            using: {point.id: point.score for point in answer.points}
            for using, answer in zip(requests, answers, strict=True)
        }
        return found.get(DENSE, {}), found.get(SPARSE, {})
