"""From hits to the contexts of a prompt: chosen and joined, not concatenated.

What says the same as a better hit is dropped, what continues a chosen context is joined to it, and the rest of a
definition comes with its first part. A context holds whole lines of one file in their order and nothing else, so its
citation names exactly what was shown.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from slipstream.ensemble.contracts import Hit
from slipstream.ensemble.prompt import render_context

MIN_CUT_TOKENS = 48
"""A context that was cut and is shorter than this explains nothing and is left out; a whole one may be as short."""
SAME = 0.85
"""Jaccard similarity of word 5-grams (Broder 1997, "On the resemblance and containment of documents") from which two
chunks say the same: vendored copies, generated siblings, overloads that differ in a type."""
_SHINGLE = 5
_WORD = re.compile(r"\w+|[^\w\s]")
_LINES_BETWEEN = 3
"""Lines between two hits that may be filled in, where it is known what stands there."""
_NEAR = 8
"""Ranks by which the rest of a definition may go before other hits. Without such a bound, it took the place of better
evidence in a small budget (`tests/benchmarks/assembly.py`)."""
_PIECE = 600
"""Characters of a single line from which it may be a piece of a longer one, whose neighbours do not continue it. The
chunker cuts lines of more than 1,200 characters into even pieces."""

_File = tuple[str, str]
_Lines = Mapping[_File, Mapping[int, str]]


def assemble(hits: Sequence[Hit], budget: int, count: Callable[[str], int]) -> list[Hit]:
    """The contexts of a prompt, best evidence first; equal input gives equal contexts.

    A joined context stands where the better of its hits stood, with that one's symbol and score.

    Args:
        hits: best first; more than fit give more to choose from.
        budget: tokens that the rendered contexts may take together.
        count: tokens of a text.
    """
    contexts: list[Hit] = []
    known = _known_lines(hits)
    size = _Size(budget, count)
    for hit in distinct(_whole_definitions(hits)):
        extended = _added(contexts, hit, known)
        if extended is None:
            continue
        if size.fits(extended):
            contexts = extended
        elif (cut := _cut(contexts, hit, known, size)) is not None:
            return cut
        elif size.left(contexts) < MIN_CUT_TOKENS:
            break
    return contexts


def near(hits: Sequence[Hit], margin: float) -> list[Hit]:
    """The ``hits``, best first, within ``margin`` of the best one's score, and what else there is of their definitions.

    What stands far below the best is no evidence beside it, and a small model takes it for some.
    """
    within = [hit for hit in hits if hit.score >= hits[0].score - margin]
    return [hit for hit in hits if hit in within or any(_one_definition(hit, better) for better in within)]


def distinct(hits: Iterable[Hit]) -> Iterator[Hit]:
    """``hits`` without blank ones and without those that say the same as a better one."""
    seen: list[set[tuple[str, ...]]] = []
    for hit in hits:
        if not hit.text.strip():
            continue
        shingles = _shingles(hit.text)
        if not any(_say_the_same(shingles, better) for better in seen):
            seen.append(shingles)
            yield hit


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text)
    return {tuple(words[at : at + _SHINGLE]) for at in range(max(1, len(words) - _SHINGLE + 1))}


def _say_the_same(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> bool:
    fewer, more = sorted((len(one), len(other)))
    if fewer < SAME * more:  # they cannot have enough in common
        return False
    common = len(one & other)
    return common >= SAME * (fewer + more - common)


def _whole_definitions(hits: Sequence[Hit]) -> Iterator[Hit]:
    """``hits``, each followed by the other windows of its definition that rank near it, the nearest lines first."""
    given: set[int] = set()
    for at, hit in enumerate(hits):
        windows = [
            at,
            *(other for other in range(at + 1, min(at + 1 + _NEAR, len(hits))) if _one_definition(hit, hits[other])),
        ]
        for one in sorted(windows, key=lambda other: abs(hits[other].line_start - hit.line_start)):
            if one not in given:
                given.add(one)
                yield hits[one]


def _one_definition(one: Hit, other: Hit) -> bool:
    return bool(one.symbol) and _file(one) == _file(other) and one.symbol == other.symbol


def _added(contexts: Sequence[Hit], hit: Hit, known: _Lines) -> list[Hit] | None:
    """``contexts`` with ``hit``: joined to those that it continues, else as the last; None if it brings nothing new."""
    touched = [at for at, context in enumerate(contexts) if join(context, hit, known[_file(hit)]) is not None]
    if not touched:
        return None if any(_overlap(hit, context) for context in contexts) else [*contexts, hit]
    joined = contexts[touched[0]]
    # The hit may close the gap between two contexts: then all three become one, at the place of the better.
    for part in (hit, *(contexts[at] for at in touched[1:])):
        joined = join(joined, part, known[_file(hit)]) or joined
    if joined == contexts[touched[0]]:
        return None
    rest = [joined if at == touched[0] else context for at, context in enumerate(contexts) if at not in touched[1:]]
    overlaps = any(_overlap(joined, context) for at, context in enumerate(rest) if at != touched[0])
    return None if overlaps else rest


def join(better: Hit, other: Hit, known: Mapping[int, str]) -> Hit | None:
    """One context of both, if their lines and the few ``known`` ones between them are all there; None if not."""
    if _file(better) != _file(other):
        return None
    mine, others = _numbered(better), _numbered(other)
    if mine is None or others is None:
        return None
    if any(mine[number] != others[number] for number in mine.keys() & others.keys()):
        return None
    earlier, later = sorted((better, other), key=lambda hit: hit.line_start)
    between = range(earlier.line_end + 1, later.line_start)
    if len(between) > _LINES_BETWEEN or any(number not in known for number in between):
        return None
    lines = {**mine, **others, **{number: known[number] for number in between}}
    first, last = min(lines), max(lines)
    text = "\n".join(lines[number] for number in range(first, last + 1))
    return better.model_copy(update={"line_start": first, "line_end": last, "text": text})


def _known_lines(hits: Iterable[Hit]) -> _Lines:
    """What stands on the lines that the hits show, and on the empty ones behind them."""
    known: dict[_File, dict[int, str]] = {}
    for hit in hits:
        lines = known.setdefault(_file(hit), {})
        lines |= _numbered(hit) or {}
        lines |= dict.fromkeys(range(hit.line_end + 1, hit.line_end + 1 + hit.empty_after), "")
    return known


def _numbered(hit: Hit) -> dict[int, str] | None:
    """Line number -> line; None where lines of the text are not lines of the file (notebooks, pieces of a line)."""
    lines = _lines(hit)
    missing = hit.line_end - hit.line_start + 1 - len(lines)
    if (
        missing < 0
        or (missing and not hit.text.endswith("\n" * missing))
        or (len(lines) == 1 and len(lines[0]) >= _PIECE)
    ):
        return None
    return dict(enumerate([*lines, *[""] * missing], hit.line_start))


def _lines(hit: Hit) -> list[str]:
    return hit.text.rstrip("\n").split("\n")  # not splitlines(), which also splits at form feeds


def _cut(contexts: Sequence[Hit], hit: Hit, known: _Lines, size: "_Size") -> list[Hit] | None:
    """``contexts`` with the first whole lines of ``hit`` that fit; None if that is too little."""
    lines = _lines(hit)
    best: list[Hit] | None = None
    low, high = 0, len(lines) - 1
    while low < high:
        middle = (low + high + 1) // 2
        extended = _added(contexts, _first_lines(hit, lines, middle), known)
        if extended is not None and size.fits(extended):
            low, best = middle, extended
        else:
            high = middle - 1
    is_blank = not any(line.strip() for line in lines[:low])
    if best is None or is_blank or size.left(contexts) - size.left(best) < MIN_CUT_TOKENS:
        return None
    return best


def _first_lines(hit: Hit, lines: Sequence[str], count: int) -> Hit:
    while count > 1 and not lines[count - 1].strip():
        count -= 1
    last = hit.line_end if _numbered(hit) is None else hit.line_start + count - 1
    return hit.model_copy(update={"text": "\n".join(lines[:count]), "line_end": last, "empty_after": 0})


class _Size:
    """Tokens of rendered contexts; each is counted once."""

    def __init__(self, budget: int, count: Callable[[str], int]) -> None:
        self._budget = budget
        self._count = count
        self._counted: dict[str, int] = {}

    def left(self, contexts: Sequence[Hit]) -> int:
        rendered = (render_context(number, context) + "\n" for number, context in enumerate(contexts, 1))
        return self._budget - sum(map(self._one, rendered))

    def fits(self, contexts: Sequence[Hit]) -> bool:
        return self.left(contexts) >= 0

    def _one(self, text: str) -> int:
        if text not in self._counted:
            self._counted[text] = self._count(text)
        return self._counted[text]


def _overlap(one: Hit, other: Hit) -> bool:
    return _file(one) == _file(other) and one.line_start <= other.line_end and other.line_start <= one.line_end


def _file(hit: Hit) -> _File:
    return hit.repo, hit.path


__all__ = ["MIN_CUT_TOKENS", "SAME", "assemble", "distinct", "join", "near"]
