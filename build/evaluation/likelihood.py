"""Perplexity of one model, and how far its distributions are from those of another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipstream.engines.protocols import Scorer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROWS = 16  # positions compared at a time: their rows of the vocabulary fit into the cache


@dataclass(frozen=True)
class Likelihood:
    """What a model and its reference say of the same text.

    ``perplexity`` is exp of the mean negative log likelihood (nats per token), ``kl`` the mean over positions of
    KL(reference || model) in nats, ``top_agreement`` the share of positions where both rank the same token first. What
    a broken model says may be no number: NaN and infinity stay what they are.
    """

    tokens: int
    perplexity: float
    reference_perplexity: float
    kl: float
    top_agreement: float

    @property
    def rise(self) -> float:
        """How much higher the perplexity is than the reference's: 0.05 is five per cent."""
        return self.perplexity / self.reference_perplexity - 1


def compare(
    model: Scorer, reference: Scorer, sequences: Sequence[Sequence[int]], advance: Callable[[float], None]
) -> Likelihood:
    """Score every sequence with both; only the first token of each is not predicted.

    Memory: two arrays of [length, vocabulary] float32 at a time. ``advance`` is told the finished share.
    """
    import numpy as np

    sums = np.zeros(4)
    count = 0
    for number, ids in enumerate(sequences, 1):
        ours, theirs, following = model.log_probs(ids)[:-1], reference.log_probs(ids)[:-1], np.asarray(ids[1:])
        for start in range(0, len(following), _ROWS):
            rows = slice(start, start + _ROWS)
            sums += _of_positions(ours[rows], theirs[rows], following[rows])
        count += len(ids) - 1
        advance(number / len(sequences))
    means = sums / count
    with np.errstate(over="ignore"):
        perplexity, reference_perplexity = np.exp(means[:2]).tolist()
    divergence = max(float(means[2]), 0.0)  # rounding can leave it below 0; of NaN and 0, in this order, NaN stays
    return Likelihood(count, perplexity, reference_perplexity, divergence, float(means[3]))


def _of_positions(
    ours: "NDArray[np.float32]", theirs: "NDArray[np.float32]", following: "NDArray[np.int64]"
) -> "NDArray[np.float64]":
    """Sums over positions: nll, nll of the reference, KL(reference || model), same first token. [4]."""
    import numpy as np

    rows = np.arange(len(following))
    divergence = np.einsum("ij,ij->", np.exp(theirs), theirs - ours, dtype=np.float64)
    agreed = (ours.argmax(axis=-1) == theirs.argmax(axis=-1)).sum()
    nll = -ours[rows, following].sum(dtype=np.float64)
    reference_nll = -theirs[rows, following].sum(dtype=np.float64)
    return np.asarray([nll, reference_nll, divergence, agreed], dtype=np.float64)


__all__ = ["Likelihood", "compare"]
