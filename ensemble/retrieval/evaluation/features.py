"""Rank features that were tried on top of the two scores: each [chunks], for one question."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.retrieval.words import stems

if TYPE_CHECKING:
    from slipstream.ensemble.retrieval.evaluation.scores import Floats

_LOOKED_AT = 20  # of the best chunks, for what their files have in common
_LAST_NAME = re.compile(r"[^.:>\s]+$")


def coherent(fused: "Floats", files: Sequence[str]) -> "Floats":
    """How much the other chunks of its file stand above the last of the best twenty."""
    best = np.argsort(-fused)[:_LOOKED_AT]
    above = {int(row): float(fused[row] - fused[best[-1]]) for row in best}
    support: defaultdict[str, float] = defaultdict(float)
    for row, height in above.items():
        support[files[row]] += height
    return np.asarray([support.get(file, 0.0) - above.get(row, 0.0) for row, file in enumerate(files)])


def name_stems(chunks: Sequence[Chunk]) -> list[set[str]]:
    """The words of each definition's own name, without those of what is around it."""
    return [set(stems(_last_name(chunk))) for chunk in chunks]


def names_asked(names: Sequence[set[str]], weights: Mapping[str, float]) -> "Floats":
    """The share of each of ``names`` [chunks] that the question has."""
    return np.asarray([len(weights.keys() & words) / len(words) if words else 0.0 for words in names])


def _last_name(chunk: Chunk) -> str:
    found = _LAST_NAME.search(chunk.symbol)
    return found[0] if found else ""


def uses(chunks: Sequence[Chunk]) -> "Floats":
    """The logarithm of how many other files write the definition's name, less where many things are called so."""
    written: defaultdict[str, set[str]] = defaultdict(set)
    for chunk in chunks:
        written[f"{chunk.repo}/{chunk.path}"].update(re.findall(r"\w+", chunk.text))
    files = Counter(word for words in written.values() for word in words)
    names = [_last_name(chunk) for chunk in chunks]
    called = Counter(names)
    return np.asarray(
        [np.log1p(max(files[name] - 1, 0)) / (1 + np.log(called[name])) if name else 0.0 for name in names]
    )


def neighbours(fused: "Floats", files: Sequence[str]) -> "Floats":
    """The score of the better of the chunks before and after it in its file; 0 without one."""
    best = np.zeros(len(fused))
    for row, (one, other) in enumerate(pairwise(files)):
        if one == other:
            best[row] = max(best[row], fused[row + 1])
            best[row + 1] = max(best[row + 1], fused[row])
    return best


def relevance_model(documents: Sequence[Sequence[str]], scores: "Floats", count: int) -> dict[str, float]:
    """The ``count`` likeliest words of what the question is about, with probabilities that add up to 1.

    ``documents`` [n] are the words of what was found, ``scores`` [n] how well each fits: p(w) is the sum over documents
    of p(w | document) p(document | question), the first by maximum likelihood (Lavrenko and Croft, *Relevance-Based
    Language Models*, SIGIR 2001). The second is taken to be the share in the scores; a negative one counts nothing.
    """
    likelihood: defaultdict[str, float] = defaultdict(float)
    for words, score in zip(documents, np.maximum(scores, 0.0), strict=True):
        for word, times in Counter(words).items():
            likelihood[word] += float(score) * times / len(words)
    best = sorted(likelihood.items(), key=lambda pair: (-pair[1], pair[0]))[:count]
    total = sum(value for _, value in best)
    return {word: value / total for word, value in best if value > 0}


def expanded(weights: Mapping[str, float], model: Mapping[str, float], share: float) -> dict[str, float]:
    """A question's words with ``share`` of their weight given to those of ``model``; the sum stays what it was.

    RM3 (Abdul-Jaleel et al., *UMass at TREC 2004: Novelty and HARD*, 2004).
    """
    if not model:
        return dict(weights)
    total = sum(weights.values())
    words = [*weights, *(word for word in model if word not in weights)]
    return {word: (1 - share) * weights.get(word, 0.0) + share * total * model.get(word, 0.0) for word in words}


__all__ = ["coherent", "expanded", "name_stems", "names_asked", "neighbours", "relevance_model", "uses"]
