"""One order from two: how near a chunk is to the question in meaning, and which of its words it has.

A chunk's score is ``cosine + LEXICAL * BM25 / ln(1 + n)``, both as the index computes them, less `IN_TESTS` for a chunk
of a test where no test is asked for. A rare word among ``n`` chunks has an IDF of about ``ln(n)``, so scores mean the
same in a small collection and in a large one. Plain reciprocal
rank fusion forgets by how much one chunk is better than the next, and on the development split of tests/retrieval it
found less than this (`slipstream evaluate-search tests/retrieval` shows both). Shared by both stores, so that they
answer alike.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from math import log1p
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from slipstream.ensemble.contracts import Hit
from slipstream.ensemble.retrieval.hits import candidates
from slipstream.ensemble.retrieval.store import Found

LEXICAL = 0.193
"""0.02 for a unit of BM25 on tests/retrieval: 0.015 to 0.025 were equally good on its development split."""
IN_TESTS = 0.1
"""Tests say the same words as what they test. On the development split, with the tests of its packages indexed as well,
MRR@10 grew by 0.006 with 0.05, by 0.011 with this, by 0.014 with 0.2. No question there wants a test, which speaks for
the smaller."""
# A matrix product sums equal rows in different orders, so equal vectors may differ by some units of float32's 6e-8.
_SAME = 1e-6
_BEST = 3  # whose mean says how near a question comes: one may be near by chance

PointId: TypeAlias = (
    int | str | UUID
)  # whatever the engine calls a point: making text of each costs more than adding them up
Scores: TypeAlias = Mapping[PointId, float]


class Asked(Protocol):
    """One question to one version of a collection. Points are known by their ids."""

    def nearest(self, limit: int) -> tuple[Scores, Scores]:
        """The best ``limit`` points by cosine, and by BM25, with their scores."""
        ...

    def scores(
        self, dense: Sequence[PointId], sparse: Sequence[PointId], tests: Sequence[PointId]
    ) -> tuple[Scores, Scores, Collection[PointId]]:
        """Exact cosines of the points ``dense``, BM25 scores of those of ``sparse`` that have a common word, and which
        of ``tests`` are of tests."""
        ...

    def payloads(self, ids: Sequence[PointId]) -> Mapping[PointId, Mapping[str, Any]]:
        """What is stored with the points ``ids``."""
        ...


def rank(asked: Asked, limit: int, chunks: int, *, tests_too: bool) -> Found:
    """The best ``limit`` of ``chunks``, best first; tests are as good as the rest if ``tests_too``.

    A chunk that is in one list only gets its score in the other computed, so that no list's end is taken for nothing.
    Ties are broken by place: the answer does not depend on the order in which chunks were indexed.
    """
    dense, sparse = asked.nearest(candidates(limit))
    cosine, words = _mean_of_best(dense), _mean_of_best(sparse)
    more_dense, more_sparse, tests = asked.scores(
        [point for point in sparse if point not in dense],
        [point for point in dense if point not in sparse],
        [] if tests_too else [*(dense.keys() | sparse.keys())],
    )
    dense, sparse = {**dense, **more_dense}, {**sparse, **more_sparse}
    weight = lexical_weight(chunks)
    fused = {
        point: cosine + weight * sparse.get(point, 0.0) - IN_TESTS * (point in tests) for point, cosine in dense.items()
    }
    best = _cut(sorted(fused.items(), key=lambda pair: -pair[1]), limit)
    payloads = asked.payloads([point for point, _ in best])
    hits = [(score, payloads[point]) for point, score in best if point in payloads]
    return Found([_hit(payload, score) for score, payload in _settled(hits)][:limit], cosine, words)


def _mean_of_best(scores: Scores) -> float:
    best = sorted(scores.values(), reverse=True)[:_BEST]
    return sum(best) / len(best) if best else 0.0


def lexical_weight(chunks: int) -> float:
    """What a unit of BM25 counts against cosine in a collection of so many chunks."""
    return LEXICAL / log1p(max(chunks, 1))


def _cut(ordered: Sequence[tuple[PointId, float]], limit: int) -> Sequence[tuple[PointId, float]]:
    """The first ``limit``, and what is as good as the last of them."""
    if len(ordered) <= limit:
        return ordered
    least = ordered[limit - 1][1] - _SAME
    return [pair for pair in ordered if pair[1] >= least]


def _settled(hits: Iterable[tuple[float, Mapping[str, Any]]]) -> Iterable[tuple[float, Mapping[str, Any]]]:
    """``hits``, best first, those with equal scores in the order of their places and with one score."""
    leader = [float("inf")]

    def group(hit: tuple[float, Mapping[str, Any]]) -> float:
        if leader[0] - hit[0] > _SAME:
            leader[0] = hit[0]
        return leader[0]

    for score, equal in groupby(hits, key=group):
        yield from ((score, payload) for _, payload in sorted(equal, key=lambda hit: _place(hit[1])))


def _place(payload: Mapping[str, Any]) -> tuple[Any, ...]:
    return (payload["repo"], payload["path"], payload["line_start"], payload["line_end"], payload["digest"])


def _hit(payload: Mapping[str, Any], score: float) -> Hit:
    return Hit(score=score, **{name: payload[name] for name in Hit.model_fields if name in payload})


__all__ = ["IN_TESTS", "LEXICAL", "Asked", "PointId", "Scores", "lexical_weight", "rank"]
