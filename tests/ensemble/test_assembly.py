"""Contexts of a prompt: what is chosen, what is joined, what is cut."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.ensemble.assembly import MIN_CUT_TOKENS, assemble, near
from slipstream.ensemble.contracts import Hit
from slipstream.ensemble.prompt import render_context
from slipstream.ensemble.retrieval.chunker import chunk_file

PLENTY = 10_000
# Two files of real lines; every seventh is empty.
FILES = {
    name: ["" if number % 7 == 0 else f"{name} line {number} does {number * number}" for number in range(1, 61)]
    for name in ("a.py", "b.py")
}


def words(text: str) -> int:
    """A tokenizer that anyone can follow."""
    return len(text.split())


def hit(path: str, first: int, last: int, symbol: str = "") -> Hit:
    """Lines of a file, as the index has them."""
    file = FILES[path]
    following = next((at for at in range(last, len(file)) if file[at]), len(file))
    return Hit(
        path=path, line_start=first, line_end=last, symbol=symbol, repo="r", language="python", score=1.0,
        text="\n".join(file[first - 1 : last]), empty_after=following - last,
    )  # fmt: skip


def written(text: str, path: str = "c.py", first: int = 1) -> Hit:
    last = first + text.count("\n")
    return hit("a.py", 1, 1).model_copy(update={"path": path, "line_start": first, "line_end": last, "text": text})


def places(contexts: Sequence[Hit]) -> list[tuple[str, int, int]]:
    return [(context.path, context.line_start, context.line_end) for context in contexts]


def scored(one: Hit, score: float) -> Hit:
    return one.model_copy(update={"score": score})


class TestNear:
    def test_nothing_is_near_nothing(self) -> None:
        assert near([], 0.3) == []

    def test_what_stands_far_below_the_best_is_left_out(self) -> None:
        hits = [scored(hit("a.py", at, at + 1), score) for at, score in ((1, 1.2), (10, 1.0), (20, 0.9), (30, 0.3))]
        assert near(hits, 0.3) == hits[:3]
        assert near(hits, 0.0) == hits[:1]
        assert near(hits, 5.0) == hits

    def test_as_good_as_the_best_is_near(self) -> None:
        hits = [scored(hit("a.py", 1, 2), 0.5), scored(hit("b.py", 1, 2), 0.5)]
        assert near(hits, 0.0) == hits

    def test_the_rest_of_a_near_definition_stays(self) -> None:
        best, other = scored(hit("a.py", 1, 5, "cart"), 1.0), scored(hit("b.py", 1, 5, "cart"), 0.4)
        rest = scored(hit("a.py", 6, 9, "cart"), 0.3)
        assert near([best, other, rest], 0.2) == [best, rest]

    def test_scores_below_zero(self) -> None:
        hits = [scored(hit("a.py", 1, 2), -0.05), scored(hit("b.py", 1, 2), -0.5)]
        assert near(hits, 0.3) == hits[:1]


class TestUgly:
    def test_nothing_found(self) -> None:
        assert assemble([], PLENTY, words) == []

    def test_no_budget(self) -> None:
        assert assemble([hit("a.py", 1, 20)], 0, words) == []

    def test_lines_that_nobody_showed_are_not_invented(self) -> None:
        """Line 4 is not known, though the hits around it are."""
        assert places(assemble([hit("a.py", 1, 3), hit("a.py", 5, 6)], PLENTY, words)) == [
            ("a.py", 1, 3),
            ("a.py", 5, 6),
        ]

    def test_an_empty_line_is_only_filled_in_where_the_index_knows_it(self) -> None:
        forgotten = hit("a.py", 1, 6).model_copy(update={"empty_after": 0})
        assert len(assemble([forgotten, hit("a.py", 8, 9)], PLENTY, words)) == 2

    def test_many_empty_lines_are_not_filled_in_though_the_index_knows_them(self) -> None:
        before = written("def f():\n    pass").model_copy(update={"empty_after": 5})
        assert places(assemble([before, written("def g():\n    pass", first=8)], PLENTY, words)) == [
            ("c.py", 1, 2),
            ("c.py", 8, 9),
        ]

    def test_a_form_feed_or_another_line_separator_begins_no_line(self) -> None:
        before, after = written("a\x0cb\u2028c\x85d\ne\x0b\x1cf"), written("g", first=3)
        (joined,) = assemble([before, after], PLENTY, words)
        assert (joined.line_start, joined.line_end, joined.text) == (1, 3, f"{before.text}\ng")

    def test_what_is_joined_does_not_reach_into_a_context_whose_lines_are_not_known(self) -> None:
        cells = hit("a.py", 5, 20).model_copy(update={"text": "one\ntwo"})
        assert places(assemble([hit("a.py", 1, 3), cells, hit("a.py", 3, 6)], PLENTY, words)) == [
            ("a.py", 1, 3),
            ("a.py", 5, 20),
        ]

    def test_the_same_lines_with_another_text_are_not_joined(self) -> None:
        changed = hit("a.py", 3, 5).model_copy(update={"text": "x\ny\nz"})
        assert places(assemble([hit("a.py", 1, 4), changed], PLENTY, words)) == [("a.py", 1, 4)]

    def test_a_notebook_whose_lines_are_not_the_lines_of_the_file_is_shown_as_it_is(self) -> None:
        cells = hit("a.py", 1, 6).model_copy(update={"text": "one\ntwo"})
        assert assemble([cells, hit("a.py", 8, 9)], PLENTY, words)[0] == cells

    def test_a_cut_notebook_still_names_all_its_lines(self) -> None:
        text = "\n".join(["word " * 30] * 4)
        cells = hit("a.py", 1, 40).model_copy(update={"text": text})
        (cut,) = assemble([cells], 100, words)
        assert (cut.line_start, cut.line_end) == (1, 40)
        assert cut.text.count("\n") < 3

    def test_pieces_of_one_line_are_not_the_lines_beside_it(self) -> None:
        piece = written("x " * 300, first=1)
        assert places(assemble([piece, written("y", first=2)], PLENTY, words)) == [("c.py", 1, 1), ("c.py", 2, 2)]

    @pytest.mark.parametrize("length", [1_201, 1_263, 2_415])
    def test_no_piece_of_a_line_stands_for_it(self, length: int) -> None:
        """The last one of a line that is cut every so many characters would be short enough to."""
        file = ["def before():", "    return 1", "", "x" * length, "", "def after():", "    return 2"]
        chunks = chunk_file("a.py", "\n".join(file).encode(), "r")
        hits = [Hit(score=1.0, **{name: getattr(chunk, name) for name in Hit.model_fields if name != "score"})
                for chunk in reversed(chunks)]  # fmt: skip
        for context in assemble(hits, PLENTY, words):
            shown = context.text.split("\n")
            assert shown == file[context.line_start - 1 : context.line_end] or (
                len(shown) == 1 and context.line_start == context.line_end == 4
            )

    def test_a_path_of_the_same_name_in_another_repository_is_another_file(self) -> None:
        other = hit("a.py", 4, 6).model_copy(update={"repo": "fork"})
        assert len(assemble([hit("a.py", 1, 3), other], PLENTY, words)) == 2


class TestDistinct:
    def test_a_vendored_copy_is_shown_once_where_it_ranked_better(self) -> None:
        text = "\n".join(f"    value_{number} = compute({number})" for number in range(40))
        original, copy = written(text, "lib/one.py"), written(text + "\n# vendored", "vendor/one.py")
        assert places(assemble([original, copy], PLENTY, words)) == [("lib/one.py", 1, 40)]
        assert places(assemble([copy, original], PLENTY, words)) == [("vendor/one.py", 1, 41)]

    def test_siblings_that_differ_in_what_they_do_both_stay(self) -> None:
        one = written("def start(self):\n    self.pool.open()\n    return self", "one.py")
        other = written("def stop(self):\n    self.pool.close()\n    return self", "other.py")
        assert len(assemble([one, other], PLENTY, words)) == 2

    def test_functions_with_half_of_their_lines_in_common_both_stay(self) -> None:
        shared = [f"    value_{number} = compute({number})" for number in range(12)]
        one, other = ([f"    {name}_{number}({number}, flag)" for number in range(4)] for name in ("read", "send"))
        hits = [written("\n".join([*shared, *own]), f"{own[0].strip()[:4]}.py") for own in (one, other)]
        assert places(assemble(hits, PLENTY, words)) == [("read.py", 1, 16), ("send.py", 1, 16)]


class TestJoined:
    def test_methods_one_below_the_other_are_one_context(self) -> None:
        """Lines 7 is empty: the index says so. The better one's place and name stay."""
        hits = [hit("b.py", 1, 2), hit("a.py", 8, 13, "C.g"), hit("a.py", 1, 6, "C.f")]
        contexts = assemble(hits, PLENTY, words)
        assert places(contexts) == [("b.py", 1, 2), ("a.py", 1, 13)]
        assert contexts[1].symbol == "C.g"
        assert contexts[1].text.split("\n") == FILES["a.py"][:13]

    def test_a_hit_that_closes_a_gap_makes_one_of_three(self) -> None:
        hits = [hit("a.py", 1, 3), hit("b.py", 1, 3), hit("a.py", 9, 12), hit("a.py", 3, 8)]
        assert places(assemble(hits, PLENTY, words)) == [("a.py", 1, 12), ("b.py", 1, 3)]

    def test_the_rest_of_a_definition_goes_before_the_next_hit(self) -> None:
        hits = [hit("a.py", 8, 13, "long"), hit("b.py", 1, 13), hit("a.py", 15, 20, "long")]
        room = words(render_context(1, hit("a.py", 8, 20)))
        assert places(assemble(hits, room, words)) == [("a.py", 8, 20)]

    def test_of_a_definition_the_nearest_lines_go_first(self) -> None:
        hits = [hit("a.py", 1, 13, "long"), hit("a.py", 29, 34, "long"), hit("a.py", 15, 20, "long")]
        room = words(render_context(1, hit("a.py", 1, 20)))
        assert places(assemble(hits, room, words)) == [("a.py", 1, 20)]

    def test_what_has_no_name_is_no_definition(self) -> None:
        hits = [hit("a.py", 8, 13), hit("b.py", 1, 13), hit("a.py", 15, 20)]
        room = words(render_context(1, hits[0])) + words(render_context(2, hits[1]))
        assert places(assemble(hits, room, words)) == [("a.py", 8, 13), ("b.py", 1, 13)]


