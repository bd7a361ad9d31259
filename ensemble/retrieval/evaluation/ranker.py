"""What orders a collection's chunks for a query, and says how sure it is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from slipstream.ensemble.retrieval.evaluation.queries import Query


class Ranked(NamedTuple):
    """A chunk that was found; ``path`` begins with its corpus's name, a higher ``score`` is better."""

    path: str
    line_start: int
    line_end: int
    score: float


class Ranker(ABC):
    """Orders chunks for a query."""

    @abstractmethod
    def rank(self, query: Query, limit: int) -> Sequence[Ranked]:
        """The best ``limit`` chunks or fewer, best first."""

    def ask(self, query: Query, limit: int) -> tuple[Sequence[Ranked], float]:
        """`rank`, and how sure it is to answer: here the score of the best. Only the order of such values counts."""
        results = self.rank(query, limit)
        return results, results[0].score if results else float("-inf")

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Let go of what is held."""


__all__ = ["Ranked", "Ranker"]
