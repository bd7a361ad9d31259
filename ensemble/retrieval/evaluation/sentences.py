"""The first sentence of a documentation comment, as somebody could ask for it."""

import re

MIN_WORDS, MAX_WORDS = 4, 40

_STOPS = re.compile(r"^\s*(?:@|:\w+[^:]*:|#|>>>|```|~~~|\.\. |[-*+]\s|\d+[.)]\s|=+$|-+$)")
_MARKUP: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\{@\w+\s+([^}|\s]+)(?:[|\s]+([^}]*))?\}"), r"\1"),  # {@link Name}
    (re.compile(r":[\w:+.-]+:`~?\.?([^`<]+?)(?:\s*<[^>]*>)?`"), r"\1"),  # :class:`Name`
    (re.compile(r"!?\[([^\]]+)\](?:\([^)]*\)|\[[^\]]*\])?"), r"\1"),  # [name](place)
    (re.compile(r"`{1,3}([^`]*?)(?:\s<[^>]*>)?`{1,3}_{0,2}"), r"\1"),
    (re.compile(r"\*{1,3}([^*\s](?:[^*]*[^*\s])?)\*{1,3}"), r"\1"),
    (re.compile(r"</?[A-Za-z][^<>]*>"), " "),
)
# The end of a sentence, where a capital, a quote or a bracket begins the next one.
_END = re.compile(r"[.!?](?=[\"')\]]*\s+[\"'(\[]?[A-ZА-ЯЁ])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|resp|approx|no|fig|al)|\b[A-Z])\.$", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]{2,}")


def first_sentence(documentation: str, symbol: str) -> str | None:
    """The first sentence of ``documentation``, without its markup; None if nobody would ask so.

    A first word that is the symbol's own name (as Go's comments begin) is left out: it would give the answer away.
    None for what is deprecated, for a list, code or a parameter, and outside of 4 to 40 words.
    """
    if re.search(r"\bdeprecat", documentation, re.IGNORECASE):
        return None
    text = _without_markup(" ".join(_first_paragraph(documentation)))
    text = _cut(text).strip(" .:;,-!?\t")
    text = _without_own_name(text, symbol)
    words = text.split()
    if not MIN_WORDS <= len(words) <= MAX_WORDS or len(_WORD.findall(text)) < 0.6 * len(words):
        return None
    return text


def _first_paragraph(documentation: str) -> list[str]:
    lines: list[str] = []
    for line in documentation.strip().splitlines():
        if not line.strip() or _STOPS.match(line):
            break
        lines.append(line.strip())
    return lines


def _without_markup(text: str) -> str:
    for pattern, meaning in _MARKUP:
        text = pattern.sub(meaning, text)
    return " ".join(text.replace("\\", "").split())


def _cut(text: str) -> str:
    for end in _END.finditer(text):
        if not _ABBREVIATION.search(text[: end.end()]):
            return text[: end.end()]
    return text


def _without_own_name(text: str, symbol: str) -> str:
    name = re.escape(symbol.rsplit(".", 1)[-1])
    return re.sub(rf"^(?:[\w.]+[.:#])?{name}(?:\([^)]*\))?(?![\w-])[\s:,-]*", "", text)


__all__ = ["MAX_WORDS", "MIN_WORDS", "first_sentence"]
