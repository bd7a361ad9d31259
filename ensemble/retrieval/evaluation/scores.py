"""Scores of ranked results, with intervals.

A result is right when it is in the right file and its lines overlap an answer's. Per query only the rank of the first
right result counts (1-based; 0: none among those looked at):

- MRR@k: the mean of 1/rank, 0 beyond k (Voorhees, *The TREC-8 Question Answering Track Report*, 1999, section 3).
- recall@k: the share of queries with a right result among the first k. A query with several answers asks for any of
  them, so this is what is also called success or hit rate (Craswell, *Success at n*, Encyclopedia of Database Systems).
- file recall@k: the same with the right file alone.

Intervals are percentile bootstrap intervals over queries (Efron and Tibshirani, *An Introduction to the Bootstrap*,
1993, section 13.3). Two rankers are compared on the same queries, so a resample draws the same queries for both
(Sakai, *Evaluating evaluation metrics based on the bootstrap*, SIGIR 2006).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slipstream.ensemble.retrieval.evaluation.queries import Answer
from slipstream.ensemble.retrieval.evaluation.ranker import Ranked

CUTOFF = 10
RESAMPLES = 2_000
FEWEST = 10
"""Queries below which nothing is said about an interval: the draws repeat themselves."""
_SEED = 20_240_711
_TAIL = 2.5  # percent on either side

Floats: TypeAlias = "NDArray[np.float64]"
Ranks: TypeAlias = "NDArray[np.int64]"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the ends of its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scores:
    """What one ranker reaches on a group of queries."""

    queries: int
    mrr: Estimate
    recall_1: Estimate
    recall_5: Estimate
    recall_10: Estimate
    file_recall_10: Estimate


def first_right(results: Sequence[Ranked], answers: Sequence[Answer]) -> tuple[int, int]:
    """The rank of the first right result, and that of the first in a right file."""
    files = {answer.path for answer in answers}
    rank = next((at for at, result in enumerate(results, 1) if any(_overlap(result, one) for one in answers)), 0)
    file_rank = next((at for at, result in enumerate(results, 1) if result.path in files), 0)
    return rank, file_rank


def _overlap(result: Ranked, answer: Answer) -> bool:
    is_before_end = result.line_start <= answer.line_end
    return result.path == answer.path and is_before_end and answer.line_start <= result.line_end


def reciprocal(ranks: Ranks, cutoff: int = CUTOFF) -> Floats:
    """1/rank of each query [n], 0 for what is beyond ``cutoff``."""
    found = (ranks > 0) & (ranks <= cutoff)
    return np.where(found, 1.0 / np.maximum(ranks, 1), 0.0)


def within(ranks: Ranks, cutoff: int) -> Floats:
    """1 for each query [n] with a right result among the first ``cutoff``, else 0."""
    return ((ranks > 0) & (ranks <= cutoff)).astype(np.float64)


def scores(ranks: Ranks, file_ranks: Ranks) -> Scores:
    """All scores of queries with these ranks, both [n]."""
    return Scores(
        queries=len(ranks),
        mrr=mean(reciprocal(ranks)),
        recall_1=mean(within(ranks, 1)),
        recall_5=mean(within(ranks, 5)),
        recall_10=mean(within(ranks, 10)),
        file_recall_10=mean(within(file_ranks, 10)),
    )


def _resampled(values: Floats) -> Floats:
    """Means [RESAMPLES] of draws with replacement; equal lengths draw equal rows, which makes comparisons paired."""
    draws = np.random.default_rng(_SEED).integers(len(values), size=(RESAMPLES, len(values)))
    means: Floats = values[draws].mean(axis=1)
    return means


def _estimate(value: float, resampled: Floats) -> Estimate:
    low, high = np.percentile(resampled, [_TAIL, 100 - _TAIL])
    return Estimate(value, float(low), float(high))


def mean(values: Floats) -> Estimate:
    """The mean of ``values`` [n], n > 0."""
    return _estimate(float(values.mean()), _resampled(values))


def difference(ours: Floats, theirs: Floats) -> Estimate:
    """The mean of ``ours`` - ``theirs``, both [n] in the order of the same queries."""
    return mean(ours - theirs)


def ratio(ours: Floats, theirs: Floats) -> Estimate | None:
    """The ratio of the means of ``ours`` and ``theirs``, both [n] in the order of the same queries.

    None where n is below `FEWEST`, or theirs is 0 in one of the resamples: too few queries to say it.
    """
    if len(ours) < FEWEST:
        return None
    above, below = _resampled(ours), _resampled(theirs)
    if not (below > 0).all() or theirs.mean() == 0:
        return None
    return _estimate(float(ours.mean() / theirs.mean()), above / below)


@dataclass(frozen=True, slots=True)
class Abstention:
    """How well a confidence tells what can be answered from what cannot.

    Attributes:
        auroc: the chance that an answerable question has the higher confidence (ties count half).
        threshold: queries below it are declined.
        declined_answerable, declined_unanswerable: shares of each that are.
    """

    auroc: float
    threshold: float
    declined_answerable: float
    declined_unanswerable: float


def abstention(answerable: Floats, unanswerable: Floats, *, allowed: float = 0.05) -> Abstention:
    """The threshold that declines the most of ``unanswerable`` and at most the share ``allowed`` of ``answerable``.

    Both hold confidences, [n] and [m] with n, m > 0. The area under the ROC curve is the Mann-Whitney statistic divided
    by n * m (Hanley and McNeil, *The meaning and use of the area under a ROC curve*, Radiology, 1982).
    """
    ordered = np.sort(answerable)
    thresholds = np.append(np.unique(np.concatenate([answerable, unanswerable])), np.inf)
    lost = np.searchsorted(ordered, thresholds) / len(answerable)
    caught = np.searchsorted(np.sort(unanswerable), thresholds) / len(unanswerable)
    best = int(np.flatnonzero(lost <= allowed)[-1])
    below, up_to = np.searchsorted(ordered, unanswerable), np.searchsorted(ordered, unanswerable, side="right")
    above = len(answerable) - (below + up_to) / 2
    return Abstention(
        auroc=float(above.mean() / len(answerable)),
        threshold=float(thresholds[best]),
        declined_answerable=float(lost[best]),
        declined_unanswerable=float(caught[best]),
    )


def declined(answerable: Floats, unanswerable: Floats, threshold: float) -> tuple[float, float]:
    """The shares of both that a ``threshold`` set elsewhere declines."""
    return float((answerable < threshold).mean()), float((unanswerable < threshold).mean())


def as_ranks(values: Sequence[int]) -> Ranks:
    array: NDArray[Any] = np.asarray(values, dtype=np.int64)
    return array


__all__ = ["CUTOFF", "FEWEST", "RESAMPLES", "Abstention", "Estimate", "Floats", "Ranks", "Scores", "abstention",
           "as_ranks", "declined", "difference", "first_right", "mean", "ratio", "reciprocal", "scores",
           "within"]  # fmt: skip
