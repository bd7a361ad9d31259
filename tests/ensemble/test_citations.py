"""Citation marks: what counts as one, what it resolves to, and what a stream may let through."""

import itertools
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.ensemble.citations import CitationGuard, cited_numbers, resolve, without_marks
from slipstream.ensemble.contracts import Hit


def hit(number: int) -> Hit:
    return Hit(
        path=f"pkg/file{number}.py", line_start=number, line_end=number + 5, symbol=f"f{number}", repo="pkg",
        language="python", score=1 / number, text="x",
    )  # fmt: skip


def guarded(pieces: list[str], contexts: int) -> str:
    guard = CitationGuard(contexts)
    return "".join(guard.feed(piece) for piece in pieces) + guard.flush()


def test_citations_come_once_each_in_the_order_of_their_marks() -> None:
    found = resolve("It is set [2] and read [1]. It is set once [2].", [hit(1), hit(2)])
    assert [citation.path for citation in found] == ["pkg/file2.py", "pkg/file1.py"]


def test_a_number_without_a_context_resolves_to_nothing() -> None:
    assert resolve("Zero [0], and three [3].", [hit(1), hit(2)]) == []


def test_an_index_in_code_is_not_a_mark() -> None:
    assert cited_numbers("`scope[1]` holds the path [2].") == [2]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Set here [1].", "Set here [1]."),
        ("Set here [7].", "Set here."),
        ("Both [1][9] [2].", "Both [1] [2]."),
        ("items[9] stays", "items[9] stays"),
        ("nested [[9]7] mark", "nested mark"),
        ("[0] begins", " begins"),
        ("open [", "open ["),
        ("open [12", "open [12"),
        ("a list [a, b] and [1234]", "a list [a, b] and [1234]"),
        ("цитата [3].", "цитата."),
    ],
)
def test_the_guard_drops_marks_that_name_no_context(text: str, kept: str) -> None:
    assert guarded([text], contexts=2) == kept


@pytest.mark.parametrize(
    "code",
    [
        "`y = [0]`", "`[9]`", "``a [9]``", "```py\nx = [0]\n```", "```\n`[9]` and ``[9]``\n```",
        "````\n[9]\n````", "```\nnever closed [9]", "`f` and `[9]`", "`a`\n`[9]`",
    ],
)  # fmt: skip
def test_code_is_left_alone_and_holds_no_marks(code: str) -> None:
    assert guarded([code], contexts=2) == code
    assert guarded(list(code), contexts=2) == code
    assert cited_numbers(code.replace("9", "1").replace("0", "1")) == []


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("`not closed [9]", "`not closed"),
        ("`not closed [9]\n`x`", "`not closed\n`x`"),
        ("``two and one ` [9]", "``two and one `"),
        ("`one and two `` [9]", "`one and two ``"),
        ("`a` [9] `b`", "`a` `b`"),
        ("`a`[9]", "`a`"),
        ("[`9`] [9]", "[`9`]"),
    ],
)
def test_what_is_no_code_after_all_is_prose(text: str, kept: str) -> None:
    assert [part.rstrip() for part in guarded([text], contexts=2).split("\n")] == kept.split("\n")
    assert guarded(list(text), contexts=2) == guarded([text], contexts=2)


def test_code_is_streamed_up_to_its_first_bracket() -> None:
    guard = CitationGuard(contexts=2)
    assert guard.feed("`name of") == "`name of"
    assert guard.feed(" items[9]") == " items"
    assert guard.feed("`") == ""
    assert guard.feed(".") == "[9]`."


@pytest.mark.parametrize("pieces", [["items", "[9]"], ["f()", "", "[9]"], ["items", "[", "9", "]"]])
def test_what_stands_before_a_mark_may_have_come_earlier(pieces: list[str]) -> None:
    assert guarded(pieces, contexts=2) == "".join(pieces)


@given(
    words=st.lists(
        st.sampled_from(["[", "]", "1", "9", " ", "a", "x[", "[9]", "я", "`", "``", "```", "\n", "."]), max_size=30
    ),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_how_the_stream_was_cut_changes_nothing(words: list[str], cuts: list[int]) -> None:
    text = "".join(words)
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    assert guarded(pieces, contexts=2) == guarded([text], contexts=2)


@given(text=st.text(alphabet="[]0129 ax.`\n", max_size=60))
def test_whatever_passes_the_guard_resolves(text: str) -> None:
    passed = guarded([text], contexts=2)
    assert all(1 <= number <= 2 for number in cited_numbers(passed))


def test_held_back_text_is_no_more_than_what_could_become_a_mark() -> None:
    guard = CitationGuard(contexts=2)
    assert guard.feed("word") == "word"
    assert guard.feed(" [") == ""
    assert guard.feed("1]") == " [1]"


def test_an_index_behind_a_call_is_code() -> None:
    assert cited_numbers("`f(x)[1]` is the first item [2].") == [2]
    guard = CitationGuard(3)
    assert guard.feed("`headers()[0]` [9].") + guard.flush() == "`headers()[0]`."


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("It is set [2] and read [1]. It is set once[2].", "It is set and read. It is set once[2]."),
        ("[1] It is set. [2][3]", " It is set."),
        ("`items[0]` holds `[1]` [2].", "`items[0]` holds `[1]`."),
        ("`f`[1]", "`f`"),
        ("```py\nx = [1]\n``` [1]\n```\n[2]", "```py\nx = [1]\n```\n```\n[2]"),
        ("f(x)[1] and items[0] stay", "f(x)[1] and items[0] stay"),
        ("`not closed [1]", "`not closed"),
        ("[a] [1234] [ 1 ] [", "[a] [1234] [ 1 ] ["),
    ],
)
def test_an_earlier_answer_is_repeated_without_its_marks(text: str, kept: str) -> None:
    assert without_marks(text) == kept


@given(text=st.text(alphabet="[]0129 ax.`\n", max_size=60))
def test_without_marks_nothing_is_cited_but_what_stood_inside_of_a_mark(text: str) -> None:
    assert cited_numbers(without_marks(text)) == [] or "[[" in text


@pytest.mark.parametrize("piece", ["[1]", "`", "``[1]`", "```", "[", "`a\n", "x[1]"])
def test_the_marks_of_a_long_text_are_found_in_one_pass(piece: str) -> None:
    started = process_time()
    without_marks(piece * 20_000 + " [1]" * 20_000)
    assert process_time() - started < 1
