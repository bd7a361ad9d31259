"""What the runs say: scores by split, language and kind, each ranker against the best baseline, and abstention."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slipstream.ensemble.retrieval.evaluation.queries import Query
from slipstream.ensemble.retrieval.evaluation.rankers import BASELINES
from slipstream.ensemble.retrieval.evaluation.runs import Asked, Run
from slipstream.ensemble.retrieval.evaluation.scores import (
    Abstention,
    Estimate,
    Floats,
    Scores,
    abstention,
    as_ranks,
    declined,
    difference,
    ratio,
    reciprocal,
    scores,
)

ALL = "all"
# Kinds of queries that are told apart, by language. English is counted whole besides: the goal is set for it.
_GROUPS = (("en", "docstring"), ("en", "question"), ("en", ALL), ("ru", "question"))


@dataclass(frozen=True, slots=True)
class Row:
    """One ranker on one group of queries.

    Attributes:
        against: the best of the baselines that ran, by MRR on these same queries; None for itself, and without one.
        ratio, difference: of the MRR to that baseline's.
    """

    split: str
    language: str
    kind: str
    ranker: str
    scores: Scores
    against: str | None
    ratio: Estimate | None
    difference: Estimate | None


@dataclass(frozen=True, slots=True)
class Parity:
    """A ranker's MRR in Russian over that in English, on the questions that are asked in both."""

    split: str
    ranker: str
    questions: int
    ratio: Estimate | None


@dataclass(frozen=True, slots=True)
class Declining:
    """How well a ranker's confidence tells whether there is an answer.

    Attributes:
        fitted: with the threshold that fits this split best.
        carried: shares of answerable and unanswerable questions that development's threshold declines on the test
            split; None where development was not run.
    """

    split: str
    ranker: str
    answerable: int
    unanswerable: int
    fitted: Abstention
    carried: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Report:
    """What `report` makes of the runs."""

    rows: tuple[Row, ...]
    parities: tuple[Parity, ...]
    declining: tuple[Declining, ...]


def report(runs: Sequence[Run]) -> Report:
    """Score the runs, which asked the same queries in the same order."""
    queries = [asked.query for asked in runs[0].asked]
    splits = [split for split in ("development", "test") if any(query.split == split for query in queries)]
    return Report(
        rows=tuple(row for split in splits for group in _GROUPS for row in _rows(runs, queries, split, *group)),
        parities=tuple(parity for split in splits for run in runs for parity in _parity(run, split)),
        declining=tuple(one for run in runs for one in _declining(run, splits)),
    )


def _rows(runs: Sequence[Run], queries: Sequence[Query], split: str, language: str, kind: str) -> Iterator[Row]:
    def belongs(query: Query) -> bool:
        is_kind = query.kind == kind or (kind == ALL and query.kind != "unanswerable")
        return query.split == split and query.language == language and is_kind

    rows = [at for at, query in enumerate(queries) if belongs(query)]
    if not rows or (kind == ALL and len({queries[at].kind for at in rows}) == 1):
        return
    found = {run.ranker: [run.asked[at] for at in rows] for run in runs}
    gains = {name: reciprocal(as_ranks([one.rank for one in asked])) for name, asked in found.items()}
    best = _best(gains)
    for name, asked in found.items():
        against = best if best != name else None
        yield Row(
            split=split,
            language=language,
            kind=kind,
            ranker=name,
            scores=scores(as_ranks([one.rank for one in asked]), as_ranks([one.file_rank for one in asked])),
            against=against,
            ratio=ratio(gains[name], gains[against]) if against else None,
            difference=difference(gains[name], gains[against]) if against else None,
        )


def _best(gains: Mapping[str, Floats]) -> str | None:
    there = [name for name in BASELINES if name in gains]
    return max(there, key=lambda name: float(gains[name].mean()), default=None)


def _parity(run: Run, split: str) -> Iterator[Parity]:
    by_id = {asked.query.id: asked for asked in run.asked if asked.query.split == split}
    pairs = [
        (asked, by_id[asked.query.pair])
        for asked in by_id.values()
        if asked.query.language == "ru" and asked.query.pair in by_id
    ]
    if pairs:
        russian, english = (reciprocal(as_ranks([pair[side].rank for pair in pairs])) for side in (0, 1))
        yield Parity(split, run.ranker, len(pairs), ratio(russian, english))


def _declining(run: Run, splits: Sequence[str]) -> Iterator[Declining]:
    development: Abstention | None = None
    for split in splits:
        here = [asked for asked in run.asked if asked.query.split == split]
        answerable = _confidences(asked for asked in here if asked.query.kind != "unanswerable")
        unanswerable = _confidences(asked for asked in here if asked.query.kind == "unanswerable")
        if not len(answerable) or not len(unanswerable):
            continue
        fitted = abstention(answerable, unanswerable)
        carried = declined(answerable, unanswerable, development.threshold) if development else None
        yield Declining(split, run.ranker, len(answerable), len(unanswerable), fitted, carried)
        if split == "development":
            development = fitted


def _confidences(asked: Iterator[Asked]) -> Floats:
    return np.asarray([one.confidence for one in asked], dtype=np.float64)


__all__ = ["ALL", "Declining", "Parity", "Report", "Row", "report"]
