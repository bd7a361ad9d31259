"""The steps from the baselines to the product, one on top of the other, and what was tried and left out.

All are exact and in memory, over the same chunks. Each name says what it adds to the one before:

========== ==========================================================================================
sum        cosine + weighted BM25 instead of the sum of reciprocal ranks, on the same two scores
stems      BM25 without stop words, on stems
fields     BM25 also on the symbol, which weighs three times, and on the path
gloss      Russian questions in English words
words      the embedder reads the symbol too, and identifiers in their parts without punctuation
adapted    the bundle's embedder instead of the one it was made from
tests      chunks of tests stand lower, where no test is asked for; ``product`` is this through the index
========== ==========================================================================================

Left out, each on top of ``adapted``: ``coherence`` (chunks of a file support each other), ``named`` (the share of a
definition's name that is asked for), ``central`` (names that other files write, the idea of aider's repository map),
``feedback`` (the question moves towards its best chunks, Rocchio), ``expanded`` (the question gets words of its best
chunks, RM3), ``neighbours`` (the best chunk beside it in its file).
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from slipstream.ensemble.retrieval import bm25
from slipstream.ensemble.retrieval.evaluation.features import (
    coherent,
    expanded,
    name_stems,
    names_asked,
    neighbours,
    relevance_model,
    uses,
)
from slipstream.ensemble.retrieval.evaluation.lexical import Lexical
from slipstream.ensemble.retrieval.evaluation.queries import Query
from slipstream.ensemble.retrieval.evaluation.ranker import Ranked, Ranker
from slipstream.ensemble.retrieval.question import question_for_embedder, stem_weights
from slipstream.ensemble.retrieval.ranking import IN_TESTS, lexical_weight
from slipstream.ensemble.retrieval.roles import is_test
from slipstream.ensemble.retrieval.words import stems

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from slipstream.ensemble.retrieval.evaluation.rankers import Bench
    from slipstream.ensemble.retrieval.evaluation.scores import Floats

_DEPTH = 100  # of either list, as the product reads them
_FEEDBACK, _FED = 0.2, 3
# Of the expanded question: chunks that are read, words that are taken, their share of it. Anserini's own values.
_READ, _TAKEN, _SHARE = 10, 10, 0.5
_COMMON = 0.1  # of all chunks; a word that more of them have says nothing of the question's subject


class Laboratory:
    """The two scores of every chunk, in every variant; each is made when the first step asks for it."""

    def __init__(self, bench: "Bench") -> None:
        self.bench = bench
        self.chunks = bench.collection.chunks

    def cosines(self, text: str, *, adapted: bool) -> "Floats":
        """Of the embedded texts [chunks] with ``text``."""
        embedder = self.bench.embedder if adapted else self.bench.plain
        return _products(self.adapted_vectors if adapted else self.word_vectors, embedder.embed([text])[0])

    def plain_cosines(self, text: str) -> "Floats":
        return _products(self.bench.vectors, self.bench.plain.embed([text])[0])

    def fielded(self, weights: "dict[str, float]") -> "Floats":
        """BM25 as the index computes it [chunks]."""
        total = np.zeros(len(self.chunks))
        for stem, weight in weights.items():
            if (posting := self._postings.get(bm25.term_id(stem))) is not None:
                rows, values = posting
                total[rows] += weight * values
        return total

    @cached_property
    def texts(self) -> list[str]:
        return [self.bench.read(chunk) for chunk in self.chunks]

    @cached_property
    def word_vectors(self) -> "NDArray[np.float32]":
        return self.bench.plain.embed_watched(self.texts, self.bench.progress)

    @cached_property
    def adapted_vectors(self) -> "NDArray[np.float32]":
        return self.bench.embedder.embed_watched(self.texts, self.bench.progress)

    @cached_property
    def stemmed(self) -> Lexical:
        return Lexical(self.bench.texts, stems)

    @cached_property
    def _postings(self) -> "dict[int, tuple[NDArray[np.int32], Floats]]":
        """Term id -> rows and their weights, the IDF multiplied in as Qdrant does."""
        rows: defaultdict[int, array[int]] = defaultdict(lambda: array("i"))
        values: defaultdict[int, array[float]] = defaultdict(lambda: array("d"))
        for row, chunk in enumerate(self.chunks):
            vector = bm25.encode_document(chunk)
            for term, value in zip(vector.indices, vector.values, strict=True):
                rows[term].append(row)
                values[term].append(value)
        count = len(self.chunks)
        return {
            term: (
                np.asarray(rows[term]),
                np.asarray(values[term]) * np.log1p((count - len(rows[term]) + 0.5) / (len(rows[term]) + 0.5)),
            )
            for term in rows
        }

    def is_common(self, stem: str) -> bool:
        posting = self._postings.get(bm25.term_id(stem))
        return posting is not None and len(posting[0]) > _COMMON * len(self.chunks)

    @cached_property
    def files(self) -> list[str]:
        return [f"{chunk.repo}/{chunk.path}" for chunk in self.chunks]

    @cached_property
    def names(self) -> list[set[str]]:
        return name_stems(self.chunks)

    @cached_property
    def tests(self) -> "Floats":
        """1 for a chunk of a test, 0 for the others [chunks]."""
        return np.asarray([is_test(chunk.path) for chunk in self.chunks], dtype=np.float64)

    @cached_property
    def used(self) -> "Floats":
        return uses(self.chunks)


def _products(vectors: "NDArray[np.float32]", vector: "NDArray[np.float32]") -> "Floats":
    return (vectors @ vector).astype(np.float64)


Scoring = Callable[[Laboratory, str], "tuple[Floats, Floats]"]


def _sum(lab: Laboratory, text: str) -> "tuple[Floats, Floats]":
    return lab.plain_cosines(text), lab.bench.lexical.scores(text)


def _stems(lab: Laboratory, text: str) -> "tuple[Floats, Floats]":
    return lab.plain_cosines(text), lab.stemmed.scores(text)


def _fields(lab: Laboratory, text: str) -> "tuple[Floats, Floats]":
    return lab.plain_cosines(text), lab.fielded(dict.fromkeys(stems(text), 1.0))


def _gloss(lab: Laboratory, text: str) -> "tuple[Floats, Floats]":
    return lab.plain_cosines(question_for_embedder(text)), lab.fielded(stem_weights(text))


def _words(lab: Laboratory, text: str) -> "tuple[Floats, Floats]":
    return lab.cosines(question_for_embedder(text), adapted=False), lab.fielded(stem_weights(text))


def _adapted(lab: Laboratory, text: str) -> "tuple[Floats, Floats]":
    return lab.cosines(question_for_embedder(text), adapted=True), lab.fielded(stem_weights(text))


def _expanded(lab: Laboratory, text: str) -> "tuple[Floats, Floats]":
    cosines, words = _adapted(lab, text)
    fused = cosines + lexical_weight(len(words)) * words
    best = np.argsort(-fused, kind="stable")[:_READ]
    read = [
        [stem for stem in stems(f"{lab.chunks[row].symbol}\n{lab.chunks[row].text}") if not lab.is_common(stem)]
        for row in best
    ]
    model = relevance_model(read, fused[best], _TAKEN)
    return cosines, lab.fielded(expanded(stem_weights(text), model, _SHARE))


def _coherence(lab: Laboratory, text: str, fused: "Floats") -> "Floats":
    return fused + 0.1 * coherent(fused, lab.files)


def _named(lab: Laboratory, text: str, fused: "Floats") -> "Floats":
    return fused + 0.06 * names_asked(lab.names, stem_weights(text))


def _central(lab: Laboratory, text: str, fused: "Floats") -> "Floats":
    return fused + 0.01 * lab.used


def _neighbours(lab: Laboratory, text: str, fused: "Floats") -> "Floats":
    return fused + 0.1 * neighbours(fused, lab.files)


def _tests_lower(lab: Laboratory, text: str, fused: "Floats") -> "Floats":
    return fused if bm25.asks_for_tests(bm25.encode_query(text)) else fused - IN_TESTS * lab.tests


def _feedback(lab: Laboratory, text: str, fused: "Floats") -> "Floats":
    best = np.argsort(-fused)[:_FED]
    more: Floats = fused + _FEEDBACK * (lab.adapted_vectors @ lab.adapted_vectors[best].mean(axis=0))
    return more


class Step(Ranker):
    """A ranker that adds cosines and weighted BM25 of the best of both lists, then perhaps something more."""

    def __init__(
        self,
        scoring: Scoring,
        more: "Callable[[Laboratory, str, Floats], Floats] | None",
        bench: "Bench",
    ) -> None:
        self._scoring, self._more = scoring, more
        self._lab = bench.laboratory

    def rank(self, query: Query, limit: int) -> "Sequence[Ranked]":
        cosines, words = self._scoring(self._lab, query.text)
        fused = cosines + lexical_weight(len(words)) * words
        if self._more is not None:
            fused = self._more(self._lab, query.text, fused)
        out = np.ones(len(fused), dtype=bool)
        for scores in (cosines, words):
            out[np.argsort(-scores, kind="stable")[:_DEPTH]] = False
        return self._lab.bench.best(np.where(out, -np.inf, fused), limit)


STEPS = {
    name: partial(Step, scoring, None)
    for name, scoring in (
        ("sum", _sum), ("stems", _stems), ("fields", _fields), ("gloss", _gloss), ("words", _words),
        ("adapted", _adapted),
    )
} | {"tests": partial(Step, _adapted, _tests_lower)}  # fmt: skip
LEFT_OUT = {
    name: partial(Step, scoring, more)
    for name, scoring, more in (
        ("coherence", _adapted, _coherence), ("named", _adapted, _named), ("central", _adapted, _central),
        ("feedback", _adapted, _feedback), ("expanded", _expanded, None), ("neighbours", _adapted, _neighbours),
    )
}  # fmt: skip

__all__ = ["LEFT_OUT", "STEPS", "Laboratory", "Step"]
