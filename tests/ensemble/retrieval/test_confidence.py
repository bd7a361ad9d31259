"""How sure a search is: more with better hits, less with one that stands alone or many to choose from."""

import pytest

from slipstream.ensemble.contracts import SURE
from slipstream.ensemble.retrieval.confidence import confidence


def test_nothing_found_is_no_confidence() -> None:
    assert confidence([], 1_000) == 0.0


@pytest.mark.parametrize("chunks", [0, 1, 100, 1_000_000])
def test_it_lies_between_0_and_1_and_grows_with_the_scores(chunks: int) -> None:
    found = [confidence([score], chunks) for score in (-1e9, 0.0, 0.4, 0.7, 1.0, 2.0, 1e9)]
    assert found == sorted(found)
    assert 0 <= found[0] < 0.01 < SURE < 0.99 < found[-1] <= 1


def test_one_near_chunk_among_far_ones_is_chance() -> None:
    assert confidence([0.9, 0.4, 0.4], 1_000) < confidence([0.7, 0.7, 0.7], 1_000)


def test_what_stands_behind_the_best_is_not_looked_at() -> None:
    assert confidence([0.8, 0.8, 0.8, 0.1], 1_000) == confidence([0.8, 0.8, 0.8], 1_000)


def test_the_best_of_many_has_to_be_better() -> None:
    assert confidence([0.7], 1_000_000) < confidence([0.7], 1_000)
