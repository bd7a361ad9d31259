"""The training set: questions about an indexed code base, numbered contexts, answers that cite them.

Samples come in pages. A page is a chunk that says something about its symbol (`slipstream.build.training.wording`), in
random order with chunks that the collection's own hybrid search finds near it: the company it will keep when it is
served. Up to `QUESTIONS_PER_PAGE` questions are asked about different contexts of one page, so that no position is
right by habit, and so that training pays for the page once (`slipstream.build.training.train`).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from random import Random
from typing import Literal

from slipstream import InputError
from slipstream.build.training.wording import (
    Described,
    ask_and_answer,
    ask_and_answer_both,
    describe,
    supports,
)
from slipstream.ensemble.contracts import SearchFilter
from slipstream.ensemble.prompt import Context, Message, render_messages
from slipstream.ensemble.retrieval.store import Chunk, Point, Reader

CountTokens = Callable[[str], int]
Split = Literal["train", "symbol", "package"]
Language = Literal["en", "ru"]

QUESTIONS_PER_PAGE = 4
RUSSIAN_SHARE = 0.25
BOTH_SHARE = 0.1
"""Share of questions that ask for two symbols and need two citations."""
SIGNATURE_SHARE = 0.2
"""Largest share of pages made around a bare signature: code without documentation is plentiful and says less."""
CONTEXT_COUNTS = (2, 8)
SMALLEST_PAGE = 200
"""Tokens. Pages are between this and `DatasetOptions.context_tokens`, uniformly: short ones are cheap to learn from."""
SMALLEST_CONTEXT = 32
LONGEST_CONTEXTS = (80, 120, 200, 400)
"""Tokens. Served contexts are whole chunks, of which few fit; short ones teach larger numbers for the same price."""
NEIGHBOURS = 14


class TooLittleToLearnFrom(InputError):
    """The collection documents too few symbols for the training set that was asked for."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A question with its contexts, the answer to learn, and the numbers (1-based) of the contexts that support it.

    ``split`` says what the model has not seen in training: nothing (train), the symbol, or the whole package. Samples
    with the same ``page`` have the same contexts.
    """

    question: str
    contexts: tuple[Context, ...]
    answer: str
    gold: tuple[int, ...]
    split: Split
    language: Language
    page: int

    @property
    def messages(self) -> list[Message]:
        return render_messages(self.question, self.contexts)


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """How much to make and what to keep back.

    Attributes:
        pages: of training; each asks up to `QUESTIONS_PER_PAGE` questions.
        held_back: questions, each on a page of its own; two in three about held-out packages where there are any.
        hold_out: packages (a chunk's ``repo``, or the first part of its path) that training never shows.
        context_tokens: what all contexts of a page may fill; a step's cost grows with it.
    """

    pages: int = 800
    held_back: int = 150
    hold_out: frozenset[str] = frozenset()
    context_tokens: int = 640
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Dataset:
    train: list[Sample]
    held_back: list[Sample]

    @property
    def digest(self) -> str:
        """sha256 over questions, prompts and answers, hex."""
        total = sha256()
        for sample in (*self.train, *self.held_back):
            total.update(json.dumps([sample.messages, sample.answer, sample.split], ensure_ascii=False).encode())
        return total.hexdigest()


def build_dataset(reader: Reader, count_tokens: CountTokens, options: DatasetOptions) -> Dataset:
    """Make both splits from the collection behind ``reader``; the same index and options give the same samples.

    Raises:
        TooLittleToLearnFrom: fewer samples can be made than asked for.
    """
    maker = _SampleMaker(reader, count_tokens, options)
    train = maker.make("train", options.pages, QUESTIONS_PER_PAGE)
    unseen_package = maker.make("package", options.held_back * 2 // 3, 1) if options.hold_out else []
    unseen_symbol = maker.make("symbol", options.held_back - len(unseen_package), 1)
    return Dataset(train, unseen_package + unseen_symbol)


class _SampleMaker:
    """The described chunks of one collection, and the dice."""

    def __init__(self, reader: Reader, count_tokens: CountTokens, options: DatasetOptions) -> None:
        self._reader, self._count, self._options = reader, count_tokens, options
        points = sorted(reader.scroll(with_vectors=True), key=lambda point: _place(point.chunk))
        found = ((point, describe(point.chunk)) for point in points)
        self._described = [(point, described) for point, described in found if described is not None]
        self._by_place = {_place(described.chunk): described for _, described in self._described}

    def make(self, split: Split, count: int, questions: int) -> list[Sample]:
        """``count`` pages with up to ``questions`` questions each."""
        random = Random(f"{self._options.seed}/{split}")  # noqa: S311
        pool = [pair for pair in self._described if self._split(pair[0].chunk) == split]
        random.shuffle(pool)
        samples: list[Sample] = []
        pages = signatures = 0
        for point, described in pool:
            if pages == count:
                break
            if described.kind == "takes" and signatures >= SIGNATURE_SHARE * count:
                continue
            contexts = self._contexts(point, described, split, random)
            if contexts is not None:
                samples += self._ask(contexts, described, questions, split, pages, random)
                pages += 1
                signatures += described.kind == "takes"
        if pages < count:
            raise TooLittleToLearnFrom(
                f"{pages} pages of {count} can be made for the split {split!r}",
                "index more documented code, or ask for fewer pages or held-back questions",
            )
        return samples

    def _contexts(self, point: Point, described: Described, split: Split, random: Random) -> tuple[Chunk, ...] | None:
        """The page around ``point``; None when its evidence does not fit or it has too few neighbours."""
        budget = random.randint(SMALLEST_PAGE, max(SMALLEST_PAGE, self._options.context_tokens))
        longest = random.choice(LONGEST_CONTEXTS)
        gold = shorten(point.chunk, max(longest, 120), self._count)
        if gold is None or not supports(gold.text, described):
            return None
        contexts, names = [gold], {_short_name(gold)}
        budget -= self._count(gold.text)
        for chunk in self._neighbours(point, split):
            short = shorten(chunk, min(longest, budget), self._count)
            if short is None or budget < SMALLEST_CONTEXT or len(contexts) == CONTEXT_COUNTS[1]:
                break
            # The same name twice on a page would make a question about it undecidable.
            if _short_name(chunk) not in names:
                contexts.append(short)
                names.add(_short_name(chunk))
                budget -= self._count(short.text)
        random.shuffle(contexts)
        return tuple(contexts) if len(contexts) >= CONTEXT_COUNTS[0] else None

    def _ask(
        self, contexts: tuple[Chunk, ...], first: Described, questions: int, split: Split, page: int, random: Random
    ) -> list[Sample]:
        """Questions about ``first`` and about other contexts of its page that say something about their symbols."""
        numbered = [
            (number, described)
            for number, chunk in enumerate(contexts, 1)
            if (described := self._by_place.get(_place(chunk))) and supports(chunk.text, described)
        ]
        others = [(number, described) for number, described in numbered if described is not first]
        random.shuffle(others)
        asked = [next(pair for pair in numbered if pair[1] is first), *others]
        samples: list[Sample] = []
        for index, (number, described) in enumerate(asked[:questions]):
            language: Language = "ru" if random.random() < RUSSIAN_SHARE else "en"
            if len(asked) > 1 and random.random() < BOTH_SHARE:
                other = asked[index - 1]
                gold = (number, other[0])
                question, answer = ask_and_answer_both(described, other[1], gold, random)
                samples.append(Sample(question, contexts, answer, gold, split, "en", page))
            else:
                question, answer = ask_and_answer(described, number, random, russian=language == "ru")
                samples.append(Sample(question, contexts, answer, (number,), split, language, page))
        return samples

    def _neighbours(self, point: Point, split: Split) -> list[Chunk]:
        """Chunks that search finds near ``point``, best first. Training sees nothing that is held back."""
        hits = self._reader.search(point.dense, point.sparse, NEIGHBOURS, SearchFilter()).hits
        near = [
            Chunk(hit.path, hit.language, hit.symbol, hit.line_start, hit.line_end, hit.text, hit.repo, "")
            for hit in hits
        ]
        return [chunk for chunk in near if split != "train" or self._split(chunk) == "train"]

    def _held_out(self, chunk: Chunk) -> bool:
        return not self._options.hold_out.isdisjoint({chunk.repo, chunk.path.split("/", 1)[0]})

    def _split(self, chunk: Chunk) -> Split:
        if self._held_out(chunk):
            return "package"
        # By name, so that an override in another class is held back with what it overrides.
        return "symbol" if sha256(_short_name(chunk).encode()).digest()[0] < 26 else "train"  # one in ten


def shorten(chunk: Chunk, budget: int, count_tokens: CountTokens) -> Chunk | None:
    """The first whole lines of ``chunk`` within ``budget`` tokens, or None if not even the first one fits."""
    kept: list[str] = []
    used = 0
    for line in chunk.text.removesuffix("\n").split("\n"):  # not splitlines(), which also splits at form feeds
        used += count_tokens(line + "\n")
        if used > budget:
            break
        kept.append(line)
    text = "\n".join(kept)
    return replace(chunk, text=text, line_end=chunk.line_start + len(kept) - 1) if text.strip() else None


def _short_name(chunk: Chunk) -> str:
    return chunk.symbol.rsplit(".", 1)[-1]


def _place(chunk: Chunk) -> tuple[str, int]:
    return (chunk.path, chunk.line_start)


def describe_dataset(samples: Sequence[Sample]) -> dict[str, float]:
    """Facts worth logging, as numbers."""
    return {
        "samples": float(len(samples)),
        "pages": float(len({(sample.split, sample.page) for sample in samples})),
        "russian_share": sum(sample.language == "ru" for sample in samples) / max(len(samples), 1),
        "contexts_mean": sum(len(sample.contexts) for sample in samples) / max(len(samples), 1),
        "two_citations_share": sum(len(sample.gold) > 1 for sample in samples) / max(len(samples), 1),
    }


__all__ = [
    "Dataset", "DatasetOptions", "Sample", "Split", "TooLittleToLearnFrom", "build_dataset", "describe_dataset",
    "shorten",
]  # fmt: skip
