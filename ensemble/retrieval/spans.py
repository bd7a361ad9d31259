"""From the definitions of a file to the spans of rows that its chunks are cut from."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from slipstream.ensemble.retrieval.definitions import Definition

_TINY, _TINY_WORDS = 24, 2  # characters and words
_BARE_HEADER = 100
"""Characters up to which a class's first lines join its first method: a name without a docstring answers nothing."""


@dataclass(slots=True)
class Span:
    """Rows (0-based, inclusive) that become one chunk, or several if they are too big."""

    first: int
    last: int
    symbol: str
    is_rest: bool


def spans_of(definition: Definition, lines: list[str]) -> Iterator[Span]:
    """The rows of ``definition`` in order: its children's, and the rest between them under its own name."""
    if not definition.children:
        yield Span(definition.first, definition.last, definition.symbol, is_rest=not definition.symbol)
        return
    row = definition.first
    for child in sorted(definition.children, key=lambda child: (child.first, -child.last)):
        if child.last < row:  # on one line with the definition before it
            continue
        if child.first > row:
            is_header = bool(definition.symbol) and row == definition.first
            if is_header and _characters(lines, row, child.first - 1) < _BARE_HEADER:
                child.first = row
            else:
                yield Span(row, child.first - 1, definition.symbol, is_rest=not is_header)
        yield from spans_of(child, lines)
        row = child.last + 1
    if row <= definition.last:
        yield Span(row, definition.last, definition.symbol, is_rest=True)


def sectioned(spans: Iterable[Span], sections: Sequence[tuple[int, str]]) -> Iterator[Span]:
    """``spans`` with what has no symbol of its own parted where a section begins, and called by its title."""
    starts = [row for row, _ in sections]
    for span in spans:
        if span.symbol or not sections:
            yield span
            continue
        while span.first <= span.last:
            at = bisect_right(starts, span.first)
            last = min(span.last, starts[at] - 1) if at < len(starts) else span.last
            yield Span(span.first, last, sections[at - 1][1] if at else "", span.is_rest)
            span.first = last + 1


def _characters(lines: list[str], first: int, last: int) -> int:
    return sum(len(line.strip()) for line in lines[first : last + 1])


def _is_tiny(span: Span, lines: list[str]) -> bool:
    """Whether ``span`` is a closing brace, an ``else:``, a ``public:``, an ``#endif``: it finds nothing on its own."""
    if not span.is_rest or _characters(lines, span.first, span.last) >= _TINY:
        return False
    return len(re.findall(r"\w+", "\n".join(lines[span.first : span.last + 1]))) <= _TINY_WORDS


def attach_tiny(spans: Iterable[Span], lines: list[str]) -> list[Span]:
    """Tiny spans go to the span before them, or to the one after them if they come first."""
    kept: list[Span] = []
    for span in spans:
        if kept and _is_tiny(span, lines):
            kept[-1].last = max(kept[-1].last, span.last)
        elif kept and _is_tiny(kept[-1], lines):  # only the very first can be
            kept[-1] = Span(kept[-1].first, span.last, span.symbol, span.is_rest)
        else:
            kept.append(span)
    return kept
