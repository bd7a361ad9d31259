"""What counts as a valid citation, a covered line, a wrong claim, and a pass."""

import pytest

from slipstream.build.golden.scores import (
    citation_problems,
    cites_gold,
    context_recall,
    failures,
    forbidden_claims,
    missing_facts,
)
from tests.build.golden.prompts import context, prompt, question, said, span


class TestACitation:
    def test_that_serving_drops_is_invalid_all_the_same(self) -> None:
        asked = prompt(None, context())
        assert citation_problems(asked, said("It adds [1].", raw="It adds [1] and [7].")) == {
            1: "",
            7: "[7] names none of the 1 contexts",
        }

    @pytest.mark.parametrize("mark", ["[0]", "[2]", "[999]"])
    def test_of_no_context_is_invalid(self, mark: str) -> None:
        assert all(citation_problems(prompt(None, context()), said(f"It adds {mark}.")).values())

    def test_of_a_context_that_is_not_in_the_file_is_invalid(self) -> None:
        changed = context(problem="shop/cart.py:1-4 says something else in the file")
        assert citation_problems(prompt(None, changed), said("It adds [1].")) == {1: changed.problem}

    def test_twice_counts_once(self) -> None:
        assert len(citation_problems(prompt(None, context()), said("It [1] adds [1]."))) == 1

    def test_inside_of_code_is_none(self) -> None:
        assert citation_problems(prompt(None, context()), said("`items[9]` and `[8]`")) == {}

    def test_in_the_sentence_that_declines_is_none(self) -> None:
        assert citation_problems(prompt(declined="Nothing [3]."), said("Nothing [3].", tokens=0)) == {}


class TestContextRecall:
    def test_is_the_share_of_lines_that_are_shown(self) -> None:
        assert context_recall(prompt(question(span(1, 10)), context(6, 20))) == 0.5

    def test_counts_a_line_once_however_often_it_is_shown(self) -> None:
        assert context_recall(prompt(question(span(1, 10)), context(1, 3), context(2, 4))) == 0.4

    def test_is_that_of_the_best_span_for_any_answers(self) -> None:
        assert context_recall(prompt(question(span(1, 10), span(31, 40)), context(31, 40))) == 1.0

    def test_of_lines_of_another_file_is_0(self) -> None:
        assert context_recall(prompt(question(span(1, 10)), context(1, 10, path="shop/other.py"))) == 0.0

    def test_without_contexts_is_0(self) -> None:
        assert context_recall(prompt(question(span()), declined="no")) == 0.0

    def test_of_what_nothing_answers_is_not_measured(self) -> None:
        assert context_recall(prompt(question(), declined="no")) is None


class TestClaims:
    def test_are_found_in_any_case_and_quoted_as_written(self) -> None:
        asked = question(span(), forbidden=(r"\b40[134]\b", "encrypts?"))
        assert forbidden_claims(asked, "It ENCRYPTS and gives 404.") == ["404", "ENCRYPTS"]

    def test_are_not_found_inside_of_other_words(self) -> None:
        assert forbidden_claims(question(span(), forbidden=(r"\byes\b",)), "eyes") == []

    def test_one_of_the_expected_is_enough(self) -> None:
        asked = question(span(), expects=("add_item", "Cart"))
        assert missing_facts(asked, "The CART does it.") == []
        assert missing_facts(asked, "Something does it.") == ["add_item", "Cart"]

    def test_or_each_of_them_is_needed(self) -> None:
        asked = question(span(), expects=("add_item", "Cart"), expect="all")
        assert missing_facts(asked, "The cart does it.") == ["add_item"]


class TestAPass:
    asked = question(span(1, 4), expects=("add_item",), forbidden=("delete",))
    shown = (context(1, 4), context(50, 60))

    def test_cites_a_line_that_answers_and_says_what_is_expected(self) -> None:
        assert failures(prompt(self.asked, *self.shown), said("`add_item` adds [1].")) == []

    @pytest.mark.parametrize(
        ("text", "raw", "why"),
        [
            ("", None, "said nothing"),
            (" \n", None, "said nothing"),
            ("`add_item` adds.", None, "cites nothing"),
            ("`add_item` adds [2].", None, "cites no line that answers"),
            ("It adds [1].", None, "says nothing of add_item"),
            ("`add_item` deletes [1].", None, "claims 'delete'"),
            ("`add_item` adds [1].", "`add_item` adds [1][3].", "[3] names none of the 2 contexts"),
        ],
    )
    def test_is_none(self, text: str, raw: str | None, why: str) -> None:
        assert failures(prompt(self.asked, *self.shown), said(text, raw)) == [why]

    def test_is_none_where_one_line_beside_is_cited(self) -> None:
        assert not cites_gold(prompt(self.asked, context(5, 9)), said("`add_item` adds [1]."))
        assert cites_gold(prompt(self.asked, context(4, 9)), said("`add_item` adds [1]."))

    def test_is_to_decline_what_nothing_answers(self) -> None:
        assert failures(prompt(question(), declined="Not found."), said("Not found.", tokens=0)) == []
        assert failures(prompt(question(), context()), said("It is [1].")) == ["answered, though nothing answers it"]

    def test_is_not_to_decline_what_something_answers(self) -> None:
        why = failures(prompt(self.asked, declined="Not found."), said("Not found.", tokens=0))
        assert why == ["declined, though it can be answered"]
