"""The training set from a real collection: repeatable, cited, and without a leak from what is held back."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from hashlib import sha256

import pytest

from slipstream.build.training.dataset import (
    QUESTIONS_PER_PAGE,
    Dataset,
    DatasetOptions,
    Sample,
    TooLittleToLearnFrom,
    build_dataset,
    shorten,
)
from slipstream.ensemble.citations import cited_numbers
from slipstream.ensemble.retrieval.store import Chunk, Reader
from slipstream.ensemble.retrieval.stores import open_store
from tests.build.library import COLLECTION, index_library

OPTIONS = DatasetOptions(pages=40, held_back=24, hold_out=frozenset({"mill"}), context_tokens=400)


def count_words(text: str) -> int:
    return len(text.split())


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    settings = index_library(tmp_path_factory.mktemp("home"))
    with closing(open_store(settings).reader(COLLECTION)) as opened:
        yield opened


@pytest.fixture(scope="module")
def dataset(reader: Reader) -> Dataset:
    return build_dataset(reader, count_words, OPTIONS)


def symbols(sample: Sample) -> set[str]:
    return {chunk.symbol for chunk in sample.contexts if isinstance(chunk, Chunk)}


def test_training_never_shows_a_held_out_package(dataset: Dataset) -> None:
    shown = {context.path.split("/")[0] for sample in dataset.train for context in sample.contexts}
    assert shown == {"harbor", "orchard"}
    assert {sample.split for sample in dataset.train} == {"train"}


def test_training_never_shows_a_held_back_symbol_not_even_as_a_neighbour(dataset: Dataset) -> None:
    asked = {
        sample.contexts[number - 1].path + symbol
        for sample in dataset.held_back
        if sample.split == "symbol"
        for number in sample.gold[:1]
        if isinstance(chunk := sample.contexts[number - 1], Chunk) and (symbol := chunk.symbol)
    }
    shown = {
        chunk.path + chunk.symbol for sample in dataset.train for chunk in sample.contexts if isinstance(chunk, Chunk)
    }
    assert asked
    assert not asked & shown


def test_held_back_questions_are_about_unseen_packages_and_unseen_symbols(dataset: Dataset) -> None:
    assert Counter(sample.split for sample in dataset.held_back) == {"package": 16, "symbol": 8}
    for sample in dataset.held_back:
        if sample.split == "package":
            assert sample.contexts[sample.gold[0] - 1].path.startswith("mill/")


def test_a_hold_out_that_takes_everything_is_told(reader: Reader) -> None:
    with pytest.raises(TooLittleToLearnFrom, match="0 pages of 40") as caught:
        build_dataset(reader, count_words, replace(OPTIONS, hold_out=frozenset({"harbor", "mill", "orchard"})))
    assert "index more" in caught.value.remedy


def test_the_same_collection_and_seed_give_the_same_samples(reader: Reader, dataset: Dataset) -> None:
    again = build_dataset(reader, count_words, OPTIONS)
    assert again == dataset
    assert again.digest == dataset.digest
    assert build_dataset(reader, count_words, replace(OPTIONS, seed=8)).digest != dataset.digest


def test_every_answer_cites_contexts_that_hold_what_it_says(dataset: Dataset) -> None:
    for sample in (*dataset.train, *dataset.held_back):
        assert cited_numbers(sample.answer) == list(sample.gold)
        for number in sample.gold:
            name = sample.contexts[number - 1].text.split("def ", 1)[1].split("(", 1)[0]
            assert name in sample.answer


def test_no_name_stands_twice_on_a_page(dataset: Dataset) -> None:
    for sample in (*dataset.train, *dataset.held_back):
        assert len(symbols(sample)) == len(sample.contexts)


def test_pages_fit_their_budget_and_ask_about_several_contexts(dataset: Dataset) -> None:
    pages: dict[int, list[Sample]] = {}
    for sample in dataset.train:
        pages.setdefault(sample.page, []).append(sample)
        assert sum(count_words(context.text) for context in sample.contexts) <= OPTIONS.context_tokens
    assert len(pages) == OPTIONS.pages
    assert max(map(len, pages.values())) == QUESTIONS_PER_PAGE
    for samples in pages.values():
        assert {sample.contexts for sample in samples} == {samples[0].contexts}


def test_no_position_is_right_by_habit(dataset: Dataset) -> None:
    first = Counter(sample.gold[0] for sample in dataset.held_back)
    assert max(first.values()) / len(dataset.held_back) < 0.6


def test_a_shortened_chunk_is_whole_lines_and_says_which() -> None:
    text = "def f():\n    a\x0cb\n    c d e f\n"
    chunk = Chunk("p.py", "python", "f", 5, 7, text, "p", sha256(text.encode()).hexdigest())
    assert shorten(chunk, 4, count_words) == replace(chunk, text="def f():\n    a\x0cb", line_end=6)
    assert shorten(chunk, 100, count_words) == replace(chunk, text=text.removesuffix("\n"))
    assert shorten(chunk, 1, count_words) is None
