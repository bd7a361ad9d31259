"""A Russian question in rough English, word by word and phrase by phrase.

Chunks are code, comments and docstrings, mostly in English, and the embedder reads English only. So a question is not
translated but glossed: what the lexicon knows becomes English, what is Latin already stays where it stands.
"""

import re
import threading
import unicodedata
from dataclasses import dataclass

import Stemmer

from slipstream.ensemble.retrieval.lexicon.entries import Lexicon, lexicon, plain, stemmer

_CYRILLIC = re.compile(r"[\u0400-\u052f]")
_WORD = re.compile(r"[\u0400-\u052f]+(?:-[\u0400-\u052f]+)*")
# `request'а`, `json-ом`: a Russian ending on a Latin word.
_ENDING = re.compile(r"(?<=[A-Za-z0-9_])[-'’](?:ами|ями|ов|ом|ем|ей|ам|ям|ах|ях|ой|а|у|ы|е|и|ю|я)\b")
# Letters that look Latin, typed with the Russian keyboard inside a Latin word.
_MIXED = re.compile(r"[\w\u0400-\u052f]+")
_LATIN = re.compile(r"[A-Za-z]")
_LOOKALIKES = str.maketrans("асеорхуАВСЕНКМОРТХ", "aceopxyABCEHKMOPTX")
_NEGATION = "не"
_SHORTEST_NEGATED = 5
_SOUNDS = str.maketrans(
    {
        "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ж": "zh", "з": "z", "и": "i", "й": "y", "к": "k",
        "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s", "т": "t", "у": "u", "ф": "f", "х": "h",
        "ц": "ts", "ч": "ch", "ш": "sh", "щ": "sch", "ъ": "", "ы": "y", "ь": "", "э": "e", "ю": "yu", "я": "ya",
        "і": "i", "ї": "yi", "є": "e", "ґ": "g",
    }
)  # fmt: skip
_own = threading.local()


@dataclass(frozen=True)
class Gloss:
    """What a question says in English.

    Attributes:
        english: the question with each Russian word or phrase replaced by its best equivalent, in order; all else as
            it was. Unknown words are spelled in Latin letters, which brings many an anglicism home.
        alternatives: the other equivalents, for a lexical search; each once, in the order of the question.
        unknown: the Russian words that the lexicon does not know, as they were asked.
    """

    english: str
    alternatives: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Word:
    start: int
    end: int
    plain: str
    stem: str


def gloss(text: str) -> Gloss:
    """``text`` in rough English; without a Cyrillic letter it is left as it is."""
    if not _CYRILLIC.search(text):
        return Gloss(text)
    text = _ENDING.sub("", _MIXED.sub(_unmixed, unicodedata.normalize("NFC", text)))
    known, words = lexicon(), _words(text)
    pieces: list[str] = []
    alternatives: dict[str, None] = {}
    unknown: dict[str, None] = {}
    at = position = 0
    while position < len(words):
        count, equivalents = _longest(known, text, words, position)
        first, last = words[position], words[position + count - 1]
        if equivalents is None:
            unknown[text[first.start : first.end]] = None
            equivalents = (first.plain.translate(_SOUNDS),)
        pieces.append(text[at : first.start] if equivalents else text[at : first.start].rstrip())
        pieces.extend(equivalents[:1])
        alternatives.update(dict.fromkeys(equivalents[1:]))
        at, position = last.end, position + count
    english = "".join(pieces) + text[at:]
    return Gloss(english.strip(), tuple(alternatives), tuple(unknown))


def _unmixed(match: "re.Match[str]") -> str:
    word = match[0]
    if not (_LATIN.search(word) and _CYRILLIC.search(word)):
        return word
    latin = word.translate(_LOOKALIKES)
    return word if _CYRILLIC.search(latin) else latin


def _words(text: str) -> list[_Word]:
    """The Russian words of ``text``; one with hyphens is whole only where the lexicon has it so."""
    stem, known = _stemmer().stemWord, lexicon()
    found: list[_Word] = []
    for match in _WORD.finditer(text):
        word = plain(match[0])
        stemmed = stem(word)
        if "-" not in word or known.find(word, stemmed) is not None:
            found.append(_Word(match.start(), match.end(), word, stemmed))
            continue
        for part in re.finditer(r"[^-]+", match[0]):
            word = plain(part[0])
            found.append(_Word(match.start() + part.start(), match.start() + part.end(), word, stem(word)))
    return found


def _longest(known: Lexicon, text: str, words: list[_Word], first: int) -> tuple[int, tuple[str, ...] | None]:
    """How many words the longest known phrase from ``first`` has, and its equivalents; (1, None) for none."""
    end = first + 1
    while end < min(len(words), first + known.longest) and text[words[end - 1].end : words[end].start].isspace():
        end += 1
    for stop in range(end, first, -1):
        phrase = words[first:stop]
        found = known.find(" ".join(word.plain for word in phrase), " ".join(word.stem for word in phrase))
        if found is not None:
            return stop - first, found
    return 1, _guessed(known, words[first])


def _guessed(known: Lexicon, word: _Word) -> tuple[str, ...] | None:
    """Equivalents of a word that no table lists: a negation of a known one, or the nearest by its beginning."""
    if word.plain.startswith(_NEGATION) and len(word.plain) > _SHORTEST_NEGATED:
        rest = word.plain.removeprefix(_NEGATION)
        found = known.find(rest, _stemmer().stemWord(rest))
        if found:
            return tuple(f"not {equivalent}" for equivalent in found)
    return known.nearest(word.stem)


def _stemmer() -> "Stemmer.Stemmer":
    if not hasattr(_own, "stemmer"):
        _own.stemmer = stemmer()
    mine: Stemmer.Stemmer = _own.stemmer
    return mine
