"""What of a file is cut: its lines, where each stands, and what a grammar makes of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from slipstream.ensemble.retrieval.decoding import decode
from slipstream.ensemble.retrieval.languages import CPP, C, Language, language_of
from slipstream.ensemble.retrieval.notebooks import is_notebook, read_notebook

_CPP_IN_HEADER = re.compile(
    rb"^[ \t]*(?:(?:class|namespace|template|using)\b|(?:public|private|protected)[ \t]*:)", re.MULTILINE
)

_FAR = 60
"""Lines of output between two cells of a notebook beyond which a citation of both would show little but that."""
Caveat = Literal["guessed_encoding", "broken_notebook", "parse_timeout", "parse_crash", "crumbled"]
"""Why a file is in the index with less than it might show."""
CAVEATS: frozenset[str] = frozenset(get_args(Caveat))


@dataclass(frozen=True, slots=True)
class Page:
    """A file as it is cut.

    Attributes:
        lines: what is indexed, without line ends.
        numbers: the line of the file, counted from 1, where each of ``lines`` stands; not falling.
        language: None for plain text.
        source: what the grammar reads, line by line what ``lines`` are.
        sections: rows (0-based) where prose begins a new section, each with its title.
        caveat: what was odd about reading it; empty if nothing was.
    """

    lines: list[str]
    numbers: Sequence[int]
    language: Language | None
    source: bytes
    sections: list[tuple[int, str]] = field(default_factory=list)
    caveat: Caveat | Literal[""] = ""


def page_of(path: str, data: bytes) -> Page:
    """The page of the file called ``path``. A notebook that cannot be read has no lines."""
    if is_notebook(path):
        return _notebook_page(data)
    text, is_guessed = decode(data)
    language = language_of(path)
    if language is C and path.endswith((".h", ".H")) and _CPP_IN_HEADER.search(data):
        language = CPP
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    source = text.encode("utf-8", "replace")
    return Page(lines, range(1, len(lines) + 1), language, source, caveat="guessed_encoding" if is_guessed else "")


def _notebook_page(data: bytes) -> Page:
    """Cells one below the other with an empty line between them; to the grammar, prose and magics are comments."""
    book = read_notebook(data)
    if book is None:
        return Page([], [], None, b"", caveat="broken_notebook")
    lines: list[str] = []
    numbers: list[int] = []
    source: list[str] = []
    sections: list[tuple[int, str]] = []
    for cell in book.cells:
        if lines:
            lines.append("")
            source.append("")
            numbers.append(numbers[-1])
        title = cell.title or (sections[-1][1] if sections else "")
        if cell.title or (numbers and cell.numbers[0] - numbers[-1] > _FAR):
            sections.append((len(lines), title))
        lines += cell.lines
        numbers += cell.numbers
        comment = book.language.line_comment if book.language else ""
        source += [line if is_code else comment for line, is_code in zip(cell.lines, cell.is_code, strict=True)]
    return Page(lines, numbers, book.language, "\n".join(source).encode("utf-8", "replace"), sections)


__all__ = ["CAVEATS", "Caveat", "Page", "page_of"]
