"""Every query of a suite, asked of every ranker."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from slipstream.engines.protocols import Progress
from slipstream.ensemble.retrieval.evaluation.queries import Query
from slipstream.ensemble.retrieval.evaluation.ranker import Ranked, Ranker
from slipstream.ensemble.retrieval.evaluation.rankers import RANKERS, Bench
from slipstream.ensemble.retrieval.evaluation.scores import CUTOFF, first_right
from slipstream.ensemble.retrieval.question import question_for_embedder


@dataclass(frozen=True, slots=True)
class Asked:
    """One query as one ranker answered it; ranks as `first_right` gives them, `confidence` as the ranker does."""

    query: Query
    results: tuple[Ranked, ...]
    rank: int
    file_rank: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Run:
    """One ranker's answers to the same queries in the same order as every other's."""

    ranker: str
    asked: tuple[Asked, ...]


def run(names: Sequence[str], bench: Bench, queries: Sequence[Query], progress: Progress) -> list[Run]:
    """Ask all ``queries`` of the rankers called ``names``, one ranker after the other."""
    for embedder in (bench.plain, bench.embedder):  # all at once, and then every ranker finds them kept
        embedder.embed([query.text for query in queries])
        embedder.embed([question_for_embedder(query.text) for query in queries])
    runs = []
    for number, name in enumerate(names):
        progress(number / len(names), name)
        ranker = RANKERS[name](bench)
        try:
            asked = []
            for at, query in enumerate(queries):
                progress((number + at / len(queries)) / len(names), f"{name}: {at:,} of {len(queries):,} queries")
                asked.append(_ask(ranker, query))
        finally:
            ranker.close()
        runs.append(Run(name, tuple(asked)))
    return runs


def _ask(ranker: Ranker, query: Query) -> Asked:
    found, confidence = ranker.ask(query, CUTOFF)
    results = tuple(found)
    return Asked(query, results, *first_right(results, query.answers), confidence)


def limited(queries: Sequence[Query], count: int | None, seed: int) -> list[Query]:
    """``count`` of the queries, drawn with ``seed``, in their order; all of them if there are no more."""
    if count is None or count >= len(queries):
        return list(queries)
    drawn = set(random.Random(seed).sample(range(len(queries)), count))  # noqa: S311
    return [query for at, query in enumerate(queries) if at in drawn]


__all__ = ["Asked", "Run", "limited", "run"]
