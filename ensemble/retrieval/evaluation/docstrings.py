"""Documentation comments as queries, and sources without them.

A definition's documentation says in words what its code does: asked without the comment in sight, the code is the
answer. The corpus is the judge here, nobody had to write or check these queries. (The idea is CodeSearchNet's: Husain
et al., 2019, "CodeSearchNet Challenge: Evaluating the State of Semantic Code Search".)
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from slipstream.ensemble.retrieval.evaluation.comments import documented_by_comments
from slipstream.ensemble.retrieval.evaluation.documented import Documented
from slipstream.ensemble.retrieval.evaluation.python_docstrings import documented_by_docstrings, is_python
from slipstream.ensemble.retrieval.evaluation.sentences import first_sentence
from slipstream.ensemble.retrieval.languages import PYTHON, language_of

MAX_LINES = 100
"""Of a definition that is asked for: any part of the answer counts as found, and a long class would be hit by luck."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A definition that its documentation asks for."""

    path: str
    query: str
    documented: Documented


def decoded(data: bytes) -> str | None:
    """Text with the line ends that chunks count; None if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        return None


def candidates(path: str, text: str) -> list[Candidate]:
    """What can be asked of one file, in order. A name that is defined twice (an overload) has no one answer."""
    language = language_of(path)
    if language is None:
        return []
    found = documented_by_docstrings(text) if language is PYTHON else documented_by_comments(text, language)
    times = Counter(definition.symbol for definition in found)
    kept = []
    for definition in found:
        if times[definition.symbol] > 1 or not definition.documentation or definition.lines > MAX_LINES:
            continue
        query = first_sentence(definition.documentation, definition.symbol)
        if query is not None and _is_news(query, definition.symbol):
            kept.append(Candidate(path, query, definition))
    return kept


def sampled(found: Iterable[Candidate], count: int, seed: int) -> list[Candidate]:
    """``count`` of the candidates of one corpus, in order of their place; a sentence that comes twice is not asked.

    Each has its place in the draw by a hash of its own, so that one more definition moves no other.
    """
    everything = list(found)
    times = Counter(candidate.query.casefold() for candidate in everything)
    unique = [candidate for candidate in everything if times[candidate.query.casefold()] == 1]

    def draw(candidate: Candidate) -> bytes:
        return sha256(f"{seed}\0{candidate.path}\0{candidate.documented.symbol}".encode()).digest()

    drawn = sorted(unique, key=draw)[:count]
    return sorted(drawn, key=lambda candidate: (candidate.path, candidate.documented.first))


def blanked(path: str, text: str, definitions: Sequence[Documented]) -> str | None:
    """``text`` with the documentation of ``definitions`` gone and every line where it was.

    None if that would not be valid source any more (Python; the other languages' comments mean nothing).
    """
    lines = text.split("\n")
    for definition in definitions:
        first, last = definition.blank
        lines[first : last + 1] = [definition.instead] + [""] * (last - first)
    without = "\n".join(lines)
    return without if language_of(path) is not PYTHON or is_python(without) else None


def _is_news(query: str, symbol: str) -> bool:
    """Whether the query says more than the symbol's name does."""
    letters = "".join(filter(str.isalnum, query)).casefold()
    parts = "".join(filter(str.isalnum, symbol.rsplit(".", 1)[-1])).casefold()
    return letters != parts


__all__ = ["MAX_LINES", "Candidate", "blanked", "candidates", "decoded", "sampled"]
