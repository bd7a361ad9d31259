"""Rank features that were tried: what each says of a handful of chunks."""

from pathlib import Path

import numpy as np
import pytest

from slipstream.ensemble.retrieval.evaluation.collection import Collection
from slipstream.ensemble.retrieval.evaluation.features import expanded, relevance_model
from slipstream.ensemble.retrieval.evaluation.queries import Query
from slipstream.ensemble.retrieval.evaluation.rankers import RANKERS, Bench
from slipstream.ensemble.retrieval.evaluation.vectors import CachedEmbedder
from tests.ensemble.retrieval.pieces import chunks_of

SCORES = np.asarray([0.6, 0.2])

# Words from what was found (RM3)


def test_nothing_found_leaves_the_question_as_it_was() -> None:
    assert relevance_model([], np.asarray([]), 10) == {}
    assert relevance_model([[], []], SCORES, 10) == {}
    assert relevance_model([["basket"]], np.asarray([-0.1]), 10) == {}
    assert relevance_model([["basket"], ["price"]], np.asarray([0.5, -0.1]), 10) == {"basket": 1.0}
    assert expanded({"cart": 1.0}, {}, 0.5) == {"cart": 1.0}
    assert expanded({}, {"basket": 1.0}, 0.5) == {"basket": 0.0}


def test_a_word_counts_by_its_share_of_a_document_and_by_how_well_that_fits() -> None:
    model = relevance_model([["basket", "basket", "price", "tax"], ["price"]], SCORES, 10)
    assert model == pytest.approx({"basket": 0.3 / 0.8, "price": 0.35 / 0.8, "tax": 0.15 / 0.8})


def test_the_likeliest_words_are_kept_and_add_up_to_one() -> None:
    model = relevance_model([["basket", "basket", "price", "tax"], ["price"]], SCORES, 2)
    assert list(model) == ["price", "basket"]
    assert sum(model.values()) == pytest.approx(1.0)
    assert list(relevance_model([["b", "a"]], np.asarray([1.0]), 1)) == ["a"]  # as likely, in the order of the alphabet


def test_the_question_gives_away_a_share_and_weighs_what_it_did() -> None:
    wider = expanded({"cart": 1.0, "price": 0.6}, {"price": 0.75, "tax": 0.25}, 0.5)
    assert wider == pytest.approx({"cart": 0.5, "price": 0.3 + 0.6, "tax": 0.2})
    assert sum(wider.values()) == pytest.approx(1.6)


def test_a_chunk_that_shares_words_with_the_best_one_rises(folder: Path, tmp_path: Path) -> None:
    """Nobody asked for a basket; but what has the question's word has it too."""
    rest = [chunk for at in range(30) for chunk in chunks_of(f"f{at}.py", " ".join(f"w{at}x{n}" for n in range(9)))]
    chunks = (*chunks_of("best.py", "trolley = basket"), *chunks_of("kin.py", "basket"), *rest)
    embedder = CachedEmbedder(folder, tmp_path)
    bench = Bench(Collection((), "", chunks, (), ()), embedder, embedder, tmp_path, lambda share, doing: None)
    query = Query(id="1", kind="question", language="en", split="test", text="trolley", answers=())
    before, after = (
        {found.path: found.score for found in RANKERS[name](bench).rank(query, len(chunks))}
        for name in ("adapted", "expanded")
    )
    gains = {path: after[path] - before[path] for path in before}
    assert max(gains, key=gains.__getitem__) == "kin.py"
    assert all(gain < gains["kin.py"] / 2 for path, gain in gains.items() if path != "kin.py")
