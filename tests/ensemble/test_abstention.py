"""What is said where nothing was found."""

from time import process_time

import pytest

from slipstream.ensemble.abstention import is_found, is_russian, not_found
from slipstream.ensemble.citations import cited_numbers
from slipstream.ensemble.contracts import Hit, SearchResult


def hit(path: str, line: int = 1, score: float = 0.3) -> Hit:
    return Hit(
        path=path, line_start=line, line_end=line + 9, symbol="f", repo="r", language="python", score=score, text="x"
    )


def result(*hits: Hit, confidence: float = 0.1) -> SearchResult:
    return SearchResult(hits=list(hits), collection="code", index_version="7", confidence=confidence)


@pytest.mark.parametrize(
    ("question", "russian"),
    [
        ("", False),
        ("?!", False),
        ("123", False),
        ("where is it?", False),
        ("где это?", True),
        ("Как add_middleware регистрирует middleware?", True),
        ("Что делает FastAPI.add_middleware?", True),
        ("Зачем?", True),
        ("Where is the word `привет` printed?", False),
        ('Where is "Привет, мир" printed by the server?', False),
        ("Де знаходиться обробка помилок у їхньому коді?", False),  # Ukrainian
        ("这个函数在哪里?", False),
        ("`где`", True),
        ("Где в коде CORS headers middleware?", True),
    ],
)
def test_the_language_is_that_of_the_question_around_its_names(question: str, russian: bool) -> None:
    assert is_russian(question) is russian


def test_it_says_so_and_where_it_looked() -> None:
    found = result(hit("b.py", 5), hit("b.py", 50), hit("a/c.py", 7), hit("d.py"), hit("e.py"))
    assert not_found("Where is the ORM?", found) == (
        "I did not find this in the indexed code. I searched the collection `code`; "
        "the nearest places, probably unrelated, are `b.py:5`, `a/c.py:7`, `d.py:1`."
    )
    assert not_found("Где тут ORM?", found) == (
        "В проиндексированном коде этого не нашлось. Поиск шёл по коллекции `code`; "
        "ближайшие места, скорее всего о другом: `b.py:5`, `a/c.py:7`, `d.py:1`."
    )


def test_the_best_place_is_named_first_also_where_its_file_has_a_worse_one() -> None:
    found = result(hit("a.py", 3), hit("b.py"), hit("c.py"), hit("d.py"), hit("a.py", 50))
    assert "are `a.py:3`, `b.py:1`, `c.py:1`." in not_found("Where?", found)


def test_quotation_marks_that_nothing_closes_are_passed_over_once() -> None:
    started = process_time()
    assert is_russian("«“" * 50_000 + "где это?")
    assert process_time() - started < 1


def test_with_nothing_near_it_names_nothing() -> None:
    assert not_found("Where?", result()) == (
        "I did not find this in the indexed code. I searched the collection `code`."
    )


@pytest.mark.parametrize("path", ["app/[1]/page.tsx", "[2].py", "a`[1]`.py", "a\n[1].py"])
def test_no_path_can_look_like_a_citation(path: str) -> None:
    assert cited_numbers(not_found("Where?", result(hit(path)))) == []


def test_however_sure_a_search_is_nothing_is_no_find() -> None:
    assert not is_found(result(confidence=1.0), 0.5)


@pytest.mark.parametrize("least", [0.0, 0.2, 1.0])
def test_zero_declines_nothing(least: float) -> None:
    assert is_found(result(confidence=0.0), least) is (least == 0)
    assert is_found(result(hit("a.py"), confidence=0.2), least) is (least <= 0.2)
