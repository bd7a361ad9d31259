"""Ranks to scores, intervals, and the threshold below which a question is declined."""

import numpy as np
import pytest
from numpy.typing import NDArray

from slipstream.ensemble.retrieval.evaluation.queries import Answer
from slipstream.ensemble.retrieval.evaluation.ranker import Ranked
from slipstream.ensemble.retrieval.evaluation.scores import (
    abstention,
    as_ranks,
    declined,
    difference,
    first_right,
    mean,
    ratio,
    reciprocal,
    scores,
    within,
)

ANSWERS = [Answer(path="a.py", line_start=10, line_end=20), Answer(path="b.py", line_start=1, line_end=1)]


def at(path: str, first: int, last: int) -> Ranked:
    return Ranked(path, first, last, 1.0)


def values(*numbers: float) -> NDArray[np.float64]:
    return np.asarray(numbers, dtype=np.float64)


# One query


@pytest.mark.parametrize(
    ("results", "ranks"),
    [
        ([], (0, 0)),
        ([at("c.py", 10, 20)], (0, 0)),
        ([at("a.py", 1, 9), at("a.py", 21, 30)], (0, 1)),
        ([at("a.py", 1, 9), at("a.py", 20, 30)], (2, 1)),
        ([at("c.py", 1, 9), at("a.py", 1, 10)], (2, 2)),
        ([at("a.py", 12, 13)], (1, 1)),
        ([at("a.py", 1, 99)], (1, 1)),
        ([at("c.py", 1, 1), at("b.py", 1, 1)], (2, 2)),
    ],
)
def test_a_result_is_right_when_it_overlaps_an_answer_in_its_file(
    results: list[Ranked], ranks: tuple[int, int]
) -> None:
    assert first_right(results, ANSWERS) == ranks


def test_nothing_is_right_where_there_is_no_answer() -> None:
    assert first_right([at("a.py", 1, 99)], []) == (0, 0)


# Many


def test_the_reciprocal_rank_counts_nothing_beyond_the_cutoff() -> None:
    assert reciprocal(as_ranks([1, 2, 10, 11, 0])).tolist() == [1.0, 0.5, 0.1, 0.0, 0.0]


def test_recall_counts_the_queries_with_a_right_result_early_enough() -> None:
    found = scores(as_ranks([1, 3, 7, 0]), as_ranks([1, 1, 2, 10]))
    assert (found.queries, found.mrr.value) == (4, pytest.approx((1 + 1 / 3 + 1 / 7) / 4))
    assert (found.recall_1.value, found.recall_5.value, found.recall_10.value) == (0.25, 0.5, 0.75)
    assert found.file_recall_10.value == 1.0


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    """The draws of 300 zeros and 100 ones have a normal mean: 1.96 standard errors on either side of it."""
    found = mean(values(*[1.0] * 100, *[0.0] * 300))
    error = (0.25 * 0.75 / 400) ** 0.5
    assert found.value == 0.25
    assert (found.low, found.high) == pytest.approx((0.25 - 1.96 * error, 0.25 + 1.96 * error), abs=0.006)


def test_the_same_values_have_the_same_interval() -> None:
    ranks = as_ranks([1, 2, 0, 5] * 20)
    assert mean(reciprocal(ranks)) == mean(reciprocal(ranks))


def test_a_comparison_is_paired() -> None:
    """What is twice as good for every single query is exactly twice as good, however much the queries differ."""
    theirs = values(*np.random.default_rng(1).random(50))
    found = ratio(2 * theirs, theirs)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))
    gap = difference(theirs + 0.1, theirs)
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.1, 0.1, 0.1))


def test_a_ratio_that_could_be_chance_has_an_interval_with_one_in_it() -> None:
    rng = np.random.default_rng(2)
    found = ratio(rng.random(40), rng.random(40))
    assert found is not None
    assert found.low < 1 < found.high


@pytest.mark.parametrize("theirs", [[0.0] * 50, [0.0] * 49 + [1.0], [1.0] * 9])
def test_too_few_queries_say_nothing_about_a_ratio(theirs: list[float]) -> None:
    assert ratio(values(*[1.0] * len(theirs)), values(*theirs)) is None


# Declining


def test_a_confidence_that_tells_them_apart_declines_all_of_one_and_none_of_the_other() -> None:
    found = abstention(values(0.7, 0.8, 0.9), values(0.1, 0.2))
    assert (found.auroc, found.declined_answerable, found.declined_unanswerable) == (1.0, 0.0, 1.0)
    assert 0.2 < found.threshold <= 0.7


def test_a_confidence_that_is_always_the_same_tells_nothing() -> None:
    found = abstention(values(*[0.5] * 20), values(*[0.5] * 20))
    assert (found.auroc, found.declined_answerable, found.declined_unanswerable) == (0.5, 0.0, 0.0)


def test_no_more_answerable_ones_are_declined_than_allowed() -> None:
    answerable = values(*np.linspace(0, 1, 100))
    found = abstention(answerable, values(*np.linspace(0, 0.5, 50)), allowed=0.05)
    assert found.declined_answerable == pytest.approx(0.05)
    assert found.declined_unanswerable == pytest.approx(0.1)
    assert declined(answerable, answerable, found.threshold) == (found.declined_answerable,) * 2


def test_the_area_under_the_curve_is_the_chance_of_the_right_order() -> None:
    rng = np.random.default_rng(3)
    answerable, unanswerable = np.round(rng.random(60), 1), np.round(rng.random(40) * 0.8, 1)
    pairs = [(a > u) + (a == u) / 2 for a in answerable for u in unanswerable]
    assert abstention(answerable, unanswerable).auroc == pytest.approx(np.mean(pairs))


def test_a_ranker_that_finds_nothing_is_least_sure() -> None:
    found = abstention(values(0.5, 0.6), values(-np.inf, 0.1))
    assert (found.auroc, found.declined_unanswerable) == (1.0, 1.0)


def test_within_is_a_share_when_it_is_averaged() -> None:
    assert within(as_ranks([0, 1, 5, 6]), 5).tolist() == [0.0, 1.0, 1.0, 0.0]
