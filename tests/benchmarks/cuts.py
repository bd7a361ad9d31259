"""Other ways to cut a file than the product's, and other texts for the embedder to read of a chunk."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import accumulate
from typing import TYPE_CHECKING

from slipstream.ensemble.retrieval.chunker import chunk_file, embedded_text
from slipstream.ensemble.retrieval.definitions import Definition, outline, rows
from slipstream.ensemble.retrieval.pages import Page, page_of
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.retrieval.words import spoken

if TYPE_CHECKING:
    from tree_sitter import Node

Cut = Callable[[str, bytes, str], "Iterator[tuple[Chunk, str]]"]
"""From path, bytes and repository to the chunks of a file, each with what the embedder reads of it."""

_IMPORTS = frozenset(
    """import_statement import_from_statement future_import_statement import_declaration use_declaration
    preproc_include""".split()  # noqa: SIM905
)
_MOST_IMPORTS = 8  # lines: more would leave no room in what the embedder reads
_NO_NAME = frozenset("import from as use crate self super const let var type require".split())  # noqa: SIM905
_LEADING = ("@", "#", "//", "/*", "*")  # of a line that stands above a definition


def product(path: str, data: bytes, repo: str) -> Iterator[tuple[Chunk, str]]:
    """The product's own way."""
    yield from ((chunk, embedded_text(chunk)) for chunk in chunk_file(path, data, repo))


def nameless(path: str, data: bytes, repo: str) -> Iterator[tuple[Chunk, str]]:
    """The product's cuts without the names of what they hold, as other ways have none."""
    for chunk in chunk_file(path, data, repo):
        yield replace(chunk, symbol=""), spoken(chunk.text)


def name_unread(path: str, data: bytes, repo: str) -> Iterator[tuple[Chunk, str]]:
    """The product's chunks; of the name and the class around it only the lexical half knows."""
    yield from ((chunk, spoken(chunk.text)) for chunk in chunk_file(path, data, repo))


def with_path(path: str, data: bytes, repo: str) -> Iterator[tuple[Chunk, str]]:
    """The embedder reads the path too."""
    yield from ((chunk, f"{spoken(path)}\n{embedded_text(chunk)}") for chunk in chunk_file(path, data, repo))


def with_class(path: str, data: bytes, repo: str) -> Iterator[tuple[Chunk, str]]:
    """The embedder reads the first line of the definition around the chunk too: a class with its bases."""
    page = page_of(path, data)
    around = list(_definitions(page))
    for chunk in chunk_file(path, data, repo):
        parent = re.split(r"\.[^.]*$| > [^>]*$", chunk.symbol)[0] if re.search(r"[.>]", chunk.symbol) else ""
        header = _header(page, around, parent, chunk.line_start - 1)
        is_new = header and header not in chunk.text
        yield chunk, spoken(f"{chunk.symbol}\n{header}\n{chunk.text}") if is_new else embedded_text(chunk)


def with_imports(path: str, data: bytes, repo: str) -> Iterator[tuple[Chunk, str]]:
    """The embedder reads those of the file's import lines too that share a name with the chunk."""
    page = page_of(path, data)
    imports = [(row, set(re.findall(r"\w{2,}", page.lines[row])) - _NO_NAME) for row in _import_rows(page)]
    for chunk in chunk_file(path, data, repo):
        names, own = set(re.findall(r"\w+", chunk.text)), range(chunk.line_start - 1, chunk.line_end)
        elsewhere = [row for row, bound in imports if names & bound and row not in own]
        above = "\n".join(page.lines[row].strip() for row in elsewhere[:_MOST_IMPORTS])
        yield chunk, spoken(f"{chunk.symbol}\n{above}\n{chunk.text}") if above else embedded_text(chunk)


def widened(lines: int) -> Cut:
    """The product's chunks, found by what they are, but said to reach so many lines further up and down.

    What this finds more is the measure's favour for large chunks and nothing else.
    """

    def cut(path: str, data: bytes, repo: str) -> Iterator[tuple[Chunk, str]]:
        count = max(page_of(path, data).numbers, default=0)
        for chunk in chunk_file(path, data, repo):
            first, last = max(chunk.line_start - lines, 1), min(chunk.line_end + lines, count)
            yield replace(chunk, line_start=first, line_end=last), embedded_text(chunk)

    return cut


