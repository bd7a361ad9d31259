"""One question to one shard of Qdrant Edge."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slipstream.ensemble.contracts import SearchFilter
from slipstream.ensemble.retrieval.edge.shard import search_params
from slipstream.ensemble.retrieval.hits import DENSE, SPARSE, conditions
from slipstream.ensemble.retrieval.ranking import PointId, Scores
from slipstream.ensemble.retrieval.store import SparseVector
from slipstream.ensemble.retrieval.vector_index import DEFAULT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EdgeAsked:
    """`ranking.Asked` on an open ``shard``."""

    def __init__(self, shard: Any, dense: "NDArray[np.float32]", sparse: SparseVector, where: SearchFilter) -> None:
        import qdrant_edge as edge

        self._shard = shard
        vector: Any = dense  # the engine takes arrays; its stubs do not know
        self._dense = edge.Query.Nearest(vector, using=DENSE)
        self._sparse = edge.Query.Nearest(edge.SparseVector(sparse.indices, sparse.values), using=SPARSE)
        self._has_words = bool(sparse.indices)
        self._where: list[Any] = [
            edge.FieldCondition(name, match=edge.MatchValue(value)) for name, value in conditions(where).items()
        ]

    def nearest(self, limit: int) -> tuple[Scores, Scores]:
        import qdrant_edge as edge

        params, where = search_params(DEFAULT), edge.Filter(must=self._where)
        return self._both(
            edge.QueryRequest(limit=limit, query=self._dense, filter=where, params=params),
            edge.QueryRequest(limit=limit, query=self._sparse, filter=where) if self._has_words else None,
        )

    def scores(self, dense: Sequence[PointId], sparse: Sequence[PointId]) -> tuple[Scores, Scores]:
        import qdrant_edge as edge

        def of(query: Any, points: Sequence[PointId]) -> Any:
            if not points:
                return None
            known = edge.Filter(must=[edge.HasIdCondition(set(points))])
            exact = edge.SearchParams(exact=True)
            return edge.QueryRequest(limit=len(points), query=query, filter=known, params=exact)

        return self._both(of(self._dense, dense), of(self._sparse, sparse) if self._has_words else None)

    def payloads(self, ids: Sequence[PointId]) -> Mapping[PointId, Mapping[str, Any]]:
        return {record.id: record.payload for record in self._shard.retrieve(list(ids), True, False)}

    def _both(self, dense: Any, sparse: Any) -> tuple[Scores, Scores]:
        """The scores of the points that two requests find; of none where there is no request."""
        import qdrant_edge as edge

        requests = [request for request in (dense, sparse) if request is not None]
        answers = iter(self._shard.query_batch(edge.QueryBatchRequest(requests)) if requests else ())
        first, second = (
            {point.id: float(point.score) for point in next(answers)} if request is not None else {}
            for request in (dense, sparse)
        )
        return first, second
