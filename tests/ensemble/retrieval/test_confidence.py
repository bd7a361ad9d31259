"""How sure a search is: more with nearer chunks, less with a longer question or more to choose from."""

import pytest

from slipstream.ensemble.contracts import SURE, Hit
from slipstream.ensemble.retrieval.confidence import confidence
from slipstream.ensemble.retrieval.store import Found

HIT = Hit(path="a.py", line_start=1, line_end=2, symbol="f", repo="r", language="python", score=1.0, text="f")


def found(cosine: float, words: float = 0.0) -> Found:
    return Found([HIT], cosine, words)


def test_nothing_found_is_no_confidence() -> None:
    assert confidence(Found([], 1.0, 50.0), 5, 1_000) == 0.0


@pytest.mark.parametrize("chunks", [0, 1, 100, 15_000, 1_000_000])
def test_it_lies_between_0_and_1_and_grows_with_the_cosine(chunks: int) -> None:
    sure = [confidence(found(cosine), 5, chunks) for cosine in (-1.0, 0.1, 0.5, 0.7, 0.8, 1.0)]
    assert sure == sorted(sure)
    assert 0 <= sure[0] < 0.01 < SURE < sure[-1] <= 1


def test_it_grows_with_the_words_in_common() -> None:
    assert confidence(found(0.5, 20.0), 5, 15_000) > SURE > confidence(found(0.5, 2.0), 5, 15_000)


def test_a_long_question_shares_words_with_much() -> None:
    assert confidence(found(0.5, 20.0), 50, 15_000) < confidence(found(0.5, 20.0), 5, 15_000)


def test_the_best_of_many_has_to_be_nearer() -> None:
    assert confidence(found(0.6), 5, 1_000_000) < confidence(found(0.6), 5, 1_000)
