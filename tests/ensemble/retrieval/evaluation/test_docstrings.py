"""What documentation asks for, and sources that are the same without it."""

import ast

import pytest

from slipstream.ensemble.retrieval.evaluation.docstrings import Candidate, blanked, candidates, decoded, sampled
from slipstream.ensemble.retrieval.evaluation.sentences import first_sentence

PYTHON = '''\
"""The module says something about all of it."""


@cached
def price(items):
    """Add up what the items cost.

    Taxes are left out.
    """
    return sum(items)


class Empty(Exception):
    """Raised when there is nothing to add."""


def inline(): "Say something on one single line."


def several():
    """Do the first and the second."""; x = 1
    return x
'''

RUST = """\
impl Basket {
    /// Puts one more item in, at the end.
    ///
    /// # Examples
    #[inline]
    pub fn push(&mut self, item: Item) {
        self.items.push(item);
    }
}
"""

GO = """\
package shop

//go:generate stringer

// Push puts one more item
// into the basket. It never fails.
func (b *Basket) Push(item Item) {
	b.items = append(b.items, item)
}

var limit = 3 // the most that a basket holds today
func Limit() int { return limit }
"""

TYPESCRIPT = """\
export class Basket {
  /**
   * Puts one more {@link Item} in.
   * @param item what
   */
  push(item: Item) {
    this.items.push(item);
  }
}

/**
 * Counts what is in the basket.
 */

export const count = (basket: Basket) => {
  return basket.items.length;
};

// Not documentation, as the tools have it.
export function other() {}

/* Nor is this, though it looks like it. */
export function another() {}
"""


def one(path: str, text: str, symbol: str) -> Candidate:
    return next(found for found in candidates(path, text) if found.documented.symbol == symbol)


def answer(candidate: Candidate) -> tuple[int, int]:
    """1-based, as a query has it."""
    return candidate.documented.first + 1, candidate.documented.last + 1


def without(path: str, text: str) -> str:
    """``text`` without all documentation that asks for something."""
    gone = blanked(path, text, [found.documented for found in candidates(path, text)])
    assert gone is not None
    return gone


# What is no query


@pytest.mark.parametrize(
    "documentation",
    [
        "",
        "Too short.",
        " ".join(["word"] * 41),
        "Deprecated: use the other one instead of this.",
        "Adds the two numbers.\n\n.. deprecated:: 2.0",
        ":param items: all of what is in the basket",
        "@returns the number of items in it",
        ">>> add(1, 2) + add(3, 4)",
        "- one of the things that it does",
        "# Safety of what is done here",
        "0 1 2 3 4 5 6 7",
    ],
)
def test_nobody_asks_like_this(documentation: str) -> None:
    assert first_sentence(documentation, "f") is None


@pytest.mark.parametrize(
    ("documentation", "query"),
    [
        ("Return the URL of it. And more.", "Return the URL of it"),
        ("Parse headers, e.g. Vary, into\n  parts.\nMore.", "Parse headers, e.g. Vary, into parts"),
        ("Is it a `Route`? Then it is not asked.", "Is it a Route"),
        ("Return the :class:`~a.B` object ``b`` of *this* one.", "Return the a.B object b of this one"),
        ("See [the book](https://x.y) for <b>all</b> of it.", "See the book for all of it"),
        ("Push puts one more item in.", "puts one more item in"),
        ("push() puts one more item in.", "puts one more item in"),
        ("Pushing puts one more item in.", "Pushing puts one more item in"),
        ("Keeps what follows::\n\n    code", None),
        ("Keeps in a file what follows::\n\n    code", "Keeps in a file what follows"),
    ],
)  # fmt: skip
def test_the_first_sentence_is_asked_without_markup_and_own_name(documentation: str, query: str | None) -> None:
    symbol = "Basket.push" if documentation.startswith("push") else "Basket.Push"
    assert first_sentence(documentation, symbol) == query


def test_a_name_that_is_defined_twice_has_no_one_answer() -> None:
    text = 'class A:\n    @property\n    def x(self):\n        """Return what there is of x."""\n'
    assert [found.documented.symbol for found in candidates("a.py", text)] == ["A.x"]
    text += '    @x.setter\n    def x(self, value):\n        """Set what there is of x."""\n'
    assert candidates("a.py", text) == []


def test_the_name_in_words_is_no_query() -> None:
    text = 'def add_one_more_item():\n    """Add one more item."""\n    return 1\n'
    assert candidates("a.py", text) == []
    assert candidates("a.py", text.replace("more item.", "more item to it.")) != []


def test_a_definition_of_more_than_a_hundred_lines_would_be_found_by_luck() -> None:
    body = "\n".join(f"    x{number} = {number}" for number in range(99))
    text = f'def long():\n    """Count to ninety-nine the long way."""\n{body}\n'
    assert len(candidates("a.py", text)) == 1
    assert candidates("a.py", text + "    return x1\n") == []


