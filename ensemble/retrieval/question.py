"""What a question asks the two halves of the search for, in whatever language it is asked.

Chunks are read in English by the embedder, so a Russian question is glossed first (`lexicon`). A lexical search gets
the same words, their other English equivalents with less weight, and the words as they were asked: comments may be in
the language of the question.
"""

import unicodedata

from slipstream.ensemble.retrieval.lexicon.gloss import gloss
from slipstream.ensemble.retrieval.words import spoken, stems, terms

# Of 0.3, 0.6 and 1, the best for the Russian questions of the development split of tests/retrieval.
_ALTERNATIVE = 0.6


def has_words(text: str) -> bool:
    """Whether ``text`` names anything to look for; marks do not, nor does a word longer than any that is kept."""
    return bool(terms(text))


def question_for_embedder(text: str) -> str:
    """What the embedder reads of a question; equal for a question in English and one that says the same.

    Letters of full width, as keyboards for Chinese and Japanese type them, are plain ones.
    """
    return spoken(gloss(text if text.isascii() else unicodedata.normalize("NFKC", text)).english)


def stem_weights(text: str) -> dict[str, float]:
    """The stems to look for, each with its weight."""
    glossed = gloss(text)
    weights = {stem: _ALTERNATIVE for alternative in glossed.alternatives for stem in stems(alternative)}
    for stem in (*stems(glossed.english), *stems(text)):
        weights[stem] = 1.0
    return weights
