"""Does the adapter find more? Held-back sentences asked, all held-back chunks searched, by cosine alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slipstream.build.training.embedder.pairs import Pair
from slipstream.build.training.embedder.questions import code_of, question_of
from slipstream.build.training.embedder.train import Tuned
from slipstream.engines.protocols import Progress

_BATCH = 64
_DEEPEST = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """Over ``questions``: mean reciprocal rank of the own chunk (0 beyond rank 10), and shares of ranks 1 and ≤ 10."""

    questions: int
    mrr_10: float
    recall_1: float
    recall_10: float


def measure(tuned: Tuned, pairs: Sequence[Pair], progress: Progress) -> Finding:
    """Every question against the chunks of all ``pairs``, each read as far as serving reads it."""
    texts = [question_of(pair) for pair in pairs] + [code_of(pair) for pair in pairs]
    vectors = _embed(tuned, texts, progress)
    questions, chunks = vectors[: len(pairs)], vectors[len(pairs) :]
    scores = questions @ chunks.T
    own = scores.diagonal()[:, None]
    ranks = 1 + (scores > own).sum(axis=1)
    reciprocal = np.where(ranks <= _DEEPEST, 1 / ranks, 0.0)
    return Finding(len(pairs), float(reciprocal.mean()), float((ranks == 1).mean()), float((ranks <= _DEEPEST).mean()))


def _embed(tuned: Tuned, texts: Sequence[str], progress: Progress) -> NDArray[np.float32]:
    """Unit vectors [n, dimension], batched by length."""
    import torch

    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    parts = []
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            progress(start / len(order), f"embedding {start} of {len(order)}")
            parts.append(tuned.embed([texts[row] for row in order[start : start + _BATCH]]).numpy())
    vectors: NDArray[np.float32] = np.concatenate(parts)[np.argsort(order)]
    return vectors


__all__ = ["Finding", "measure"]
