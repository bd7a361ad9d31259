"""What the two sides of a pair become for one training step: as the index and a search put them, and varied.

A documentation sentence is not yet a question: some are asked as one, of some only the content words are left, as
somebody types into a search field. A quarter of the chunks lose their symbol, so that not everything hangs on names.
"""

from dataclasses import replace
from random import Random

from slipstream.build.training.embedder.pairs import Pair
from slipstream.build.training.wording import infinitive
from slipstream.ensemble.retrieval.chunker import embedded_text
from slipstream.ensemble.retrieval.question import question_for_embedder
from slipstream.ensemble.retrieval.words import STOP_WORDS

_KEYWORDS, _ASKED, _NAMELESS = 0.2, 0.25, 0.25  # shares
_QUESTIONS = (
    "how does it {}", "where does the code {}", "which function is used to {}", "how do I {}", "where {}",
    "what does {}", "what happens to {}", "which part of the code will {}",
)  # fmt: skip


def question_of(pair: Pair, random: Random | None = None) -> str:
    """What the embedder reads of the question; with ``random``, a variation of it."""
    query = pair.query
    if random is not None:
        share = random.random()
        words = [word for word in query.split() if word.casefold() not in STOP_WORDS]
        if share < _KEYWORDS and len(words) > 2:
            query = " ".join(words)
        elif _KEYWORDS <= share < _KEYWORDS + _ASKED:
            query = random.choice(_QUESTIONS).format(infinitive(f"{query[0].lower()}{query[1:]}"))
    return question_for_embedder(query)


def code_of(pair: Pair, random: Random | None = None) -> str:
    """What the embedder reads of the chunk; with ``random``, now and then without its symbol."""
    nameless = random is not None and random.random() < _NAMELESS
    return embedded_text(replace(pair.chunk, symbol="") if nameless else pair.chunk)


__all__ = ["code_of", "question_of"]
