"""Source to chunks: one per function, method and class, and syntax-aware windows for the rest.

The way of cAST (Zhang et al., 2025, "cAST: Enhancing Code Retrieval-Augmented Generation with Structural Chunking via
Abstract Syntax Tree"): what is too big is split where the syntax is shallowest, small neighbours are merged, and size
is counted in characters that are not white space. Different from it, a definition that fits is never merged with its
neighbours: its name is the best handle that a search and a citation have.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from typing import TYPE_CHECKING

from slipstream.ensemble.retrieval.definitions import Definition, outline, rows
from slipstream.ensemble.retrieval.pages import Caveat, Page, page_of
from slipstream.ensemble.retrieval.spans import Span, attach_tiny, sectioned, spans_of
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.retrieval.words import spoken

if TYPE_CHECKING:
    from tree_sitter import Node

BUDGET = 1_200
"""Characters of a chunk that are not white space: a full one is 350 to 470 tokens of the default embedder."""
_MANY, _CRUMB = 2_000, 40
"""Chunks of a file, and characters of each on average, where its definitions are no answers: 1 MB of ``#`` would cost
half a million of them."""

_AFTER_BLANK, _ANYWHERE = 1_000_000, 2_000_000  # depths of a cut where the syntax offers none


@dataclass(frozen=True, slots=True)
class Cut:
    """The chunks of one file, and what was odd about it."""

    chunks: list[Chunk]
    caveats: list[Caveat]


def chunk_file(path: str, data: bytes, repo: str) -> list[Chunk]:
    """The chunks of `cut_file`."""
    return cut_file(path, data, repo).chunks


def cut_file(path: str, data: bytes, repo: str, *, parse: bool = True) -> Cut:
    """Cut a file into chunks that together hold every line that is not blank; of a notebook, of its cells.

    `decoding.decode` says what text it is; ``\\r\\n`` and ``\\r`` end a line as ``\\n`` does. A file in no known
    language ("text") is cut into windows at its blank lines, and so is one that its parser does not finish in time,
    or, without ``parse``, shall not see. Equal input gives equal chunks.
    """
    page = page_of(path, data)
    file = _File(path, repo, page, parse=parse)
    caveats: list[Caveat] = [page.caveat] if page.caveat else []
    if parse and page.language is not None and file.root is None:
        caveats.append("parse_timeout")
    chunks = file.chunks()
    if len(chunks) > _MANY and sum(len(chunk.text) for chunk in chunks) < _CRUMB * len(chunks):
        return Cut(_File(path, repo, page, parse=False).chunks(), [*caveats, "crumbled"])
    return Cut(chunks, caveats)


def embedded_text(chunk: Chunk) -> str:
    """What the embedder reads of ``chunk``; its sha256 is the chunk's ``digest``.

    The path is not in it, so that a file that moves keeps its vectors.
    """
    return _embedded(chunk.symbol, chunk.text)


def _embedded(symbol: str, text: str) -> str:
    return spoken(f"{symbol}\n{text}" if symbol else text)


def _size(line: str) -> int:
    """What a line takes of the budget. Long runs of white space count a little: they cost memory, if not meaning."""
    return max(len("".join(line.split())), len(line) // 8) + 1


class _File:
    """One file on its way into chunks."""

    def __init__(self, path: str, repo: str, page: Page, *, parse: bool) -> None:
        self.path = path
        self.repo = repo
        self.page = page
        self.language = page.language
        self.lines = page.lines
        self.cumulative = [0, *accumulate(map(_size, self.lines))]
        self.filled = [row for row, line in enumerate(self.lines) if line]
        tree = self.language.parse(page.source) if self.language and parse else None
        self.root = tree.root_node if tree else None
        self.cuts: dict[int, int] = {}

    def size(self, first: int, last: int) -> int:
        return self.cumulative[last + 1] - self.cumulative[first]

    def chunks(self) -> list[Chunk]:
        top = Definition(0, len(self.lines) - 1, "", 0)
        if self.root is not None and self.language is not None:
            top = outline(self.root, self.lines, self.cumulative, BUDGET, self.language)
        parts = sectioned(spans_of(top, self.lines), self.page.sections)
        # Of a notebook's cells a tiny one may be pages of output away from the next.
        trimmed = self._trimmed(parts)
        spans = list(trimmed) if self.page.sections else attach_tiny(trimmed, self.lines)
        big = [span for span in spans if self.size(span.first, span.last) > BUDGET]
        if big and self.root is not None:
            self.cuts = _cuts(self.root, big, len(self.lines))
        return [chunk for span in spans for chunk in self._windows(span)]

    def _trimmed(self, spans: Iterable[Span]) -> Iterator[Span]:
        """``spans`` without blank lines at their ends, and without those that are nothing else."""
        for span in spans:
            while span.first <= span.last and not self.lines[span.first].strip():
                span.first += 1
            while span.last > span.first and not self.lines[span.last].strip():
                span.last -= 1
            if span.first <= span.last:
                yield span

    def _windows(self, span: Span) -> Iterator[Chunk]:
        first = span.first
        while first <= span.last:
            if not self.lines[first].strip():  # a window starts with something
                first += 1
                continue
            if self.size(first, first) > BUDGET:
                pieces = _even(self.lines[first])
                yield from (self._chunk(first, first, span.symbol, piece) for piece in pieces if piece.strip())
                first += 1
                continue
            end = self._window_end(first, span.last)
            last = end - 1
            while not self.lines[last].strip():
                last -= 1
            yield self._chunk(first, last, span.symbol, "\n".join(self.lines[first : last + 1]))
            first = end

    def _window_end(self, first: int, last: int) -> int:
        """The row after the window that starts at ``first``: where the syntax is shallowest, not too early."""
        fits = bisect_right(self.cumulative, self.cumulative[first] + BUDGET) - 1  # first row that does not fit
        if fits > last:
            return last + 1
        remaining = self.size(first, last)
        halves = remaining < 2 * BUDGET  # two even windows rather than a full one and a crumb
        target = remaining // 2 if halves else BUDGET
        least = max(BUDGET // 3, remaining - BUDGET) if halves else BUDGET // 3

        def rank(row: int) -> tuple[int, int]:
            return self._depth(row), abs(self.size(first, row - 1) - target)

        late_enough = [row for row in range(first + 1, fits + 1) if self.size(first, row - 1) >= least]
        return min(late_enough or [fits], key=rank)

    def _depth(self, row: int) -> int:
        """How deep in the syntax a cut before ``row`` would be."""
        if row in self.cuts:
            return self.cuts[row]
        return _AFTER_BLANK if not self.lines[row - 1].strip() else _ANYWHERE

    def _chunk(self, first: int, last: int, symbol: str, text: str) -> Chunk:
        return Chunk(
            path=self.path,
            language=self.language.name if self.language else "text",
            symbol=symbol,
            line_start=self.page.numbers[first],
            line_end=self.page.numbers[last],
            text=text,
            repo=self.repo,
            digest=sha256(_embedded(symbol, text).encode("utf-8", "replace")).hexdigest(),
            empty_after=self._empty_after(last),
        )

    def _empty_after(self, row: int) -> int:
        at = bisect_right(self.filled, row)
        return (self.filled[at] if at < len(self.filled) else len(self.lines)) - row - 1


def _even(line: str) -> Iterator[str]:
    """``line`` in the fewest pieces of `BUDGET` characters, all as long as each other, so that none is a crumb."""
    count = -(-len(line) // BUDGET)
    for piece in range(count):
        yield line[len(line) * piece // count : len(line) * (piece + 1) // count]


def _cuts(root: "Node", spans: list[Span], row_count: int) -> dict[int, int]:
    """Rows of ``spans`` that begin with a node, with the depth of the shallowest such node.

    What stands right below a comment is left out: a cut would part them.
    """
    wanted = bytearray(row_count + 1)
    for span in spans:
        wanted[span.first : span.last + 1] = b"\1" * (span.last + 1 - span.first)
    before = [0, *accumulate(wanted)]
    cuts: dict[int, int] = {}
    work = [(root, 0)]
    while work:
        node, depth = work.pop()
        # A child on its parent's first row has something of the parent before it, or begins where the parent does.
        previous_last, after_comment = node.start_point.row, False
        for child in node.named_children:
            first, last = rows(child)
            below_comment = after_comment and first == previous_last + 1
            if first > previous_last and not below_comment:
                cuts[first] = min(depth, cuts.get(first, depth))
            if last > first and before[min(last, row_count) + 1] > before[first]:
                work.append((child, depth + 1))
            previous_last, after_comment = last, child.type.endswith("comment")
    return cuts
