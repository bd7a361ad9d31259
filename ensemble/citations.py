"""Citation marks: finding ``[n]`` in an answer, and keeping marks out that name no context of the prompt."""

import re
from collections.abc import Sequence

from slipstream.ensemble.contracts import Citation, Hit

MARK = re.compile(r"(?<!\w)\[(\d{1,3})\]")
"""A mark stands free; ``items[0]`` directly behind a word is code that indexes."""
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
        text = self._held + text
        hold = _OPEN.search(text)
        self._held = text[hold.start() :] if hold else ""
        return self._release(text[: hold.start()] if hold else text)

    def flush(self) -> str:
        """Return what was held back; the answer is over."""
        held, self._held = self._held, ""
        return self._release(held)

    def _release(self, text: str) -> str:
        kept: list[str] = []
        position = 0
        for match in re.finditer(r"( ?)\[(\d{1,3})\]", text):
            before = text[match.start() - 1] if match.start() else self._last
            is_index = not match[1] and (before.isalnum() or before == "_")
            if is_index or 1 <= int(match[2]) <= self._contexts:
                continue
            kept.append(text[position : match.start()])
            position = match.end()
            self.dropped += 1
        kept.append(text[position:])
        released = "".join(kept)
        if released:
            self._last = released[-1]
        return released
