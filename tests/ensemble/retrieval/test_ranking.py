"""One order from cosine and BM25, whatever store computed them."""

from collections.abc import Mapping, Sequence
from math import log1p
from typing import Any

import pytest

from slipstream.ensemble.retrieval.ranking import PointId, Scores, lexical_weight, rank
from slipstream.ensemble.retrieval.store import Found

CHUNKS = 1_000
WORD = lexical_weight(CHUNKS)


class Known:
    """Scores of points that are known beforehand; ``depth`` of each list are told first, as an index would."""

    def __init__(self, cosines: Scores, words: Scores, depth: int = 100) -> None:
        self.cosines, self.words, self.depth = cosines, words, depth

    def nearest(self, limit: int) -> tuple[Scores, Scores]:
        return self._best(self.cosines), self._best(self.words)

    def scores(self, dense: Sequence[PointId], sparse: Sequence[PointId]) -> tuple[Scores, Scores]:
        return (
            {point: self.cosines[point] for point in dense},
            {point: self.words[point] for point in sparse if point in self.words},
        )

    def payloads(self, ids: Sequence[PointId]) -> Mapping[PointId, Mapping[str, Any]]:
        return {
            point: {
                "path": f"{point}.py",
                "line_start": 1,
                "line_end": 2,
                "symbol": point,
                "repo": "shop",
                "language": "python",
                "text": "",
                "digest": point,
            }
            for point in ids
        }

    def _best(self, scores: Scores) -> Scores:
        return dict(sorted(scores.items(), key=lambda pair: -pair[1])[: self.depth])


def order(known: Known, limit: int = 10) -> list[str]:
    return [hit.symbol for hit in rank(known, limit, CHUNKS).hits]


def test_a_score_is_the_cosine_and_a_share_of_the_words() -> None:
    (best, other) = rank(Known({"a": 0.5, "b": 0.4}, {"b": 10.0}), 10, CHUNKS).hits
    assert (best.symbol, best.score) == ("b", pytest.approx(0.4 + 10 * WORD))
    assert (other.symbol, other.score) == ("a", 0.5)


def test_a_chunk_that_only_one_list_names_gets_its_other_score() -> None:
    """Or what stands just below the end of a list would count as nothing."""
    known = Known({"a": 0.9, "b": 0.8, "c": 0.1}, {"c": 20.0, "b": 19.0}, depth=1)
    assert [hit.score for hit in rank(known, 10, CHUNKS).hits] == pytest.approx([0.9, 0.1 + 20 * WORD])


def test_nothing_found_is_no_hit() -> None:
    assert rank(Known({}, {}), 10, CHUNKS) == Found([], 0.0, 0.0)


def test_equal_scores_are_ordered_by_place_also_at_the_end_of_the_list() -> None:
    for names in ("hgfedcba", "abcdefgh"):
        cosines = {name: 0.5 + 1e-8 * at for at, name in enumerate(names)}
        assert order(Known(cosines, {}), 3) == ["a", "b", "c"]
    assert len({hit.score for hit in rank(Known(cosines, {}), 3, CHUNKS).hits}) == 1


def test_a_point_that_vanished_meanwhile_is_left_out() -> None:
    class Losing(Known):
        def payloads(self, ids: Sequence[PointId]) -> Mapping[PointId, Mapping[str, Any]]:
            return {point: payload for point, payload in super().payloads(ids).items() if point != "a"}

    assert order(Losing({"a": 0.9, "b": 0.8}, {})) == ["b"]


def test_a_rare_word_weighs_alike_in_small_and_in_large_collections() -> None:
    """Its IDF grows with the logarithm of the collection."""
    assert lexical_weight(1_000) * log1p(1_000) == pytest.approx(lexical_weight(1_000_000) * log1p(1_000_000))
    assert lexical_weight(0) > 0


def test_it_says_how_near_the_three_best_come() -> None:
    found = rank(Known({"a": 0.9, "b": 0.6, "c": 0.3, "d": 0.1}, {"d": 12.0, "a": 6.0}), 10, CHUNKS)
    assert (found.cosine, found.words) == (pytest.approx(0.6), pytest.approx(9.0))
