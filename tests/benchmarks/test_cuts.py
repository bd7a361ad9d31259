"""Other ways to cut: what each makes of a small file."""

import pytest

from slipstream.ensemble.retrieval.chunker import embedded_text
from tests.benchmarks import cuts

SHOP = """\
import json
import os
from shop.money import Price, Tax

LIMIT = 3


class Cart(Basket, metaclass=Kept):
    items = []

    # Takes one more.
    @checked
    def push(self, item):
        self.items.append(item)

    def total(self):
        return Price(sum(item.price for item in self.items))
"""
LONG = "".join(f"def f{at}(a):\n    return a * {at}  # {'x' * 300}\n\n\n" for at in range(9))


def places(cut: cuts.Cut, text: str, name: str = "shop/cart.py") -> list[tuple[int, int]]:
    return [(chunk.line_start, chunk.line_end) for chunk, _ in cut(name, text.encode(), "repo")]


def texts(cut: cuts.Cut, text: str, name: str = "shop/cart.py") -> dict[str, str]:
    """Of the first chunk of each name, with single spaces."""
    pairs = [(chunk.symbol, " ".join(read.split())) for chunk, read in cut(name, text.encode(), "repo")]
    return dict(reversed(pairs))


@pytest.mark.parametrize(
    "cut", [cuts.windows(40, 20), cuts.syntax(100, merged=True), cuts.syntax(100, merged=False), cuts.with_class]
)
@pytest.mark.parametrize("text", ["", "\n\n", "}\n", "def f(:\n  ((("])
def test_a_file_without_code_or_without_syntax_is_cut_too(cut: cuts.Cut, text: str) -> None:
    for first, last in places(cut, text):
        assert 1 <= first <= last <= text.count("\n") + 1


def test_windows_reach_the_end_and_share_what_they_should() -> None:
    lines = "\n".join(f"x{at} = {at}" for at in range(50))
    assert places(cuts.windows(20, 20), lines) == [(1, 20), (21, 40), (41, 50)]
    assert places(cuts.windows(20, 10), lines) == [(1, 20), (11, 30), (21, 40), (31, 50)]
    assert places(cuts.windows(60, 30), lines) == [(1, 50)]


def test_a_long_line_and_a_text_without_grammar_are_cut_by_their_size() -> None:
    assert places(cuts.syntax(50, merged=True), "a\n" + "b" * 200 + "\nc\nd\n", "notes.txt") == [(1, 1), (2, 2), (3, 4)]


def test_what_is_split_is_merged_again_up_to_the_budget() -> None:
    whole, parts = places(cuts.syntax(700, merged=True), LONG), places(cuts.syntax(700, merged=False), LONG)
    assert len(parts) == 9  # a function each
    assert len(whole) == 5  # two of them, and the last alone
    assert whole[0][0] == parts[0][0]
    assert places(cuts.syntax(100_000, merged=False), LONG) == [(1, LONG.count("\n"))]


def test_a_class_too_large_is_split_where_its_methods_begin() -> None:
    starts = {first for first, _ in places(cuts.syntax(80, merged=False), SHOP)}
    assert {1, 2, 3, 5, 8, 9, 12, 16} <= starts


def test_no_cut_is_made_in_a_row_that_two_definitions_share() -> None:
    script = "function a() {\n  return 1\n} function b() {\n  return 2\n}\nfunction c() {\n  return 3\n}\n"
    assert places(cuts.syntax(40, merged=False), script, "a.js") == [(1, 5), (6, 8)]


def test_names_are_left_out_of_both_halves_or_of_one() -> None:
    text = SHOP + "# " + "x" * 1200 + "\n"
    assert {chunk.symbol for chunk, _ in cuts.nameless("cart.py", text.encode(), "repo")} == {""}
    unread = list(cuts.name_unread("cart.py", text.encode(), "repo"))
    assert "Cart" in {chunk.symbol for chunk, _ in unread}
    assert all(read != embedded_text(chunk) for chunk, read in unread if chunk.symbol)


def test_a_widened_chunk_stays_within_its_file_and_is_read_as_it_was() -> None:
    usual, wide = (
        list(cuts.product("a.py", LONG.encode(), "repo")),
        list(cuts.widened(5)("a.py", LONG.encode(), "repo")),
    )
    assert [read for _, read in wide] == [read for _, read in usual]
    assert wide[0][0].line_start == 1
    assert wide[-1][0].line_end == LONG.count("\n")
    assert wide[1][0].line_start == max(usual[1][0].line_start - 5, 1)
    assert wide[1][0].line_end == usual[1][0].line_end + 5


def test_a_method_is_read_with_the_first_line_of_its_class_and_a_class_is_not() -> None:
    big = SHOP.replace("items = []", f"items = ['{'x' * 1200}']")
    read = texts(cuts.with_class, big)
    assert read["Cart.total"].startswith("Cart total class Cart Basket metaclass Kept def")
    assert read["Cart"].count("Basket") == 1


def test_a_first_method_that_its_class_has_joined_has_the_line_once() -> None:
    text = "# A Cart.\nclass Cart(Basket):\n    def push(self):\n        pass\n\n    def total(self):\n        "
    read = texts(cuts.with_class, f"{text}return '{'x' * 1200}'\n")
    assert read["Cart.push"].count("Basket") == 1
    assert read["Cart.total"].startswith("Cart total class Cart Basket def total")


def test_a_go_method_is_read_with_its_type() -> None:
    go = "package shop\n\ntype Cart struct {\n\titems []Item\n}\n\nfunc (c *Cart) Push(i Item) {\n\tc.add(i)\n}\n"
    read = texts(cuts.with_class, go, "shop/cart.go")
    assert "type Cart struct" in read["Cart.Push"]


def test_of_the_imports_those_are_read_that_the_chunk_uses() -> None:
    read = texts(cuts.with_imports, SHOP.replace("LIMIT = 3", f"LIMIT = '{'x' * 1200}'"))
    assert "from shop money import Price Tax" in read["Cart"]
    assert "json" not in read["Cart"]
    assert read[""].startswith("import json import os")
    assert read[""].count("import json") == 1  # they are its own lines
