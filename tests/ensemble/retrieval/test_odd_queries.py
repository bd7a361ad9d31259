"""Queries that are no questions: nothing is found for them, or what is right, and soon."""

import random
import time
from collections.abc import Iterable, Iterator
from contextlib import closing

import numpy as np
import pytest

from slipstream.ensemble.contracts import SearchRequest, SearchResult
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.errors import CollectionNotFound
from slipstream.ensemble.retrieval.question import question_for_embedder
from slipstream.ensemble.retrieval.search import Searcher
from tests.ensemble.retrieval.corpus import EMBEDDER, dense, paths, point, publish

MEANING = "the vector of every chunk"
LONGEST = 16_384  # characters that the API takes

WORDLESS = {
    "one mark": "?",
    "punctuation": "?!... --- ;;; ((( == != -> **",
    "underscores": "_ __ ___",
    "spaces without width": "\u200b\u200b\ufeff",
    "from right to left": "\u202e\u2067\u2069\u202c",
    "control characters": "\x00\x01\x07\x1b",
    "marks that belong on letters": "\u0301" * 400,
    "emoji": "🔥👩\u200d💻🇷🇺👍🏽",
    "one word without end": "x" * 16_000,
    "a lone surrogate": "\ud800",
}
IN_OTHER_SCRIPTS = {
    "Chinese": ("中间件是怎么 注册的？", "# 中间件是怎么\nx = 1"),
    "Arabic": ("كيف يتم تسجيل البرمجيات؟", "# تسجيل\nx = 1"),
    "Hebrew": ("איך רושמים תווכה?", "# תווכה\nx = 1"),
    "Thai": ("ลงทะเบียนได้อย่างไร", "# ลงทะเบียน\nx = 1"),
    "Japanese, half width": ("ﾐﾄﾞﾙｳｪｱ", "# ミドルウェア\nx = 1"),
    "full width": ("ｍｉｄｄｌｅｗａｒｅ", "# middleware\nx = 1"),
    "composed": ("cafe\u0301", "# café\nx = 1"),
    "an override around it": ("\u202emiddleware\u202c", "# middleware\nx = 1"),
    "control characters around it": ("\x00\x07middleware\x1b\x7f", "# middleware\nx = 1"),
    "emoji around it": ("🔥middleware👩\u200d💻", "# middleware\nx = 1"),
}


def numbered(numbers: Iterable[int]) -> str:
    return " ".join(f"word{number:x}z" for number in numbers)


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    """Over one collection for all tests here, whose chunks all mean the same: words alone decide."""
    store = EdgeStore(tmp_path_factory.mktemp("index"))
    texts = {f"crowd/{number}.py": f"a w{number:x} = {number}" for number in range(50)}
    texts |= {f"{name}.py": text for name, (_, text) in IN_OTHER_SCRIPTS.items()}
    texts |= {"most.py": numbered(range(60)), "fewer.py": numbered([*range(5), *range(9_000, 9_008)])}
    publish(store, [point(path, text, word=MEANING) for path, text in texts.items()])
    with closing(Searcher(store, EMBEDDER)) as searcher:
        yield searcher


def ask(searcher: Searcher, query: str, collection: str = "code") -> SearchResult:
    request = SearchRequest.model_construct(query=query, collection=collection, limit=10)  # a lone surrogate too
    return searcher.search(request, dense(MEANING))


@pytest.mark.parametrize("query", WORDLESS.values(), ids=WORDLESS)
def test_a_query_without_a_word_finds_nothing_and_is_sure_of_nothing(searcher: Searcher, query: str) -> None:
    result = ask(searcher, query)
    assert (result.hits, result.confidence) == ([], 0.0)
    assert result.index_version


def test_a_query_without_a_word_still_needs_a_collection(searcher: Searcher) -> None:
    with pytest.raises(CollectionNotFound):
        ask(searcher, "?", collection="nothing")


@pytest.mark.parametrize("query", ["x", "what is it", "42", "ß", "名"])
def test_one_letter_and_function_words_alone_are_words(searcher: Searcher, query: str) -> None:
    assert len(ask(searcher, query).hits) == 10


@pytest.mark.parametrize(("query", "text"), IN_OTHER_SCRIPTS.values(), ids=IN_OTHER_SCRIPTS)
def test_words_of_other_scripts_find_the_comments_that_have_them(searcher: Searcher, query: str, text: str) -> None:
    result = ask(searcher, query)
    assert result.hits[0].text == text
    assert result.hits[0].score > min(hit.score for hit in result.hits)


def test_letters_of_full_width_are_plain_ones_to_the_embedder() -> None:
    assert question_for_embedder("ａｄｄＭｉｄｄｌｅｗａｒｅ（）") == "add Middleware "


def russian(length: int) -> str:
    """Words that no lexicon has."""
    letters, choose = "абвгдежзийклмнопрстуфхцчшщъыьэюя", random.Random(1)  # noqa: S311
    words = ("".join(choose.choices(letters, k=choose.randint(1, 9))) for _ in range(length))
    return " ".join(words)[:length]


AS_LONG_AS_MAY_BE = {
    "10,000 tokens": "a b " * (LONGEST // 4),
    "5,000 words": " ".join(f"w{number:x}" for number in range(5_000))[:LONGEST],
    "Russian words": " ".join(["как зарегистрировать обработчик ошибок промежуточного слоя"] * 300)[:LONGEST],
    "Russian that nobody knows": russian(LONGEST),
    "one Russian word": "щ" * LONGEST,
    "Russian with hyphens": "не-" * (LONGEST // 3),
    "negations": "не " * (LONGEST // 3),
    "two alphabets in a word": "aа" * (LONGEST // 2),
    "humps": "aB" * (LONGEST // 2),
    "Chinese": "中间件" * (LONGEST // 3),
    "ligatures of 18 letters": "\ufdfa" * LONGEST,
}


@pytest.mark.parametrize("query", AS_LONG_AS_MAY_BE.values(), ids=AS_LONG_AS_MAY_BE)
def test_the_longest_query_is_read_and_searched_in_a_second(searcher: Searcher, query: str) -> None:
    started = time.process_time()
    question_for_embedder(query)
    result = ask(searcher, query)
    assert time.process_time() - started < 5  # 0.7 at most where nothing else runs
    assert result.hits == sorted(result.hits, key=lambda hit: -hit.score)
    assert np.isfinite([hit.score for hit in result.hits]).all()


def test_of_two_thousand_words_the_chunk_that_has_most_comes_first(searcher: Searcher) -> None:
    assert paths(ask(searcher, numbered(range(2_000))).hits)[:2] == ["most.py", "fewer.py"]
