"""The bilingual lexicon: Russian words and phrases of developers, and what English-speaking developers say.

Each table is tab-separated text: Russian forms with the same meaning, then one to three English equivalents, the best
first; both divided by commas. ``-`` on the English side means that English needs no word there.
"""

import re
import unicodedata
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import Stemmer

from slipstream.ensemble.retrieval.lexicon.forms import derived

# A phrase of an earlier table wins over one of a later table.
TABLES = ("function", "verbs", "software", "phrases", "general", "extra")
NOTHING = "-"
_NEAREST_PREFIX = 5
_NEAREST_REST = 3
_PARTICIPLE = re.compile(r"([^ ]+нн)(?:[ыо]й|[ао]я|ое|ые|[оы]х|ого|ому|[ыо]м|ую|ыми)")


@dataclass(frozen=True)
class Lexicon:
    """English equivalents by words as they stand, and by the stems of words.

    Attributes:
        exact: by the words, single spaces between them.
        participles: by the passive participle without its ending: Snowball gives ``вложенный`` and ``вложение`` one
            stem.
        stems: by the stems of the words, single spaces between them.
        ordered: the stems of single words, ascending.
        longest: words in the longest phrase.
    """

    exact: dict[str, tuple[str, ...]]
    participles: dict[str, tuple[str, ...]]
    stems: dict[str, tuple[str, ...]]
    ordered: list[str]
    longest: int

    def find(self, words: str, stems: str) -> tuple[str, ...] | None:
        """Equivalents of a word or phrase, () when English needs none, None when it is not in the lexicon."""
        for table, key in ((self.exact, words), (self.participles, participle(words)), (self.stems, stems)):
            found = table.get(key)
            if found is not None:
                return found
        return None

    def nearest(self, stem: str) -> tuple[str, ...] | None:
        """Equivalents of the word whose stem has the longest beginning in common, for forms that no table lists.

        The stems share at least five letters, and neither goes on for more than three.
        """
        at = bisect_left(self.ordered, stem)
        best, length = None, max(_NEAREST_PREFIX, len(stem) - _NEAREST_REST) - 1
        for other in self.ordered[max(0, at - 2) : at + 2]:
            common = _common(stem, other)
            if common > length and len(other) - common <= _NEAREST_REST:
                best, length = other, common
        return None if best is None else self.stems[best]


def _common(one: str, other: str) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length


def plain(text: str) -> str:
    """``text`` in lower case and NFC, with е for ё."""
    return unicodedata.normalize("NFC", text).lower().replace("ё", "е")


def participle(word: str) -> str:
    """``word`` up to the нн of a passive participle; empty for any other word and for phrases."""
    found = _PARTICIPLE.fullmatch(word)
    return found[1] if found else ""


def stemmer() -> "Stemmer.Stemmer":
    """A Russian Snowball stemmer for the calling thread alone: one may not be shared."""
    return Stemmer.Stemmer("russian")


def parse(table: str) -> dict[str, tuple[str, ...]]:
    """A table's equivalents by Russian form, in the table's order; lines that begin with # are for its readers."""
    found: dict[str, tuple[str, ...]] = {}
    for line in table.splitlines():
        if line and not line.startswith("#"):
            russian, english = line.split("\t")
            equivalents = () if english == NOTHING else tuple(english.split(", "))
            for form in russian.split(", "):
                found.setdefault(form, equivalents)
    return found


@cache
def lexicon() -> Lexicon:
    """The whole lexicon, read once."""
    room = files(__package__)
    exact: dict[str, tuple[str, ...]] = {}
    for name in TABLES:
        table = parse(room.joinpath(f"{name}.tsv").read_text(encoding="utf-8"))
        exact |= {form: equivalents for form, equivalents in table.items() if form not in exact}
    stems = _by_stem(exact)
    participles = {participle(form): equivalents for form, equivalents in exact.items() if participle(form)}
    longest = max(form.count(" ") for form in exact) + 1
    return Lexicon(exact, participles, stems, sorted(stem for stem in stems if " " not in stem), longest)


def _by_stem(exact: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    stem = stemmer().stemWords
    found: dict[str, tuple[str, ...]] = {}
    spelled = " \n ".join(exact).split(" ")  # one call for all words, the phrases divided by line ends
    for stems, equivalents in zip(" ".join(stem(spelled)).split(" \n "), exact.values(), strict=True):
        found.setdefault(stems, equivalents)
    further = [(form, word) for word in exact if " " not in word for form in derived(word)]
    for stemmed, (_, word) in zip(stem([form for form, _ in further]), further, strict=True):
        found.setdefault(stemmed, exact[word])
    return found
