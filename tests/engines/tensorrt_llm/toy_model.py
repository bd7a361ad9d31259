"""A language model that a page can hold: the next token follows from the last three, from weights and from luck."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

VOCABULARY = 64
DRAFT_TOKENS = 4
ENDS = (2, 3)
ENDING = 9
"""A prompt that begins with it ends, at the first position that 40 divides, with the first or the second end token."""


@dataclass(frozen=True)
class Picking:
    """How a request wants its tokens; ``top_k`` 1 is greedy. ``forbidden`` tokens have no chance."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    forbidden: tuple[int, ...] = ()
    literal: tuple[int, ...] | None = None
    """What a grammar of one sentence leaves to pick: these tokens, then an end."""


class ToyModel:
    """``agreement`` is the share of contexts in which a model with other ``weights`` still picks what 0 would."""

    def __init__(self, weights: int = 0, agreement: float = 1.0) -> None:
        self._weights, self._agreement = weights, agreement

    def logits(self, context: Sequence[int]) -> NDArray[np.float64]:
        key = " ".join(map(str, context[-3:]))
        agrees = _uniform(f"{key} agreement {self._weights}") < self._agreement
        seed = int(_uniform(f"{key} weights {0 if agrees else self._weights}") * 2**53)
        logits = np.random.default_rng(seed).normal(0, 2, VOCABULARY)
        logits[list(ENDS)] = -np.inf
        if context[0] == ENDING and len(context) % 40 == 0:
            logits[ENDS[len(context) // 40 % 2]] = 100
        return logits

    def pick(self, context: Sequence[int], step: int, how: Picking) -> int:
        """The token after ``context``, the request's ``step``-th: luck depends on its seed and on that."""
        if how.literal is not None:
            return how.literal[step] if step < len(how.literal) else ENDS[0]
        logits = self.logits(context)
        logits[list(how.forbidden)] = -np.inf
        if how.top_k == 1:
            return int(np.argmax(logits))
        chances = np.exp((logits - logits.max()) / how.temperature)
        chances /= chances.sum()
        order = np.argsort(-chances)
        kept = order[: int(np.searchsorted(np.cumsum(chances[order]), how.top_p)) + 1]
        position = np.searchsorted(np.cumsum(chances[kept]) / chances[kept].sum(), _uniform(f"{how.seed} {step}"))
        return int(kept[min(int(position), len(kept) - 1)])


def literal_of(grammar: str) -> tuple[int, ...]:
    """The tokens of a grammar of one sentence, ``root ::= "..."``, each the code of a character.

    Raises:
        ValueError: it is none.
    """
    name, _, body = grammar.partition("::=")
    if name.strip() != "root" or not body.strip().startswith('"') or not body.strip().endswith('"'):
        raise ValueError(f"EBNF parser error: {grammar!r}")
    return tuple(ord(letter) % VOCABULARY for letter in body.strip()[1:-1])


def _uniform(key: str) -> float:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
