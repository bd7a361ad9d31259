"""What is compared: anything that orders a collection's chunks for a query. One more is a class here and a line in
`RANKERS`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.engines.protocols import Progress
from slipstream.ensemble.retrieval.chunker import embedded_text
from slipstream.ensemble.retrieval.evaluation.collection import Collection
from slipstream.ensemble.retrieval.evaluation.queries import Query
from slipstream.ensemble.retrieval.evaluation.ranker import Ranked, Ranker
from slipstream.ensemble.retrieval.evaluation.steps import LEFT_OUT, STEPS, Laboratory
from slipstream.ensemble.retrieval.evaluation.vectors import CachedEmbedder
from slipstream.ensemble.retrieval.store import Chunk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slipstream.ensemble.retrieval.evaluation.lexical import Lexical

_DEPTH = 100  # of the lists that are fused, as deep as the product reads them
_RRF_K = 60


@dataclass
class Bench:
    """What rankers are made from; what is costly is made when the first of them asks for it.

    Attributes:
        embedder: the product's; ``plain`` is that of the baselines.
        folder: where indexes are kept from one run to the next.
        read: what the steps' embedder reads of a chunk; the index's own way by default.
    """

    collection: Collection
    embedder: CachedEmbedder
    plain: CachedEmbedder
    folder: Path
    progress: Progress
    read: Callable[[Chunk], str] = embedded_text

    @cached_property
    def texts(self) -> list[str]:
        """The chunks' text alone, without path or symbol."""
        return [chunk.text for chunk in self.collection.chunks]

    @cached_property
    def vectors(self) -> "NDArray[np.float32]":
        """Unit vectors of `texts` [chunks, dimension]."""
        return self.plain.embed_watched(self.texts, self.progress)

    @cached_property
    def lexical(self) -> "Lexical":
        from slipstream.ensemble.retrieval.evaluation.lexical import Lexical

        self.progress(0.0, "counting words")
        return Lexical(self.texts)

    @cached_property
    def laboratory(self) -> Laboratory:
        return Laboratory(self)

    def best(self, scores: "NDArray[np.float64]", limit: int) -> list[Ranked]:
        """The best of ``scores`` [chunks], ties in the order of the chunks."""
        chunks, prefix = self.collection.chunks, self.collection.prefix
        return [
            Ranked(prefix + chunks[at].path, chunks[at].line_start, chunks[at].line_end, float(scores[at]))
            for at in (-scores).argsort(kind="stable")[:limit]
        ]


class Bm25(Ranker):
    """The words alone: `slipstream.ensemble.retrieval.evaluation.lexical`."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._lexical = bench.lexical

    def scores(self, query: Query) -> "NDArray[np.float64]":
        return self._lexical.scores(query.text)

    def rank(self, query: Query, limit: int) -> Sequence[Ranked]:
        return [found for found in self._bench.best(self.scores(query), limit) if found.score > 0]


class Dense(Ranker):
    """The embedder alone: cosine similarity to every chunk's text."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._vectors = bench.vectors

    def scores(self, query: Query) -> "NDArray[np.float64]":
        scores: NDArray[np.float64] = self._vectors @ self._bench.plain.embed([query.text])[0]
        return scores

    def rank(self, query: Query, limit: int) -> Sequence[Ranked]:
        return self._bench.best(self.scores(query), limit)


class Rrf(Ranker):
    """Reciprocal rank fusion of the two, with the constant of its authors.

    Cormack, Clarke and Büttcher, *Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods*,
    SIGIR 2009: the sum of 1 / (60 + rank) over the lists.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._parts = (Bm25(bench), Dense(bench))

    def rank(self, query: Query, limit: int) -> Sequence[Ranked]:
        import numpy as np

        fused = np.zeros(len(self._bench.texts))
        for part in self._parts:
            scores = part.scores(query)
            order = (-scores).argsort(kind="stable")[:_DEPTH]
            if isinstance(part, Bm25):
                order = order[scores[order] > 0]
            fused[order] += 1 / (_RRF_K + 1 + np.arange(len(order)))
        return [found for found in self._bench.best(fused, limit) if found.score > 0]


class Product(Ranker):
    """What a server answers: an index as `slipstream index` makes it, asked as the server asks it."""

    _NAME = "evaluation"

    def __init__(self, bench: Bench) -> None:
        from slipstream.ensemble.retrieval.edge import EdgeStore
        from slipstream.ensemble.retrieval.index import build_index
        from slipstream.ensemble.retrieval.search import Searcher

        store = EdgeStore(bench.folder / "index")
        build_index([str(root) for root in bench.collection.roots], self._NAME, store, bench.embedder, bench.progress)
        self._bench = bench
        self._searcher = Searcher(store, bench.embedder.digest)

    def rank(self, query: Query, limit: int) -> Sequence[Ranked]:
        return self.ask(query, limit)[0]

    def ask(self, query: Query, limit: int) -> tuple[Sequence[Ranked], float]:
        """With the confidence that a server compares with `SURE`."""
        from slipstream.ensemble.contracts import SearchRequest

        request = SearchRequest(query=query.text, collection=self._NAME, limit=limit)
        found = self._searcher.search(request, self._bench.embedder.embed_questions([query.text])[0])
        prefix = self._bench.collection.prefix
        results = [Ranked(prefix + hit.path, hit.line_start, hit.line_end, hit.score) for hit in found.hits]
        return results, found.confidence

    def close(self) -> None:
        self._searcher.close()


RANKERS: Mapping[str, Callable[[Bench], Ranker]] = {
    "bm25": Bm25,
    "dense": Dense,
    "rrf": Rrf,
    **STEPS,
    "product": Product,
    **LEFT_OUT,
}
BASELINES = ("bm25", "dense", "rrf")


__all__ = ["BASELINES", "RANKERS", "Bench", "Bm25", "Dense", "Product", "Ranked", "Ranker", "Rrf"]
