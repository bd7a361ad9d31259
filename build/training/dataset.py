"""The training set: questions about an indexed code base, numbered contexts, answers that cite them.

Every sample is made from a chunk that says something about its symbol (`slipstream.build.training.wording`). Its
context holds that chunk at a uniformly random position among chunks that the collection's own hybrid search finds near
it: the company that it will keep when it is served.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from random import Random
from typing import Literal

from slipstream import InputError
from slipstream.build.training.wording import Described, ask_and_answer, ask_and_answer_both, describe, supports
from slipstream.ensemble.contracts import SearchFilter
from slipstream.ensemble.prompt import Context, Message, render_messages
from slipstream.ensemble.retrieval.store import Chunk, Point, Reader

CountTokens = Callable[[str], int]

RUSSIAN_SHARE = 0.15
BOTH_SHARE = 0.12
"""Share of samples that ask for two symbols and need two citations."""
SIGNATURE_SHARE = 0.2
"""Largest share of answers that repeat a signature: code without documentation is plentiful and says less."""
CONTEXT_COUNTS = (2, 6)
NEIGHBOURS = 12


class TooLittleToLearnFrom(InputError):
    """The collection documents too few symbols for the training set that was asked for."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A question with its contexts, the answer to learn, and the numbers (1-based) of the contexts that support it.

    ``split`` says what the model has not seen in training: nothing (train), the symbol, or the whole package.
    """

    question: str
    contexts: tuple[Context, ...]
    answer: str
    gold: tuple[int, ...]
    split: Literal["train", "symbol", "package"]

    @property
    def messages(self) -> list[Message]:
        return render_messages(self.question, self.contexts)


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """How much to make and what to keep back.

    Attributes:
        hold_out: packages (a chunk's ``repo``, or the first part of its path) that training never shows.
        context_tokens: what all contexts of a sample may fill; a step's cost grows with it.
    """

    train: int = 360
    held_back: int = 120
    hold_out: frozenset[str] = frozenset()
    context_tokens: int = 260
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
    train = maker.make("train", options.train)
    unseen_package = maker.make("package", options.held_back * 2 // 3) if options.hold_out else []
    unseen_symbol = maker.make("symbol", options.held_back - len(unseen_package))
    return Dataset(train, unseen_package + unseen_symbol)


class _SampleMaker:
    """The described chunks of one collection, and the dice."""

    def __init__(self, reader: Reader, count_tokens: CountTokens, options: DatasetOptions) -> None:
        self._reader, self._count, self._options = reader, count_tokens, options
        points = sorted(reader.scroll(with_vectors=True), key=lambda point: _place(point.chunk))
        found = ((point, describe(point.chunk)) for point in points)
        self._described = [(point, described) for point, described in found if described is not None]
        self._by_place = {_place(described.chunk): described for _, described in self._described}

    def make(self, split: Literal["train", "symbol", "package"], count: int) -> list[Sample]:
        random = Random(f"{self._options.seed}/{split}")  # noqa: S311
        pool = [pair for pair in self._described if self._split(pair[0].chunk) == split]
        random.shuffle(pool)
        samples: list[Sample] = []
        signatures = 0
        for point, described in pool:
            if len(samples) == count:
                break
            if described.kind == "takes" and signatures >= SIGNATURE_SHARE * count:
                continue
            sample = self._sample(point, described, split, random)
            if sample is not None:
                samples.append(sample)
                signatures += described.kind == "takes"
        if len(samples) < count:
            raise TooLittleToLearnFrom(
                f"{len(samples)} samples of {count} can be made for the split {split!r}",
                "index more documented code, or ask for fewer samples",
            )
        return samples

    def _sample(
        self, point: Point, described: Described, split: Literal["train", "symbol", "package"], random: Random
    ) -> Sample | None:
        """None when the evidence does not fit the budget or the chunk has too few neighbours."""
        total = random.randint(*CONTEXT_COUNTS)
        budget = self._options.context_tokens // total
        gold = shorten(point.chunk, max(budget, 90), self._count)
        neighbours = self._neighbours(point, split)
        if gold is None or not supports(gold.text, described) or len(neighbours) < total - 1:
            return None
        second = self._second(neighbours, budget) if random.random() < BOTH_SHARE else None
        chosen = [gold] if second is None else [gold, second[1]]
        taken = {_place(chunk) for chunk in chosen}
        others = [shorten(chunk, budget, self._count) for chunk in neighbours if _place(chunk) not in taken]
        contexts = [*chosen, *(chunk for chunk in others if chunk is not None)][:total]
        random.shuffle(contexts)
        numbers = tuple(contexts.index(chunk) + 1 for chunk in chosen)
        if second is None:
            russian = random.random() < RUSSIAN_SHARE
            question, answer = ask_and_answer(described, numbers[0], random, russian=russian)
        else:
            question, answer = ask_and_answer_both(described, second[0], (numbers[0], numbers[1]), random)
        return Sample(question, tuple(contexts), answer, numbers, split)

    def _neighbours(self, point: Point, split: str) -> list[Chunk]:
        """Chunks that search finds near ``point``, best first; none of its symbol, none across the hold-out."""
        hits = self._reader.search(point.dense, point.sparse, NEIGHBOURS, SearchFilter())
        near = [
            Chunk(hit.path, hit.language, hit.symbol, hit.line_start, hit.line_end, hit.text, hit.repo, "")
            for hit in hits
        ]
        name = point.chunk.symbol.rsplit(".", 1)[-1]
        return [
            chunk
            for chunk in near
            if _place(chunk) != _place(point.chunk)
            and chunk.symbol.rsplit(".", 1)[-1] != name
            and (split == "package" or not self._held_out(chunk))
        ]

    def _second(self, neighbours: Iterable[Chunk], budget: int) -> tuple[Described, Chunk] | None:
        """The nearest neighbour that can be asked for as well, shortened."""
        for chunk in neighbours:
            described = self._by_place.get(_place(chunk))
            short = shorten(chunk, max(budget, 90), self._count)
            if described and described.kind != "takes" and short and supports(short.text, described):
                return described, short
        return None

    def _held_out(self, chunk: Chunk) -> bool:
        return not self._options.hold_out.isdisjoint({chunk.repo, chunk.path.split("/", 1)[0]})

    def _split(self, chunk: Chunk) -> str:
        if self._held_out(chunk):
            return "package"
        # By name, so that an override in another class is held back with what it overrides.
        name = chunk.symbol.rsplit(".", 1)[-1]
        return "symbol" if sha256(name.encode()).digest()[0] < 26 else "train"  # one in ten


def shorten(chunk: Chunk, budget: int, count_tokens: CountTokens) -> Chunk | None:
    """The first whole lines of ``chunk`` within ``budget`` tokens, or None if not even the first one fits."""
    kept: list[str] = []
    used = 0
    for line in chunk.text.splitlines(keepends=True):
        used += count_tokens(line)
        if used > budget:
            break
        kept.append(line)
    if not "".join(kept).strip():
        return None
    return replace(chunk, text="".join(kept), line_end=chunk.line_start + len(kept) - 1)


def _place(chunk: Chunk) -> tuple[str, int]:
    return (chunk.path, chunk.line_start)


def describe_dataset(samples: Sequence[Sample]) -> dict[str, float]:
    """Facts worth logging: how many, how many contexts, how many with two citations."""
    return {
        "samples": float(len(samples)),
        "contexts_mean": sum(len(sample.contexts) for sample in samples) / max(len(samples), 1),
        "two_citations_share": sum(len(sample.gold) > 1 for sample in samples) / max(len(samples), 1),
    }


__all__ = [
    "Dataset", "DatasetOptions", "Sample", "TooLittleToLearnFrom", "build_dataset", "describe_dataset", "shorten",
]  # fmt: skip
