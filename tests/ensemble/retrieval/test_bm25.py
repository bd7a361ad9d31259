"""Weights of the lexical half of the search."""

import subprocess
import sys

import pytest

from slipstream.ensemble.retrieval.bm25 import AVERAGE_TERMS, PATH, SYMBOL, encode_document, encode_query, term_id
from slipstream.ensemble.retrieval.store import Chunk


def of(text: str, symbol: str = "", path: str = "") -> Chunk:
    return Chunk(path, "python", symbol, 1, 1, text, "repo", "digest")


def test_a_term_has_the_same_id_in_every_process() -> None:
    code = "from slipstream.ensemble.retrieval.bm25 import term_id; print(term_id('retry'))"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(fresh.stdout) == term_id("retry") == 342800722
    assert 0 <= term_id("бюджет") < 2**32


def test_a_document_weighs_terms_by_bm25() -> None:
    text = "alpha alpha beta"
    vector = dict(zip(encode_document(of(text)).indices, encode_document(of(text)).values, strict=True))
    norm = 1.2 * (1 - 0.75 + 0.75 * 3 / AVERAGE_TERMS)
    assert vector == pytest.approx({term_id("alpha"): 2 * 2.2 / (2 + norm), term_id("beta"): 2.2 / (1 + norm)})


def test_frequency_saturates_and_length_costs() -> None:
    def weight(text: str) -> float:
        vector = encode_document(of(text))
        return vector.values[vector.indices.index(term_id("alpha"))]

    assert weight("alpha") < weight("alpha alpha") < 2.2
    assert weight("alpha " + "other " * 500) < weight("alpha other")


def test_the_name_of_a_definition_weighs_more_than_its_text_and_its_path_as_much() -> None:
    vector = encode_document(of("alpha", symbol="Beta", path="gamma/delta.py"))
    norm = 1.2 * (1 - 0.75 + 0.75 * (1 + SYMBOL + 2 * PATH) / AVERAGE_TERMS)
    weights = dict(zip(vector.indices, vector.values, strict=True))
    assert weights == pytest.approx(
        {
            term_id("alpha"): 2.2 / (1 + norm),
            term_id("beta"): SYMBOL * 2.2 / (SYMBOL + norm),
            term_id("gamma"): PATH * 2.2 / (PATH + norm),
            term_id("delta"): PATH * 2.2 / (PATH + norm),
        }
    )


def test_a_question_finds_words_by_their_stems() -> None:
    assert set(encode_query("Where are retries registered?").indices) <= set(
        encode_document(of("def register(retry): ...")).indices
    )


def test_a_question_in_russian_finds_english_words_and_those_it_was_asked_in() -> None:
    asked = encode_query("Где обработчик ошибок?")
    found = set(asked.indices)
    assert found & set(encode_document(of("def error_handler(): ...")).indices)
    assert found & set(encode_document(of("# обработчики ошибки")).indices)


def test_a_query_names_each_term_once() -> None:
    vector = encode_query("retry Retry RETRY budget")
    assert vector.indices == sorted({term_id("retri"), term_id("budget")})
    assert vector.values == [1.0, 1.0]


@pytest.mark.parametrize("text", ["", "!!! ???", "\x00\x01"])
def test_a_text_without_words_is_an_empty_vector(text: str) -> None:
    assert encode_query(text).indices == encode_document(of(text)).indices == []


def test_a_lone_surrogate_is_no_error() -> None:
    assert encode_document(of("caf\udce9")).indices == encode_query("caf\udce9").indices != []