class TestBudget:
    def test_the_last_context_is_cut_at_a_line(self) -> None:
        (cut,) = assemble([hit("a.py", 1, 40)], 100, words)
        assert cut.text.split("\n") == FILES["a.py"][: cut.line_end]
        assert 1 < cut.line_end < 40

    def test_nothing_worse_is_put_behind_a_cut(self) -> None:
        """What is left of the budget belongs to the better evidence, and is less than a line of it."""
        long, short = hit("a.py", 1, 40), hit("b.py", 1, 1)
        (cut,) = assemble([long], 100, words)
        left = 100 - words(render_context(1, cut))
        short = short.model_copy(update={"text": "x"})
        assert words(render_context(2, short)) <= left
        assert assemble([long, short], 100, words) == [cut]

    def test_a_cut_does_not_end_in_empty_lines(self) -> None:
        (cut,) = assemble([hit("a.py", 1, 40)], words(render_context(1, hit("a.py", 1, 14))), words)
        assert cut.line_end == 13

    def test_a_joined_context_is_cut_where_it_still_fits(self) -> None:
        whole = hit("a.py", 1, 13)
        room = words(render_context(1, whole)) + MIN_CUT_TOKENS + 10
        (cut,) = assemble([whole, hit("a.py", 15, 48)], room, words)
        assert 15 < cut.line_end < 48
        assert cut.text.split("\n") == FILES["a.py"][: cut.line_end]

    @pytest.mark.parametrize("room", [20, 30])
    def test_too_little_is_left_out(self, room: int) -> None:
        assert assemble([hit("a.py", 1, 40)], room, words) == []