@pytest.mark.parametrize("text", ["def f(:\n", "\0", "", "(" * 5_000])
def test_what_is_no_python_asks_nothing(text: str) -> None:
    assert candidates("a.py", text) == []


def test_a_sentence_that_comes_twice_is_not_asked() -> None:
    text = "".join(f'def f{number}():\n    """Return what the base says."""\n\n' for number in range(2))
    text += 'def g():\n    """Return what nobody else says."""\n'
    found = candidates("a.py", text)
    assert [candidate.query for candidate in sampled(found, 10, 7)] == ["Return what nobody else says"]


# What is one


def test_python_answers_with_its_decorators_and_without_what_was_said() -> None:
    found = one("shop.py", PYTHON, "price")
    assert (found.query, answer(found)) == ("Add up what the items cost", (4, 10))
    lines = without("shop.py", PYTHON).split("\n")
    assert lines[3:10] == ["@cached", "def price(items):", "", "", "", "", "    return sum(items)"]


def test_a_body_that_was_only_a_docstring_stays_one() -> None:
    gone = without("shop.py", PYTHON)
    ast.parse(gone)
    assert "class Empty(Exception):\n    ...\n" in gone
    assert "def inline(): ...\n" in gone
    assert "    ...; x = 1\n" in gone
    assert gone.startswith('"""The module')


def test_rust_answers_with_its_attributes() -> None:
    found = one("shop.rs", RUST, "Basket.push")
    assert (found.query, answer(found)) == ("Puts one more item in, at the end", (5, 8))
    assert without("shop.rs", RUST).split("\n")[:5] == ["impl Basket {", "", "", "", "    #[inline]"]


def test_go_is_asked_without_the_name_that_its_comments_begin_with() -> None:
    found = one("shop.go", GO, "Basket.Push")
    assert (found.query, answer(found)) == ("puts one more item into the basket", (7, 9))
    assert [found.documented.symbol for found in candidates("shop.go", GO)] == ["Basket.Push"]
    assert "//go:generate" in without("shop.go", GO)


def test_a_remark_behind_code_is_not_the_beginning_of_the_documentation_below() -> None:
    text = "package a\n\nvar n = 3 // the most that fits\n// F says how much of it fits.\nfunc F() int { return n }\n"
    assert [found.query for found in candidates("a.go", text)] == ["says how much of it fits"]
    assert "// the most that fits\n\nfunc" in without("a.go", text)


def test_a_directive_says_nothing() -> None:
    text = "package a\n\n//nolint:all of it is fine\n// F says how much of it fits.\nfunc F() int { return 3 }\n"
    assert [found.query for found in candidates("a.go", text)] == ["says how much of it fits"]


def test_jsdoc_belongs_to_what_comes_next() -> None:
    found = {found.documented.symbol: found for found in candidates("shop.ts", TYPESCRIPT)}
    assert list(found) == ["Basket.push", "count"]
    assert (found["Basket.push"].query, answer(found["Basket.push"])) == ("Puts one more Item in", (6, 8))
    assert (found["count"].query, answer(found["count"])) == ("Counts what is in the basket", (15, 17))
    assert "@param" not in without("shop.ts", TYPESCRIPT)


@pytest.mark.parametrize(
    ("path", "text"), [("a.py", PYTHON), ("a.rs", RUST), ("a.go", GO), ("a.ts", TYPESCRIPT), ("a.py", PYTHON * 2)]
)
def test_every_line_stays_where_it_was(path: str, text: str) -> None:
    before, after = text.split("\n"), without(path, text).split("\n")
    assert len(after) == len(before)
    assert all(new in ("", old) or "..." in new for old, new in zip(before, after, strict=True))


def test_line_ends_are_counted_as_chunks_count_them() -> None:
    assert decoded("é\r\nb\rc".encode()) == "é\nb\nc"
    assert decoded(b"\xef\xbb\xbfa") == "a"
    assert decoded(b"\xe9") is None


def test_columns_are_bytes() -> None:
    text = 'def ф(): "Сказать это в одной строке."; x = "ё"\n'
    assert without("a.py", text) == 'def ф(): ...; x = "ё"\n'


# The sample


def many(count: int) -> list[Candidate]:
    text = "".join(f'def f{number}():\n    """Return number {number} of all of them."""\n\n' for number in range(count))
    return candidates("a.py", text)


def test_the_same_seed_draws_the_same_and_another_draws_others() -> None:
    found = many(50)
    assert sampled(found, 10, 7) == sampled(reversed(found), 10, 7)
    assert len(sampled(found, 10, 7)) == 10
    assert sampled(found, 10, 7) != sampled(found, 10, 8)


def test_one_more_definition_moves_no_other_in_the_draw() -> None:
    before = {found.documented.symbol for found in sampled(many(50), 20, 7)}
    after = {found.documented.symbol for found in sampled(many(51), 20, 7)}
    assert len(before - after) <= 1
