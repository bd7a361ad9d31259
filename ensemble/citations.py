"""Citation marks: finding ``[n]`` in an answer, and keeping marks out that name no context of the prompt."""

import re
from collections.abc import Sequence

from slipstream.ensemble.contracts import Citation, Hit

MARK = re.compile(r"(?<![\w)])\[([0-9]{1,3})\]")
"""A mark stands free; directly behind a word or a call (``items[0]``, ``f(x)[1]``) it is code that indexes."""
CODE = re.compile(
    r"(?<!`)(`{1,2})(?!`)[^`\n]+\1(?!`)"  # a span closes on its line
    r"|(?<!`)`{3,}(?!`).*?(?:(?<!`)`{3,}(?!`)|\Z)",  # a block that nothing closes goes on to the end
    re.DOTALL,
)
"""Code in Markdown. Brackets in it index or make lists; none is a mark."""
_MARK_WITH_SPACE = re.compile(r"( ?)\[([0-9]{1,3})\]")
_FREE_MARK = re.compile(r"(?: |(?<![\w)]))\[[0-9]{1,3}\]")
_OPEN = re.compile(r" ?\[[0-9]{0,3}$| $")
_PIECE = re.compile(r"`+|\n|[^`\n]+")
_SPAN_RUN = 2  # backticks; more than that open a block


def cited_numbers(text: str) -> list[int]:
    """The distinct numbers of all marks in ``text``, in the order they first appear."""
    return list(dict.fromkeys(int(number) for number in MARK.findall(CODE.sub("`", text))))


def resolve(text: str, hits: Sequence[Hit]) -> list[Citation]:
    """The citations of ``text``, one per distinct mark in order of first appearance; foreign numbers are left out."""
    cited = [hits[number - 1] for number in cited_numbers(text) if 1 <= number <= len(hits)]
    return [Citation(**hit.model_dump(include=set(Citation.model_fields))) for hit in cited]


def without_marks(text: str) -> str:
    """``text`` without its marks, code as it was. In another prompt their numbers name other contexts."""
    kept: list[str] = []
    end = 0
    for code in CODE.finditer(text):
        kept += (_FREE_MARK.sub("", text[end : code.start()]), code[0])
        end = code.end()
    return "".join((*kept, _FREE_MARK.sub("", text[end:])))


class CitationGuard:
    """A streaming filter that drops every mark naming no context, so that an answer cannot cite what it never saw.

    Code passes unchanged (see `CODE`). Text that might still become a mark is held back until it is decided, and so is
    what follows a bracket in a code span until the span is closed; ``flush`` releases the rest.

    Args:
        contexts: how many numbered contexts the prompt held.
    """

    def __init__(self, contexts: int) -> None:
        self._prose = _ProseGuard(contexts)
        self._run = 0  # backticks at the end of what was fed
        self._in_block = False
        self._span = 0  # backticks that opened a span not closed yet
        self._held = ""  # of that span, from its first bracket on

    @property
    def dropped(self) -> int:
        return self._prose.dropped

    def feed(self, text: str) -> str:
        """Take the next piece of an answer and return what is decided."""
        return "".join(self._take(piece) for piece in _PIECE.findall(text))

    def flush(self) -> str:
        """Return what was held back; the answer is over."""
        return self._end_run() + self._end_span() + self._prose.flush()

    def _take(self, piece: str) -> str:
        """``piece`` is a part of a run of backticks, a line break, or holds neither."""
        if piece[0] == "`":
            self._run += len(piece)
            if self._held:
                self._held += piece
                return ""
            return self._prose.flush(piece)
        decided = self._end_run()
        if self._in_block:
            return decided + self._prose.flush(piece)
        if piece == "\n":
            decided += self._end_span()
        if not self._span:
            return decided + self._prose.feed(piece)
        code, bracket, rest = ("", "", piece) if self._held else piece.partition("[")
        self._held += bracket + rest
        return decided + self._prose.flush(code)

    def _end_run(self) -> str:
        """Decide what the run of backticks means, now that it is whole."""
        run, self._run = self._run, 0
        if not run:
            return ""
        if self._in_block:
            self._in_block = run <= _SPAN_RUN
            return ""
        if run == self._span:
            code, self._held, self._span = self._held, "", 0
            return self._prose.flush(code)
        decided = self._end_span()
        self._in_block = run > _SPAN_RUN
        self._span = 0 if self._in_block else run
        return decided

    def _end_span(self) -> str:
        """What was held of a span that nothing closes: it is prose after all."""
        prose, self._held, self._span = self._held, "", 0
        return self._prose.feed(prose)


class _ProseGuard:
    """The filter for text without code."""

    def __init__(self, contexts: int) -> None:
        self._contexts = contexts
        self._held = ""
        self._last = ""
        self.dropped = 0

    def feed(self, text: str) -> str:
        text = self._drop(self._held + text)
        hold = _OPEN.search(text)
        decided = text[: hold.start()] if hold else text
        self._held = text[len(decided) :]
        self._last = decided[-1:] or self._last
        return decided

    def flush(self, code: str = "") -> str:
        """What was held back, and the ``code`` that follows it."""
        decided, self._held = self._held + code, ""
        self._last = decided[-1:] or self._last
        return decided

    def _drop(self, text: str) -> str:
        """``text`` without foreign marks. Dropping one can close the gap to another (``[[9]7]``), hence the loop."""
        while match := next(filter(self._is_foreign, _MARK_WITH_SPACE.finditer(text)), None):
            text = text[: match.start()] + text[match.end() :]
            self.dropped += 1
        return text

    def _is_foreign(self, match: re.Match[str]) -> bool:
        before = match.string[match.start() - 1] if match.start() else self._last
        is_index = not match[1] and (before.isalnum() or before in ("_", ")"))
        return not is_index and not 1 <= int(match[2]) <= self._contexts