@st.composite
def ranked(draw: st.DrawFn) -> list[Hit]:
    """Hits that begin and end with something, in any order, overlapping as they like."""
    hits = []
    for _ in range(draw(st.integers(0, 12))):
        path = draw(st.sampled_from(sorted(FILES)))
        filled = [number for number, line in enumerate(FILES[path], 1) if line]
        first, last = sorted((draw(st.sampled_from(filled)), draw(st.sampled_from(filled))))
        hits.append(hit(path, first, min(last, first + 20) if FILES[path][min(last, first + 20) - 1] else first,
                        draw(st.sampled_from(["", "f", "g"]))))  # fmt: skip
    return hits


@given(ranked(), st.integers(0, 900))
@settings(max_examples=200, deadline=None)
def test_whatever_was_found(hits: list[Hit], budget: int) -> None:
    contexts = assemble(hits, budget, words)
    assert contexts == assemble(list(hits), budget, words)
    assert sum(words(render_context(number, one) + "\n") for number, one in enumerate(contexts, 1)) <= budget
    shown = [(one.path, number) for one in contexts for number in range(one.line_start, one.line_end + 1)]
    assert len(shown) == len(set(shown)), "a line is shown twice"
    for one in contexts:
        assert one.text.split("\n") == FILES[one.path][one.line_start - 1 : one.line_end]
    if assemble(hits[:1], budget, words):  # else the best finds no room at all, and the next may
        best = hits[0]
        assert contexts[0].path == best.path
        assert contexts[0].line_start <= best.line_end
        assert best.line_start <= contexts[0].line_end