def windows(size: int, step: int) -> Cut:
    """So many lines, and the next begin ``step`` further down."""

    def cut(path: str, data: bytes, repo: str) -> Iterator[tuple[Chunk, str]]:
        page = page_of(path, data)
        for first in range(0, max(len(page.lines) - (size - step), 1), step):
            last = min(first + size, len(page.lines)) - 1
            yield from _chunk(page, path, repo, first, last)

    return cut


def syntax(budget: int, *, merged: bool) -> Cut:
    """What is larger than ``budget`` is split into its parts; ``merged``, small neighbours become one chunk again.

    Merged it is cAST as it was published (Zhang et al., 2025): definitions are merged with their neighbours too.
    """

    def cut(path: str, data: bytes, repo: str) -> Iterator[tuple[Chunk, str]]:
        page = page_of(path, data)
        sizes = [0, *accumulate(len("".join(line.split())) for line in page.lines)]
        tree = page.language.parse(page.source) if page.language else None
        for first, last in _split([tree.root_node] if tree else [], 0, len(page.lines) - 1, sizes, budget, merged):
            yield from _chunk(page, path, repo, first, last)

    return cut


def _split(
    nodes: "Sequence[Node]", first: int, last: int, sizes: Sequence[int], budget: int, merged: bool
) -> list[tuple[int, int]]:
    """The rows ``first`` to ``last``, which hold ``nodes``, in pieces that fit."""
    if sizes[last + 1] - sizes[first] <= budget:
        return [(first, last)]
    children = [child for node in nodes for child in node.children]
    if not children:
        return list(_filled(first, last, sizes, budget))
    parts: list[tuple[int, list[Node]]] = [(first, [])]
    reach = first
    for child in children:
        start, end = rows(child)
        if first < start <= last and start > reach:
            parts.append((start, []))
        parts[-1][1].append(child)
        reach = max(reach, end)
    ends = [start - 1 for start, _ in parts[1:]] + [last]
    pieces = [
        piece
        for (start, owned), end in zip(parts, ends, strict=True)
        for piece in _split(owned, start, end, sizes, budget, merged)
    ]
    return _merged(pieces, sizes, budget) if merged else pieces


def _merged(pieces: Sequence[tuple[int, int]], sizes: Sequence[int], budget: int) -> list[tuple[int, int]]:
    found = [pieces[0]]
    for first, last in pieces[1:]:
        if sizes[last + 1] - sizes[found[-1][0]] <= budget:
            found[-1] = found[-1][0], last
        else:
            found.append((first, last))
    return found


def _filled(first: int, last: int, sizes: Sequence[int], budget: int) -> Iterator[tuple[int, int]]:
    """Windows of as many whole rows as fit, one at least."""
    while first <= last:
        end = max(bisect_right(sizes, sizes[first] + budget) - 2, first)
        yield first, min(end, last)
        first = end + 1


def _chunk(page: Page, path: str, repo: str, first: int, last: int) -> Iterator[tuple[Chunk, str]]:
    """The chunk of these rows, unless nothing could find it: blank lines, a lone brace."""
    text = "\n".join(page.lines[first : last + 1])
    if not re.search(r"\w", text):
        return
    read = spoken(text)
    language = page.language.name if page.language else "text"
    digest = sha256(read.encode("utf-8", "replace")).hexdigest()
    yield Chunk(path, language, "", page.numbers[first], page.numbers[last], text, repo, digest), read


def _definitions(page: Page) -> Iterator[Definition]:
    tree = page.language.parse(page.source) if page.language else None
    if tree is None or page.language is None:
        return
    nothing_fits = [0, *accumulate(len(line) + 1 for line in page.lines)]
    work = [outline(tree.root_node, page.lines, nothing_fits, 0, page.language)]
    while work:
        definition = work.pop()
        yield definition
        work.extend(definition.children)


def _header(page: Page, around: Sequence[Definition], symbol: str, row: int) -> str:
    """The line that names ``symbol``; of several so called the one around ``row``."""
    called = [one for one in around if symbol and one.symbol == symbol]
    if not called:
        return ""
    best = min(called, key=lambda one: (not one.first <= row <= one.last, one.first))
    name = re.compile(rf"\b{re.escape(re.split(r'[.>] *', symbol)[-1])}\b")
    lines = (page.lines[at].strip() for at in range(best.first, best.last + 1))
    return next((line for line in lines if name.search(line) and not line.startswith(_LEADING)), "")


def _import_rows(page: Page) -> Iterator[int]:
    tree = page.language.parse(page.source) if page.language else None
    for node in tree.root_node.named_children if tree else ():
        first, last = rows(node)
        if node.type in _IMPORTS or "require(" in page.lines[first]:
            yield from range(first, last + 1)
