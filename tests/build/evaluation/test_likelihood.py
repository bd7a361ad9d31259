"""Perplexity and divergence, against numbers worked out by hand and models whose distributions are known."""

from collections.abc import Sequence
from math import exp, inf, isnan, log, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slipstream.build.evaluation.likelihood import compare


class Constant:
    """A model that says the same of every next token."""

    def __init__(self, *shares: float) -> None:
        self._row = np.log(np.asarray(shares, dtype=np.float32))

    def log_probs(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        return np.tile(self._row, (len(token_ids), 1))


def silent(share: float) -> None:
    pass


def test_numbers_by_hand() -> None:
    model, reference = Constant(0.5, 0.25, 0.25), Constant(0.25, 0.5, 0.25)
    found = compare(model, reference, [[2, 0, 0, 1], [0, 1]], silent)  # predicted: 0, 0, 1 and 1
    assert found.tokens == 4
    assert found.perplexity == pytest.approx(exp(-(2 * log(0.5) + 2 * log(0.25)) / 4), rel=1e-5)
    assert found.reference_perplexity == pytest.approx(exp(-(2 * log(0.25) + 2 * log(0.5)) / 4), rel=1e-5)
    assert found.kl == pytest.approx(0.25 * log(0.25 / 0.5) + 0.5 * log(0.5 / 0.25), rel=1e-5)
    assert found.top_agreement == 0


def test_divergence_is_of_the_model_from_its_reference_and_not_the_other_way() -> None:
    model, reference = Constant(0.8, 0.2), Constant(0.5, 0.5)
    there = 0.5 * log(0.5 / 0.8) + 0.5 * log(0.5 / 0.2)
    back = 0.8 * log(0.8 / 0.5) + 0.2 * log(0.2 / 0.5)
    assert compare(model, reference, [[0, 1, 1]], silent).kl == pytest.approx(there, rel=1e-5)
    assert compare(reference, model, [[0, 1, 1]], silent).kl == pytest.approx(back, rel=1e-5)
    assert there != pytest.approx(back, rel=0.05)


class Told:
    """A model that says of each position what it was told to."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self._rows = rows

    def log_probs(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        return self._rows[: len(token_ids)]


def test_every_position_of_a_long_text_counts_once() -> None:
    random = np.random.default_rng(3)
    ours, theirs = np.log(random.dirichlet(np.ones(7), size=(2, 50)).astype(np.float32))
    ids = random.integers(0, 7, 50)
    found = compare(Told(ours), Told(theirs), [ids.tolist()], silent)
    rows = np.arange(49)
    assert found.tokens == 49
    assert found.perplexity == pytest.approx(np.exp(-ours[rows, ids[1:]].mean()), rel=1e-5)
    assert found.reference_perplexity == pytest.approx(np.exp(-theirs[rows, ids[1:]].mean()), rel=1e-5)
    assert found.kl == pytest.approx((np.exp(theirs) * (theirs - ours))[:-1].sum(axis=1).mean(), rel=1e-4)
    assert found.top_agreement == (ours.argmax(axis=1) == theirs.argmax(axis=1))[:-1].mean()


def test_a_model_does_not_differ_from_itself() -> None:
    model = Constant(0.1, 0.7, 0.2)
    found = compare(model, model, [[0, 1, 2, 1]], silent)
    assert (found.kl, found.rise, found.top_agreement) == (0, 0, 1)


@given(st.lists(st.floats(0.05, 1), min_size=3, max_size=3), st.lists(st.floats(0.05, 1), min_size=3, max_size=3))
def test_divergence_is_never_negative(one: list[float], other: list[float]) -> None:
    model, reference = (Constant(*(np.asarray(shares) / sum(shares))) for shares in (one, other))
    assert compare(model, reference, [[0, 1, 2]], silent).kl >= 0


def test_progress_goes_to_the_end() -> None:
    shares: list[float] = []
    compare(Constant(0.5, 0.5), Constant(0.5, 0.5), [[0, 1], [1, 0]], shares.append)
    assert shares == [0.5, 1.0]


# --- a model that is broken -------------------------------------------------------------------------------------------


class Says:
    """A model that says the same number of every token; most are no log probability."""

    def __init__(self, number: float) -> None:
        self._number = number

    def log_probs(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        return np.full((len(token_ids), 2), self._number, dtype=np.float32)


def test_a_model_that_says_nan_has_no_divergence_and_no_perplexity() -> None:
    found = compare(Says(nan), Constant(0.5, 0.5), [[0, 1, 1]], silent)
    assert isnan(found.kl)  # and not 0, which every gate would let through
    assert isnan(found.perplexity)
    assert isnan(found.rise)
    assert found.reference_perplexity == pytest.approx(2)


def test_a_perplexity_beyond_every_number_is_infinite() -> None:
    found = compare(Says(-1000), Constant(0.5, 0.5), [[0, 1, 1]], silent)
    assert (found.perplexity, found.rise) == (inf, inf)
