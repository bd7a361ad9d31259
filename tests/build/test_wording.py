"""What a chunk says about its symbol, and what the training set makes of it."""

from random import Random

import pytest

from slipstream.build.training.wording import (
    ask_and_answer,
    ask_and_answer_both,
    clean_sentence,
    describe,
    infinitive,
    supports,
    third_person,
)
from slipstream.ensemble.citations import cited_numbers
from slipstream.ensemble.retrieval.store import Chunk


def chunk(text: str, symbol: str, language: str = "python") -> Chunk:
    return Chunk("pkg/mod.py", language, symbol, 10, 10 + text.count("\n"), text, "pkg", "")


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("def f(:\n    broken", "f"),
        ("x = 1", ""),
        ("def f():\n    pass", "f"),
        ("def g(a):\n    '''Return a thing of it.'''", "f"),
        ("def f(a, b, c, d, e):\n    pass", "f"),
        ("def __init__(self, a):\n    '''Make the thing ready.'''", "Thing.__init__"),
        ("def f():\n    '''>>> f()\n    1'''", "f"),
        ("def f():\n    '''Short.'''", "f"),
        ("def f():\n    '''" + "word " * 40 + "'''", "f"),
        ("def f():\n    '''Items are [1] and {2} here.'''", "f"),
        ("fn f() {}", "f"),
    ],
)
def test_nothing_is_said_where_a_chunk_says_nothing_that_can_be_repeated(text: str, symbol: str) -> None:
    assert describe(chunk(text, symbol, "rust" if text.startswith("fn") else "python")) is None


@pytest.mark.parametrize(
    ("text", "language", "symbol", "kind", "phrase"),
    [
        ("def f():\n    '''Return the URL of it. More.'''", "python", "f", "does", "returns the URL of it"),
        ("    def f(self):\n        '''Applies e.g. a filter\n    to it.'''", "python", "A.f", "does",
         "applies e.g. a filter to it"),
        ("class A:\n    '''The base class of everything.'''", "python", "A", "is", "the base class of everything"),
        ("def f():\n    '''Everything is awaited here.'''", "python", "f", "says", "Everything is awaited here"),
        ("async def f(self, a: int, *, b) -> str: ...", "python", "A.f", "takes", "`a` and `b` and returns `str`"),
        ("/// Sends one frame over.\nfn f() {}", "rust", "f", "does", "sends one frame over"),
        ("/**\n * Closes the stream at once.\n */\nvoid f();", "java", "f", "does", "closes the stream at once"),
    ],
)  # fmt: skip
def test_the_first_sentence_of_the_documentation_becomes_a_phrase(
    text: str, language: str, symbol: str, kind: str, phrase: str
) -> None:
    described = describe(chunk(text, symbol, language))
    assert described is not None
    assert (described.kind, described.phrase) == (kind, phrase)


def test_a_chunk_cut_before_its_documentation_supports_nothing() -> None:
    text = "def f(a):\n    '''Return the URL\n    of it.'''\n    return a"
    described = describe(chunk(text, "f"))
    assert described is not None
    assert supports("def f(a):\n    '''Return the URL\n    of it.'''", described)
    assert not supports("def f(a):\n    '''Return the URL", described)


@pytest.mark.parametrize("russian", [False, True])
def test_every_answer_cites_the_context_it_was_made_from(russian: bool) -> None:
    texts = ("'''Return the URL of it.'''", "'''The base of it all.'''", "'''Everything waits here.'''", "pass")
    random = Random(1)  # noqa: S311
    for text in texts:
        described = describe(chunk(f"def f(a, b):\n    {text}", "A.f"))
        assert described is not None
        for _ in range(60):
            question, answer = ask_and_answer(described, 3, random, russian=russian)
            assert cited_numbers(answer) == [3]
            assert "{" not in question + answer
            assert any("а" <= letter <= "я" for letter in question) is russian


def test_an_answer_about_two_symbols_cites_each_for_its_own_sentence() -> None:
    one, other = (describe(chunk(f"def {name}():\n    '''Return the {name} of it.'''", name)) for name in "fg")
    assert one is not None
    assert other is not None
    question, answer = ask_and_answer_both(one, other, (4, 2), Random(1))  # noqa: S311
    assert "f" in question
    assert "g" in question
    assert answer == "`f` returns the f of it [4]. `g` returns the g of it [2]."


@pytest.mark.parametrize(("verb", "third"), [("apply", "applies"), ("fetch", "fetches"), ("return", "returns")])
def test_verbs_go_to_the_third_person_and_back(verb: str, third: str) -> None:
    assert third_person(verb) == third
    assert infinitive(f"{third} it") == f"{verb} it"


def test_markup_goes_and_what_is_no_prose_is_refused() -> None:
    assert clean_sentence("Wraps :class:`~pkg.Thing` in ``it``.") == "Wraps `pkg.Thing` in `it`"
    assert clean_sentence("Parameters are these:") == ""
