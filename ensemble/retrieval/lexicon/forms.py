"""Forms of Russian words that a stemmer does not bring back to their dictionary form.

The Snowball stemmer cuts endings; it knows neither vowels that come and go (``ошибка``, ``ошибок``) nor consonants that
change before an ending (``загрузить``, ``загруженный``), nor nouns made of verbs (``закрыть``, ``закрытие``). Rules
for the productive patterns follow; what is irregular stands in the tables as a word of its own. A form that Russian
does not have does no harm: nobody asks with it.
"""

# The consonant before the ending of a verb in -ить, and before -у and -енный of the same verb.
_CHANGES = {
    "ст": ("щ",), "с": ("ш",), "з": ("ж",), "т": ("ч", "щ"), "д": ("ж", "жд"), "б": ("бл",), "п": ("пл",),
    "в": ("вл",), "м": ("мл",), "ф": ("фл",),
}  # fmt: skip
_VERBS: dict[str, tuple[str, ...]] = {
    "овать": ("ует", "уем", "уемый", "ование", "ованный", "уя"),
    "евать": ("ует", "юет", "уемый", "евание", "еванный"),
    "ать": ("ание", "анный", "ая"),
    "ять": ("яние", "янный", "яя", "имет"),
    "еть": ("ение",),
    "ыть": ("оет", "ою", "оют", "ыл", "ытый", "ытие"),
    "нуть": ("нет", "нут", "ну", "нул", "нутый"),
    "чь": ("чет", "кут", "жет", "гут"),
}
_NOUNS: dict[str, tuple[str, ...]] = {
    "йка": ("ек",),
    "ка": ("ок", "ек"),
    "ок": ("ка",),
    "ек": ("ка",),
    "ец": ("ца",),
    "ень": ("ня",),
    "ло": ("ел",),
    "но": ("он",),
    "мя": ("мени", "мена", "мен"),
}


def derived(word: str) -> list[str]:
    """Further forms of a lower-case dictionary form; none where no pattern fits."""
    word = word[:-2] if word.endswith(("ться", "тись", "чься")) else word
    if word.endswith("ить"):
        return _of_second_conjugation(word[:-3])
    for patterns in (_VERBS, _NOUNS):
        for ending, others in patterns.items():
            if word.endswith(ending) and len(word) > len(ending) + 1:
                return [word[: -len(ending)] + other for other in others]
    return []


def _of_second_conjugation(base: str) -> list[str]:
    changed = [base]
    for consonants, others in _CHANGES.items():
        if base.endswith(consonants):
            changed += [base[: -len(consonants)] + other for other in others]
            break
    return [other + ending for other in changed for ending in ("у", "енный", "ение", "ен")]
