"""Words of code and questions: for the lexical search and for the embedder."""

import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest

from slipstream.ensemble.retrieval.question import question_for_embedder, stem_weights
from slipstream.ensemble.retrieval.words import spoken, stems, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("get_userName", ["get_username", "get", "user", "name"]),
        ("HTTPResponse", ["httpresponse", "http", "response"]),
        ("parseHTTPResponse2", ["parsehttpresponse2", "parse", "http", "response", "2"]),
        ("__init__", ["init"]),
        ("MAX_RETRIES", ["max_retries", "max", "retries"]),
        ("IOError", ["ioerror", "io", "error"]),
        ("aB", ["ab", "a", "b"]),
        ("self.retry_budget(404)", ["self", "retry_budget", "retry", "budget", "404"]),
        ("Где проверяется бюджетПовторов?", ["где", "проверяется", "бюджетповторов", "бюджет", "повторов"]),
        ("naïve 名前", ["naïve", "名前"]),
        ("x += 1", ["x", "1"]),
        ("", []),
        ("_ __ -> {}", []),
        ("a" * 129, []),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_composed_and_decomposed_letters_are_the_same_word() -> None:
    assert terms(unicodedata.normalize("NFD", "Ёлка йод")) == terms("Ёлка йод") == ["ёлка", "йод"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where are the handlers registered?", ["handler", "regist"]),
        ("if not cached", ["if", "not", "cach"]),
        ("где обработчики?", ["где", "обработчик"]),
        ("of the and", []),
    ],
)
def test_stems(text: str, expected: list[str]) -> None:
    assert stems(text) == expected


def test_stems_are_the_same_in_every_thread() -> None:
    texts = [f"handlers{number} registering caches" for number in range(500)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(stems, texts)) == [stems(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("self._addHTTPHandler(request)", "self add HTTP Handler request "),
        ("get_user_name", "get user name"),
        ("a = b[0] + 1", "a   b 0    1"),
        ("Как работает HTTPRetry?", "Как работает HTTP Retry "),
        ("!?", " "),
        ("", ""),
    ],
)
def test_the_embedder_reads_words(text: str, expected: str) -> None:
    assert spoken(text) == expected


def test_the_embedder_reads_a_russian_question_in_english() -> None:
    assert question_for_embedder("Где обработчик ошибок по умолчанию?").split() == [
        "where",
        "error",
        "handler",
        "by",
        "default",
    ]


def test_an_english_question_keeps_its_words() -> None:
    assert question_for_embedder("Where is add_middleware?") == "Where is add middleware "


def test_other_equivalents_weigh_less() -> None:
    weights = stem_weights("запрос")
    assert weights["request"] == weights["запрос"] == 1.0
    assert 0 < weights["queri"] < 1
    assert stem_weights("запрос query")["queri"] == 1.0
