"""One question to one shard of Qdrant Edge."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slipstream.ensemble.contracts import SearchFilter
from slipstream.ensemble.retrieval.bm25 import TESTS
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
        self._sparse, self._tests = (
            edge.Query.Nearest(edge.SparseVector(words.indices, words.values), using=SPARSE)
            for words in (sparse, TESTS)
        )
        self._has_words = bool(sparse.indices)
        self._where: list[Any] = [
            edge.FieldCondition(name, match=edge.MatchValue(value)) for name, value in conditions(where).items()
        ]

    def nearest(self, limit: int) -> tuple[Scores, Scores]:
        import qdrant_edge as edge

        params, where = search_params(DEFAULT), edge.Filter(must=self._where)
        cosines, words = self._all(
            edge.QueryRequest(limit=limit, query=self._dense, filter=where, params=params),
            edge.QueryRequest(limit=limit, query=self._sparse, filter=where) if self._has_words else None,
        )
        return cosines, words

    def scores(
        self, dense: Sequence[PointId], sparse: Sequence[PointId], tests: Sequence[PointId]
    ) -> tuple[Scores, Scores, Collection[PointId]]:
        import qdrant_edge as edge

        def of(query: Any, points: Sequence[PointId]) -> Any:
            if not points:
                return None
            known = edge.Filter(must=[edge.HasIdCondition(set(points))])
            exact = edge.SearchParams(exact=True)
            return edge.QueryRequest(limit=len(points), query=query, filter=known, params=exact)

        words = of(self._sparse, sparse) if self._has_words else None
        cosines, scores, marked = self._all(of(self._dense, dense), words, of(self._tests, tests))
        return cosines, scores, marked.keys()

    def payloads(self, ids: Sequence[PointId]) -> Mapping[PointId, Mapping[str, Any]]:
        return {record.id: record.payload for record in self._shard.retrieve(list(ids), True, False)}

    def _all(self, *requests: Any) -> list[Scores]:
        """The scores of the points that each request finds; of none where there is no request."""
        import qdrant_edge as edge

        made = [request for request in requests if request is not None]
        answers = iter(self._shard.query_batch(edge.QueryBatchRequest(made)) if made else ())
        return [
            {point.id: float(point.score) for point in next(answers)} if request is not None else {}
            for request in requests
        ]
