"""What is said instead of an answer when the search found nothing that would answer."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from slipstream.ensemble.contracts import Hit, SearchResult

_PLACES = 3
_CYRILLIC = re.compile(r"[\u0400-\u04ff]")
_RUSSIAN_WORD = re.compile(r"[а-яё]{2,}", re.IGNORECASE)
_LATIN_WORD = re.compile(r"(?<![\w.])[a-z]{2,}(?![\w.(])", re.IGNORECASE)
_RUSSIAN = re.compile(r"[а-яё]", re.IGNORECASE)
_QUOTED = re.compile(r"`[^`]*`|\"[^\"]*\"|«[^«»]*»|“[^“”]*”")

_WORDS = {
    "en": (
        "I did not find this in the indexed code. I searched the collection `{collection}`{nearest}.",
        "; the nearest places, probably unrelated, are {places}",
    ),
    "ru": (
        "В проиндексированном коде этого не нашлось. Поиск шёл по коллекции `{collection}`{nearest}.",
        "; ближайшие места, скорее всего о другом: {places}",
    ),
}


def is_found(result: SearchResult, min_confidence: float) -> bool:
    """Whether ``result`` is worth an answer; with a ``min_confidence`` of 0 every result is, even an empty one."""
    return min_confidence <= 0 or (bool(result.hits) and result.confidence >= min_confidence)


def not_found(question: str, result: SearchResult) -> str:
    """The sentence, in Russian for a Russian ``question`` and in English for any other.

    It names the collection and the nearest places, as code, so that none of it can be taken for a citation.
    """
    sentence, nearest = _WORDS["ru" if is_russian(question) else "en"]
    places = ", ".join(_places(result.hits))
    return sentence.format(collection=result.collection, nearest=nearest.format(places=places) if places else "")


def is_russian(text: str) -> bool:
    """Whether ``text`` is Russian around the names, the code and the quotations in it.

    Cyrillic letters that Russian does not have mean another language.
    """
    prose = _QUOTED.sub(" ", text)
    if not _RUSSIAN.search(prose):
        return bool(_RUSSIAN.search(text)) and not _LATIN_WORD.search(prose)
    if any(not _RUSSIAN.match(letter) for letter in _CYRILLIC.findall(prose)):
        return False
    return 2 * len(_RUSSIAN_WORD.findall(prose)) >= len(_LATIN_WORD.findall(prose))


def _places(hits: Sequence[Hit]) -> Iterator[str]:
    files: dict[tuple[str, str], Hit] = {}
    for hit in hits:
        files.setdefault((hit.repo, hit.path), hit)  # the best of each file
    named = (hit for hit in files.values() if hit.path.isprintable() and "`" not in hit.path)
    return (f"`{hit.path}:{hit.line_start}`" for hit in islice(named, _PLACES))


__all__ = ["is_found", "is_russian", "not_found"]
