"""Prompts of a given number of tokens: words of no meaning, no two prompts beginning alike.

The count is that of the message itself. The chat template's tokens come on top (`ServerTokenizer.template_tokens`), and
so do the contexts of a server that retrieves some.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from slipstream import InputError
from slipstream.loadtest.schedule.prompts import Endpoint, Prompt, ask
from slipstream.loadtest.schedule.randomness import Purpose, stream_of
from slipstream.loadtest.schedule.tokens import ServerTokenizer

MOST_PROMPTS = 10_000_000
"""As many as a closed loop may ask for."""

_WORD = re.compile(r"[a-z]{2,12}")
_FEWEST_WORDS = 16
_TRIES = 8

Lengths = tuple[int, int]


class TokenizerMissing(InputError):
    """A prompt of a given number of tokens is wanted, and nothing says how the server counts them."""


class TokenizerUnsuitable(InputError):
    """No prompt of exactly that many tokens, or not enough different ones, can be made with this tokenizer."""


@dataclass(frozen=True)
class Words:
    """Writes prompts of the tokenizer's own words, each of which is one token wherever it stands.

    Attributes:
        words: in an order drawn from the seed. The number of a prompt, written in this alphabet with its last digit
            first, is how the prompt begins: neighbours differ in their first token, any two in the first few.
    """

    tokenizer: ServerTokenizer
    words: tuple[str, ...]
    seed: int

    @classmethod
    def of(cls, tokenizer: ServerTokenizer | None, seed: int) -> "Words":
        """The words of ``tokenizer``.

        Raises:
            TokenizerMissing: there is none.
            TokenizerUnsuitable: it has next to no words.
        """
        if tokenizer is None:
            raise TokenizerMissing(
                "prompts of a given number of tokens need the server's tokenizer, and none is known",
                "name its tokenizer.json (or the folder that holds it) with --tokenizer",
            )
        candidates = [piece for piece in tokenizer.pieces() if _WORD.fullmatch(piece)]
        thrice = tokenizer.counts([f"{word} {word} {word}" for word in candidates])
        words = [word for word, count in zip(candidates, thrice, strict=True) if count == 3]
        if len(words) < _FEWEST_WORDS:
            raise TokenizerUnsuitable(
                f"{tokenizer.path} has only {len(words)} words that are one token each",
                "use prompts from a file instead",
            )
        order = stream_of(seed, Purpose.WORDS).permutation(len(words))
        return cls(tokenizer, tuple(words[place] for place in order), seed)

    @property
    def distinct_tokens(self) -> int:
        """How many tokens tell every prompt of a load apart."""
        return math.ceil(math.log(MOST_PROMPTS, len(self.words)))

    def check_enough(self, fewest_tokens: int, prompts: int) -> None:
        """Whether ``prompts`` prompts of ``fewest_tokens`` tokens can all begin differently.

        Raises:
            TokenizerUnsuitable: they cannot.
        """
        if len(self.words) ** min(fewest_tokens, self.distinct_tokens) < prompts:
            raise TokenizerUnsuitable(
                f"there are not {prompts:,} different prompts of {fewest_tokens} tokens", "ask for longer prompts"
            )

    def write(self, number: int, tokens: int) -> str:
        """Prompt ``number``, of exactly ``tokens`` tokens.

        Raises:
            TokenizerUnsuitable: the words do not add up in this tokenizer.
        """
        base = len(self.words)
        drawn = stream_of(self.seed, Purpose.PROMPTS, number).integers(base, size=tokens + _TRIES)
        chosen = [self.words[place] for place in drawn]
        for place in range(min(self.distinct_tokens, tokens)):
            chosen[place] = self.words[number // base**place % base]
        wanted = tokens
        for _ in range(_TRIES):  # words that stand together might merge in a tokenizer unlike those we know
            text = " ".join(chosen[:wanted])
            missing = tokens - self.tokenizer.count(text)
            if not missing:
                return text
            wanted = max(1, wanted + missing)
        raise TokenizerUnsuitable(
            f"{self.tokenizer.path} makes no prompt of exactly {tokens} tokens", "use prompts from a file instead"
        )


@dataclass(frozen=True)
class Synthetic:
    """Prompts with lengths drawn evenly from ``lengths`` (least, most)."""

    words: Words
    lengths: Lengths
    endpoint: Endpoint

    def stream(self, indexes: Iterable[int], *key: int) -> Iterator[Prompt]:
        drawn = stream_of(self.words.seed, Purpose.LENGTHS, *key)
        for index in indexes:
            yield synthetic_prompt(self.words, index, int(drawn.integers(*self.lengths, endpoint=True)), self.endpoint)


def synthetic_prompt(words: Words, number: int, tokens: int, endpoint: Endpoint) -> Prompt:
    """Prompt ``number`` of the load; its id says its number and its length."""
    return Prompt(f"synthetic-{number}-{tokens}", ask(words.write(number, tokens), endpoint))


def bounds(tokens: int | tuple[int, int]) -> Lengths:
    """A number, or [least, most], as both."""
    return tokens if isinstance(tokens, tuple) else (tokens, tokens)


__all__ = [
    "MOST_PROMPTS",
    "Synthetic",
    "TokenizerMissing",
    "TokenizerUnsuitable",
    "Words",
    "bounds",
    "synthetic_prompt",
]
