"""A suite as one collection: copies without the documentation that is asked for, and queries with answers in it."""

from pathlib import Path
from typing import Any

import pytest

from slipstream.ensemble.retrieval.evaluation.collection import Collection, assemble
from slipstream.ensemble.retrieval.evaluation.corpora import fetch_corpora
from slipstream.ensemble.retrieval.evaluation.suite import SuiteInvalid, load_suite
from tests.ensemble.retrieval.evaluation.suites import CART, QUESTIONS, question, write_lines, write_suite


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return write_suite(tmp_path)


def made(suite: Path, *, corpora: slice = slice(None)) -> Collection:
    everything = load_suite(suite)
    narrowed = everything.model_copy(update={"corpora": everything.corpora[corpora]})
    sources = fetch_corpora(narrowed, suite, suite, lambda share, doing: None)
    return assemble(narrowed, everything, suite, sources, suite / "into", lambda share, doing: None)


# What a question cannot say


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (question("x", "shop/cart.py", 1, 9), "has 8 lines"),
        (question("x", "shop/cart.py", 5, 5), "holds nothing"),
        (question("x", "shop/basket.py", 1, 1), "no file shop/basket.py"),
        (question("x", "post/tests/more.go", 4, 6), "no file post/tests/more.go"),
        (question("x", "cart.py", 1, 1, package="shop"), "no file cart.py"),
        (question("x", "mail/send.go", 1, 1), "no corpus is called 'mail'"),
        (question("x", "shop/cart.py", 0, 1), "line_start"),
        (question("x", "shop/cart.py", 3, 2), "line_end is before"),
        (question("x", "shop/cart.py", 1, 2, language="de"), "language"),
        (question("x", "shop/cart.py", 1, 2, text="  "), "text"),
        (question("x", "shop/cart.py", 1, 2, answers=[]), "answers"),
        (question("x", "shop/cart.py", 1, 2, pair="y"), "its pair 'y'"),
        (question("x", "shop/cart.py", 1, 2, pair="x"), "its pair 'x'"),
        (question("post-1", "shop/cart.py", 1, 2), "two questions 'post-1'"),
        (question("x", "shop/cart.py", 1, 2, answer=[]), "answer"),
    ],
)
def test_a_wrong_question_is_told_with_its_line(line: dict[str, Any], says: str, suite: Path) -> None:
    write_lines(suite / "questions.jsonl", [*QUESTIONS, line])
    with pytest.raises(SuiteInvalid, match=r"questions\.jsonl:4: ") as refused:
        made(suite)
    assert says in refused.value.message


@pytest.mark.parametrize("text", [b"{\n", b"[]\n", b"1\n", b"\xff\n", b"[" * 100_000])
@pytest.mark.parametrize("file", ["questions.jsonl", "unanswerable.jsonl"])
def test_a_line_that_is_no_question_is_told(text: bytes, file: str, suite: Path) -> None:
    (suite / file).write_bytes(text)
    with pytest.raises(SuiteInvalid, match=file):
        made(suite)


def test_a_folder_without_sources_is_told(suite: Path) -> None:
    (suite.parent / "shop" / "cart.py").unlink()
    with pytest.raises(SuiteInvalid, match="shop holds no source"):
        made(suite)


# What is indexed


def test_paths_begin_with_the_name_of_the_corpus_and_not_with_its_folder(suite: Path) -> None:
    assert {chunk.path for chunk in made(suite).chunks} == {"shop/cart.py", "post/send.go", "post/old.py"}


def test_documentation_that_is_asked_for_is_gone_where_it_is_indexed_and_stays_where_it_came_from(suite: Path) -> None:
    collection = made(suite)
    asked = {query.id: query for query in collection.queries if query.kind == "docstring"}
    assert asked["shop/cart.py:Cart.total"].text == "Add up the price of everything"
    assert asked["post/send.go:Send"].text == "delivers one letter to its reader"
    assert asked["post/send.go:Send"].split == "test"
    text = "\n".join(chunk.text for chunk in collection.chunks)
    assert "price of everything" not in text
    assert "to its reader" not in text
    assert (suite.parent / "shop" / "cart.py").read_text() == CART


def test_every_answer_overlaps_a_chunk_of_its_file(suite: Path) -> None:
    collection = made(suite)
    for query in collection.queries:
        for answer in query.answers:
            assert any(
                chunk.path == answer.path
                and chunk.line_start <= answer.line_end
                and answer.line_start <= chunk.line_end
                for chunk in collection.chunks
            )


def test_documentation_that_answers_a_written_question_stays(suite: Path) -> None:
    write_lines(suite / "questions.jsonl", [question("x", "shop/cart.py", 7, 7)])
    collection = made(suite)
    assert "price of everything" in "\n".join(chunk.text for chunk in collection.chunks)
    assert "shop/cart.py:Cart.total" not in {query.id for query in collection.queries}


def test_one_corpus_alone_keeps_its_name_in_the_questions(suite: Path) -> None:
    """An index of one root has no prefixes; what the corpora left out are asked about is left out too."""
    collection = made(suite, corpora=slice(0, 1))
    assert {chunk.path for chunk in collection.chunks} == {"cart.py"}
    assert collection.prefix == "shop/"
    assert {query.id for query in collection.queries if query.kind == "question"} == {"cart-1", "cart-1-ru"}


def test_the_same_suite_gives_the_same_queries_and_chunks(suite: Path) -> None:
    first, second = made(suite), made(suite)
    assert first.queries == second.queries
    assert first.chunks == second.chunks


def test_a_suite_needs_no_questions(suite: Path) -> None:
    (suite / "questions.jsonl").unlink()
    (suite / "unanswerable.jsonl").unlink()
    assert {query.kind for query in made(suite).queries} == {"docstring"}
