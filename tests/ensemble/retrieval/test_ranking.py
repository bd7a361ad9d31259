"""One order from cosine and BM25, whatever store computed them."""

from collections.abc import Collection, Mapping, Sequence
from math import log1p
from typing import Any

import pytest

from slipstream.ensemble.retrieval.ranking import IN_TESTS, PointId, Scores, lexical_weight, rank
from slipstream.ensemble.retrieval.store import Found

CHUNKS = 1_000
WORD = lexical_weight(CHUNKS)


class Known:
    """Scores of points that are known beforehand; ``depth`` of each list are told first, as an index would."""

    def __init__(self, cosines: Scores, words: Scores, depth: int = 100, tests: str = "") -> None:
        self.cosines, self.words, self.depth, self.of_tests = cosines, words, depth, set(tests)

    def nearest(self, limit: int) -> tuple[Scores, Scores]:
        return self._best(self.cosines), self._best(self.words)

    def scores(
        self, dense: Sequence[PointId], sparse: Sequence[PointId], tests: Sequence[PointId]
    ) -> tuple[Scores, Scores, Collection[PointId]]:
        return (
            {point: self.cosines[point] for point in dense},
            {point: self.words[point] for point in sparse if point in self.words},
            self.of_tests & set(tests),
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


def order(known: Known, limit: int = 10, *, tests_too: bool = False) -> list[str]:
    return [hit.symbol for hit in ranked(known, limit, tests_too=tests_too).hits]


def ranked(known: Known, limit: int = 10, *, tests_too: bool = False) -> Found:
    return rank(known, limit, CHUNKS, tests_too=tests_too)


def test_a_score_is_the_cosine_and_a_share_of_the_words() -> None:
    (best, other) = ranked(Known({"a": 0.5, "b": 0.4}, {"b": 10.0}), 10).hits
    assert (best.symbol, best.score) == ("b", pytest.approx(0.4 + 10 * WORD))
    assert (other.symbol, other.score) == ("a", 0.5)


def test_a_chunk_that_only_one_list_names_gets_its_other_score() -> None:
    """Or what stands just below the end of a list would count as nothing."""
    known = Known({"a": 0.9, "b": 0.8, "c": 0.1}, {"c": 20.0, "b": 19.0}, depth=1)
    assert [hit.score for hit in ranked(known, 10).hits] == pytest.approx([0.9, 0.1 + 20 * WORD])


def test_nothing_found_is_no_hit() -> None:
    assert ranked(Known({}, {}), 10) == Found([], 0.0, 0.0)


def test_equal_scores_are_ordered_by_place_also_at_the_end_of_the_list() -> None:
    for names in ("hgfedcba", "abcdefgh"):
        cosines = {name: 0.5 + 1e-8 * at for at, name in enumerate(names)}
        assert order(Known(cosines, {}), 3) == ["a", "b", "c"]
    assert len({hit.score for hit in ranked(Known(cosines, {}), 3).hits}) == 1


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
    found = ranked(Known({"a": 0.9, "b": 0.6, "c": 0.3, "d": 0.1}, {"d": 12.0, "a": 6.0}), 10)
    assert (found.cosine, found.words) == (pytest.approx(0.6), pytest.approx(9.0))


def test_tests_stand_lower_unless_one_is_asked_for() -> None:
    known = Known({"a": 0.5, "t": 0.5 + IN_TESTS / 2, "u": 0.5 + IN_TESTS * 2}, {}, tests="tu")
    assert order(known) == ["u", "a", "t"]
    assert order(known, tests_too=True) == ["u", "t", "a"]
    assert [hit.score for hit in ranked(known).hits] == pytest.approx([0.5 + IN_TESTS, 0.5, 0.5 - IN_TESTS / 2])


def test_a_test_that_only_words_find_is_known_for_one() -> None:
    known = Known({"a": 0.5, "t": 0.4}, {"t": 0.05 / WORD}, depth=1, tests="t")
    assert [hit.score for hit in ranked(known).hits] == pytest.approx([0.5, 0.45 - IN_TESTS])


def test_a_test_is_as_sure_an_answer_as_anything_else() -> None:
    """How near the best come says whether there is an answer, and a test may be the only one."""
    assert ranked(Known({"t": 0.6}, {"t": 9.0}, tests="t")).cosine == 0.6
