"""Citation marks: finding ``[n]`` in an answer, and keeping marks out that name no context of the prompt."""

import re
from collections.abc import Sequence

from slipstream.ensemble.contracts import Citation, Hit

MARK = re.compile(r"(?<![\w)])\[(\d{1,3})\]")
"""A mark stands free; directly behind a word or a call (``items[0]``, ``f(x)[1]``) it is code that indexes."""
_MARK_WITH_SPACE = re.compile(r"( ?)\[(\d{1,3})\]")
_OPEN = re.compile(r" ?\[\d{0,3}$| $")


def cited_numbers(text: str) -> list[int]:
    """The distinct numbers of all marks in ``text``, in the order they first appear."""
    return list(dict.fromkeys(int(number) for number in MARK.findall(text)))


def resolve(text: str, hits: Sequence[Hit]) -> list[Citation]:
    """The citations of ``text``, one per distinct mark in order of first appearance; foreign numbers are left out."""
    cited = [hits[number - 1] for number in cited_numbers(text) if 1 <= number <= len(hits)]
    return [Citation(**hit.model_dump(include=set(Citation.model_fields))) for hit in cited]


class CitationGuard:
    """A streaming filter that drops every mark naming no context, so that an answer cannot cite what it never saw.

    Text that might still become a mark is held back until it is decided; ``flush`` releases the rest.

    Args:
        contexts: how many numbered contexts the prompt held.
    """

    def __init__(self, contexts: int) -> None:
        self._contexts = contexts
        self._held = ""
        self._last = ""
        self.dropped = 0

    def feed(self, text: str) -> str:
        """Take the next piece of an answer and return what is decided."""
        text = self._drop(self._held + text)
        hold = _OPEN.search(text)
        decided = text[: hold.start()] if hold else text
        self._held = text[len(decided) :]
        self._last = decided[-1:] or self._last
        return decided

    def flush(self) -> str:
        """Return what was held back; the answer is over."""
        held, self._held = self._held, ""
        return held

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
