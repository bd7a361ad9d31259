"""A definition and its documentation."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Documented:
    """Rows are 0-based and inclusive.

    Attributes:
        symbol: qualified within its file.
        first, last: the definition, with decorators and attributes, without the comment above it.
        documentation: without quotes and comment marks.
        blank: the rows that the documentation is on.
        instead: what its first row becomes; the others become empty.
    """

    symbol: str
    first: int
    last: int
    documentation: str
    blank: tuple[int, int]
    instead: str = ""

    @property
    def lines(self) -> int:
        """How many lines the definition has besides its documentation."""
        rows = set(range(self.first, self.last + 1)) - set(range(self.blank[0], self.blank[1] + 1))
        return len(rows)


__all__ = ["Documented"]
