"""Terms and weights of the lexical half of the search."""

import subprocess
import sys
import unicodedata

import pytest

from slipstream.ensemble.retrieval.bm25 import AVERAGE_TERMS, encode_document, encode_query, term_id, terms


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


def test_a_term_has_the_same_id_in_every_process() -> None:
    code = "from slipstream.ensemble.retrieval.bm25 import term_id; print(term_id('retry'))"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(fresh.stdout) == term_id("retry") == 342800722
    assert 0 <= term_id("бюджет") < 2**32


def test_a_document_weighs_terms_by_bm25() -> None:
    text = "alpha alpha beta"
    vector = dict(zip(encode_document(text).indices, encode_document(text).values, strict=True))
    norm = 1.2 * (1 - 0.75 + 0.75 * 3 / AVERAGE_TERMS)
    assert vector == pytest.approx({term_id("alpha"): 2 * 2.2 / (2 + norm), term_id("beta"): 2.2 / (1 + norm)})


def test_frequency_saturates_and_length_costs() -> None:
    def weight(text: str) -> float:
        vector = encode_document(text)
        return vector.values[vector.indices.index(term_id("alpha"))]

    assert weight("alpha") < weight("alpha alpha") < 2.2
    assert weight("alpha " + "other " * 500) < weight("alpha other")


def test_a_query_names_each_term_once() -> None:
    vector = encode_query("retry Retry RETRY budget")
    assert vector.indices == sorted({term_id("retry"), term_id("budget")})
    assert vector.values == [1.0, 1.0]


@pytest.mark.parametrize("text", ["", "!!! ???", "\x00\x01"])
def test_a_text_without_words_is_an_empty_vector(text: str) -> None:
    assert encode_query(text).indices == encode_document(text).indices == []


def test_a_lone_surrogate_is_no_error() -> None:
    assert encode_document("caf\udce9").indices == encode_query("caf\udce9").indices != []
