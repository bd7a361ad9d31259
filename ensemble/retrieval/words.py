"""How code and questions are put for the embedder, and which of their words a lexical search keeps.

The embedder reads at most 256 tokens, and its vocabulary is English. Of ``self._addHTTPHandler(request)`` it gets the
words ``self add HTTP Handler request``: identifiers in their parts, without the punctuation that takes 40% of the
tokens of raw code and says little. It was adapted on text in this form.
"""

import re
import threading
import unicodedata
from functools import lru_cache

import Stemmer

_WORD = re.compile(r"\w+")
# `parseHTTPResponse2` is parse, HTTP, Response, 2; a letter of a script without case counts as a small one.
_PART = re.compile(r"[A-ZА-ЯЁ]+(?![^\W\d_A-ZА-ЯЁ])|[A-ZА-ЯЁ]?[^\W\d_A-ZА-ЯЁ]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PUNCTUATION = re.compile(r"(?:[^\w\s]|_)+")
# Minified code and encoded data are words without end, and nobody asks for them.
_LONGEST_WORD = 128

# Function words: in a question they carry its grammar, in code they are keywords and prose. `not`, `if`, `with`, `from`
# and `when` stay, because developers ask for conditions.
_FUNCTION_WORDS = """
a an the of to is are be was were been for in on by and or it its this that these those as at do does did how what where
why which who whose can could should would will has have had into than then there their them they i you we my your our
so such also but about out over under again
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
_CYRILLIC = re.compile(r"[а-яё]")
_own = threading.local()


def spoken(text: str) -> str:
    """``text`` as the embedder reads it: identifiers in their parts, no punctuation, white space as it was."""
    return _PUNCTUATION.sub(" ", _CAMEL.sub(" ", text))


def terms(text: str) -> list[str]:
    """Words of ``text`` in lower case, in order: each as a whole and, where it has several, its parts.

    ``get_userName`` gives ``get_username``, ``get``, ``user``, ``name``.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)  # й may come as и and a breve, and would be cut in two
    found: list[str] = []
    for word in _WORD.findall(text):
        if len(word) <= _LONGEST_WORD:
            found.extend(_split(word))
    return found


def stems(text: str) -> list[str]:
    """`terms` without `STOP_WORDS`, each cut to its stem, so that ``registers`` finds ``register``.

    Snowball's English stemmer (Porter2), its Russian one for Cyrillic words.
    """
    return [_stem(term) for term in terms(text) if term not in STOP_WORDS]


@lru_cache(maxsize=65536)
def _split(word: str) -> tuple[str, ...]:
    parts = _PART.findall(word)
    whole = word.strip("_").lower()
    if len(parts) < 2:
        return (whole,) if whole else ()
    return (whole, *(part.lower() for part in parts))


@lru_cache(maxsize=65536)
def _stem(term: str) -> str:
    if not hasattr(_own, "english"):  # a stemmer must not be shared by threads
        _own.english, _own.russian = Stemmer.Stemmer("english"), Stemmer.Stemmer("russian")
    stemmer = _own.russian if _CYRILLIC.search(term) else _own.english
    return str(stemmer.stemWord(term))


__all__ = ["STOP_WORDS", "spoken", "stems", "terms"]
