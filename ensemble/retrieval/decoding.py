"""Bytes of a source file to text: by its mark, by what it declares, as UTF-8, else by what the letters say.

Nearly every file is UTF-8. What is not comes from before it: Latin-1 in the west, and three ways to write Cyrillic that
no statistic of bytes has to tell apart, because each reads the others' words as noise.
"""

import codecs
import re

MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""What a file may begin with, and what it then is in."""

_DECLARED = re.compile(rb"coding[:=][ \t]*([-\w.]+)")  # as PEP 263 has it, and what Emacs and Vim read
_DECLARING_LINES = 2
_CYRILLIC = ("cp1251", "koi8_r", "cp866")
_COMMON = frozenset("оеаинтсрвлкмдпуяы")  # over four fifths of the letters of Russian text
_RUN = re.compile(rb"[\x80-\xff]{2,}")  # one alone is an accented letter in a western word, or a sign
_WORD = re.compile(r"[А-Яа-яЁё]+")
_BROKEN_SHARE = 0.1
"""Up to this share of its characters beyond ASCII, bytes that are no UTF-8 are damage, not another encoding."""
_PLAUSIBLE = 0.55
"""What a byte beyond ASCII has to score on average: Russian scores 0.8, Latin-1 read as Russian 0.3 or less."""
_CAPITALS = 0.75  # capitals in one encoding are small letters in another, and small letters are likelier


def is_marked(head: bytes) -> bool:
    """Whether a file that begins so says that it is UTF-16 or UTF-32, where NUL is part of a character."""
    return any(head.startswith(mark) for mark, _ in MARKS)


def decode(data: bytes) -> tuple[str, bool]:
    """The text of ``data`` and whether its encoding had to be guessed, or a part of it could not be read.

    No byte stops it, and equal bytes give equal text. What cannot be read becomes U+FFFD. ``\\r\\n`` and ``\\r``
    become ``\\n``.
    """
    text, is_guessed = _decoded(data)
    return text.replace("\r\n", "\n").replace("\r", "\n"), is_guessed


def _decoded(data: bytes) -> tuple[str, bool]:
    for mark, encoding in MARKS:
        if data.startswith(mark):
            text = data.decode(encoding, "replace")
            return text, "\ufffd" in text
    try:
        return data.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        pass
    if (declared := _as_declared(data)) is not None:
        return declared, False
    text = data.decode("utf-8-sig", "replace")
    if text.count("\ufffd") <= _BROKEN_SHARE * sum(character > "\x7f" for character in text):
        return text, True
    return data.decode(_guess(data)), True


def _as_declared(data: bytes) -> str | None:
    """The text in the encoding that one of the first lines names; None if none does, or it cannot be in it.

    It is not in one where the declaration would read otherwise, or a line would end elsewhere: an encoding of escapes
    makes lines that no editor shows.
    """
    match = _DECLARED.search(b"\n".join(data[:1_000].splitlines()[:_DECLARING_LINES]))
    if match is None or b"escape" in match[1].lower():
        return None
    try:
        text = data.decode(match[1].decode("ascii"))
    except (LookupError, ValueError):  # no such encoding, none of text, or not what it is in
        return None
    ends = text.count("\n") == data.count(b"\n") and text.count("\r") == data.count(b"\r")
    return text if ends and match[0].decode("ascii") in text else None


def _guess(data: bytes) -> str:
    """Latin-1, unless the bytes beyond ASCII come in runs that are Russian words in one of its encodings."""
    beyond = b" ".join(_RUN.findall(data))
    scores = {encoding: _plausible(beyond.decode(encoding, "replace")) for encoding in _CYRILLIC}
    best = max(scores, key=lambda encoding: scores[encoding])
    count = len(beyond.replace(b" ", b""))
    return best if scores[best] > _PLAUSIBLE * count else "latin-1"


def _plausible(text: str) -> float:
    """How many common letters stand in words that are written as Russian is: in one case after the first letter."""
    score = 0.0
    for word in _WORD.findall(text):
        if word[1:].islower() or word.isupper():
            common = sum(letter in _COMMON for letter in word.lower())
            score += common * (_CAPITALS if word.isupper() else 1.0)
    return score


__all__ = ["MARKS", "decode", "is_marked"]
