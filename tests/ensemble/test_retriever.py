"""From hits to the prompt: what goes in, what is cut, what is refused."""

from collections.abc import Sequence

import pytest

from slipstream import InputError, SlipstreamError
from slipstream.ensemble.contracts import Evidence, Hit, SearchRequest, SearchResult
from slipstream.ensemble.retrieval.errors import (
    CollectionNotFound,
    EmbedderMismatch,
    IndexDamaged,
    IndexHeld,
    StoreUnavailable,
    VersionGone,
)
from slipstream.ensemble.retrieval.index import NothingToIndex
from slipstream.ensemble.retriever import ContextLengthExceeded, Retriever, error_code, parse_messages
from slipstream.ensemble.tokenizer import ChatTokenizer
from tests.ensemble.words import write_tokenizer

QUESTION = [{"role": "user", "content": "why?"}]
REQUEST = SearchRequest(query="why?", collection="code")
CONTEXT_LENGTH = 2000
CONFIDENCE = 0.5


def hit(path: str = "a.py", start: int = 1, lines: int = 3) -> Hit:
    text = "".join(f"line {number}\n" for number in range(start, start + lines))
    return Hit(
        path=path, line_start=start, line_end=start + lines - 1, symbol="f", repo="r", language="python", score=1.0,
        text=text,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), CONTEXT_LENGTH)


def retriever(
    tokenizer: ChatTokenizer,
    hits: Sequence[Hit],
    context_tokens: int = 1000,
    context_margin: float = 1.0,
    min_confidence: float = 0.0,
) -> Retriever:
    def search(request: SearchRequest, dense: Sequence[float]) -> SearchResult:
        return SearchResult(hits=list(hits), collection=request.collection, index_version="7", confidence=CONFIDENCE)

    return Retriever(search, tokenizer, context_tokens, context_margin, min_confidence)


class TestUgly:
    def test_messages_longer_than_the_window_are_refused(self, tokenizer: ChatTokenizer) -> None:
        messages = [{"role": "user", "content": "x" * CONTEXT_LENGTH}]
        with pytest.raises(ContextLengthExceeded, match="window"):
            retriever(tokenizer, []).retrieve([1.0], messages, REQUEST, 10)

    def test_no_hits_still_make_a_prompt(self, tokenizer: ChatTokenizer) -> None:
        found = retriever(tokenizer, []).retrieve([1.0], QUESTION, REQUEST, 10)
        assert found.result.hits == []
        assert "why?" in tokenizer.decode(found.prompt_ids)

    def test_a_hit_of_blank_lines_is_left_out(self, tokenizer: ChatTokenizer) -> None:
        blank = hit(lines=1).model_copy(update={"text": "\n" * 5000, "line_end": 5000})
        assert retriever(tokenizer, [blank]).retrieve([1.0], QUESTION, REQUEST, 10).result.hits == []

    def test_one_line_longer_than_the_budget_is_left_out(self, tokenizer: ChatTokenizer) -> None:
        long = hit(lines=1).model_copy(update={"text": "x" * 5000})
        assert retriever(tokenizer, [long]).retrieve([1.0], QUESTION, REQUEST, 10).result.hits == []

    @pytest.mark.parametrize("text", ["", "{", "1", '["a"]', '[{"role": "user"}]'])
    def test_messages_that_are_none(self, text: str) -> None:
        with pytest.raises(InputError):
            parse_messages(text)

    def test_every_refusal_has_its_code(self) -> None:
        codes = [
            error_code(kind("x"))[0]
            for kind in (
                ContextLengthExceeded, CollectionNotFound, EmbedderMismatch, StoreUnavailable, IndexDamaged, IndexHeld,
                VersionGone, NothingToIndex, SlipstreamError,
            )
        ]  # fmt: skip
        assert codes == [
            "context_length_exceeded", "collection_not_found", "embedder_mismatch", *["index_unavailable"] * 4,
            "invalid_request", "engine_error",
        ]  # fmt: skip


class TestPrompt:
    def test_what_is_far_below_the_best_hit_is_no_context(self, tokenizer: ChatTokenizer) -> None:
        hits = [hit("a.py"), hit("b.py", 50).model_copy(update={"score": 0.4, "symbol": "g"})]
        wide, narrow = (retriever(tokenizer, hits, context_margin=margin) for margin in (0.6, 0.5))
        assert wide.retrieve([1.0], QUESTION, REQUEST, 10).result.hits == hits
        assert narrow.retrieve([1.0], QUESTION, REQUEST, 10).result.hits == hits[:1]

    def test_contexts_are_numbered_best_first_with_path_and_lines(self, tokenizer: ChatTokenizer) -> None:
        hits = [hit("b.py", 5), hit("a.py", 1)]
        found = retriever(tokenizer, hits).retrieve([1.0], QUESTION, REQUEST, 10)
        prompt = tokenizer.decode(found.prompt_ids)
        assert found.result.hits == hits
        assert prompt.index("[1] b.py:5-7\nline 5\n") < prompt.index("[2] a.py:1-3\nline 1\n")

    def test_the_budget_cuts_the_last_context_at_a_line_and_its_citation_with_it(
        self, tokenizer: ChatTokenizer
    ) -> None:
        found = retriever(tokenizer, [hit(lines=90)], context_tokens=200).retrieve([1.0], QUESTION, REQUEST, 10)
        (cut,) = found.result.hits
        assert 1 < cut.line_end < 90
        assert cut.text.endswith(f"line {cut.line_end}")
        assert f"a.py:1-{cut.line_end}\n" in tokenizer.decode(found.prompt_ids)

    @pytest.mark.parametrize(("first_line", "kept"), [(20, False), (45, True)])
    def test_a_cut_that_explains_nothing_is_left_out(
        self, tokenizer: ChatTokenizer, first_line: int, kept: bool
    ) -> None:
        text = "x" * first_line + "\n" + "y" * 200
        long = hit(lines=2).model_copy(update={"text": text})
        found = retriever(tokenizer, [long], context_tokens=100).retrieve([1.0], QUESTION, REQUEST, 10)
        assert [one.text for one in found.result.hits] == ["x" * first_line] * kept

    def test_a_cut_of_blank_lines_is_left_out(self, tokenizer: ChatTokenizer) -> None:
        blank = hit(lines=2).model_copy(update={"text": " " * 60 + "\n" + "y" * 200})
        found = retriever(tokenizer, [blank], context_tokens=100).retrieve([1.0], QUESTION, REQUEST, 10)
        assert found.result.hits == []

    def test_a_whole_context_may_be_short(self, tokenizer: ChatTokenizer) -> None:
        short = hit(lines=1).model_copy(update={"text": "x"})
        assert retriever(tokenizer, [short]).retrieve([1.0], QUESTION, REQUEST, 10).result.hits == [short]

    def test_a_prompt_longer_than_its_parts_loses_its_last_contexts(self, tokenizer: ChatTokenizer) -> None:
        """As where tokens of one part end in another, and many times worse."""

        class Hopeful(ChatTokenizer):
            def __init__(self) -> None:
                self.__dict__ |= tokenizer.__dict__

            def count(self, text: str) -> int:
                return super().count(text) // 3

        hits = [hit(f"{name}.py", lines=40) for name in "abcdefgh"]
        found = retriever(Hopeful(), hits, context_tokens=5000).retrieve([1.0], QUESTION, REQUEST, 500)
        assert len(found.prompt_ids) + 500 <= CONTEXT_LENGTH
        assert 0 < len(found.result.hits) < 6
        assert found.result.hits == hits[: len(found.result.hits)]
        assert f"[{len(found.result.hits)}] " in tokenizer.decode(found.prompt_ids)
        assert f"[{len(found.result.hits) + 1}] " not in tokenizer.decode(found.prompt_ids)

    def test_the_answer_keeps_its_room(self, tokenizer: ChatTokenizer) -> None:
        hits = [hit(f"{name}.py", lines=40) for name in "abcdef"]
        found = retriever(tokenizer, hits, context_tokens=5000).retrieve([1.0], QUESTION, REQUEST, 900)
        assert len(found.prompt_ids) + 900 <= CONTEXT_LENGTH
        assert found.result.hits

    def test_a_window_that_is_nearly_full_shortens_the_context_rather_than_to_leave_it_out(
        self, tokenizer: ChatTokenizer
    ) -> None:
        bare = len(retriever(tokenizer, []).retrieve([1.0], QUESTION, REQUEST, 1).prompt_ids)
        found = retriever(tokenizer, [hit(lines=90)]).retrieve([1.0], QUESTION, REQUEST, CONTEXT_LENGTH - bare - 200)
        (cut,) = found.result.hits
        assert 10 < cut.line_end < 90

    def test_overlapping_lines_are_shown_once(self, tokenizer: ChatTokenizer) -> None:
        hits = [hit(start=1, lines=5), hit(start=5, lines=5), hit(start=6, lines=2)]
        found = retriever(tokenizer, hits).retrieve([1.0], QUESTION, REQUEST, 10)
        assert [(one.line_start, one.line_end) for one in found.result.hits] == [(1, 9)]

    def test_earlier_turns_are_in_the_prompt(self, tokenizer: ChatTokenizer) -> None:
        turns = [{"role": "user", "content": "first"}, {"role": "assistant", "content": "second"}, *QUESTION]
        prompt = tokenizer.decode(retriever(tokenizer, []).retrieve([1.0], turns, REQUEST, 10).prompt_ids)
        assert prompt.index("first") < prompt.index("second") < prompt.index("why?")

    def test_without_messages_every_hit_comes_back_and_no_prompt(self, tokenizer: ChatTokenizer) -> None:
        hits = [hit(f"{number}.py", lines=90) for number in range(20)]
        found = retriever(tokenizer, hits).retrieve([1.0], [], REQUEST, 1)
        assert (found.result.hits, found.prompt_ids) == (hits, [])


class TestNotFound:
    def test_a_search_that_is_not_sure_makes_no_prompt(self, tokenizer: ChatTokenizer) -> None:
        unsure = retriever(tokenizer, [hit("b.py", 5)], min_confidence=CONFIDENCE + 0.1)
        found = unsure.retrieve([1.0], QUESTION, REQUEST, 10)
        assert isinstance(found.result, Evidence)
        assert (found.result.hits, found.prompt_ids) == ([], [])
        assert "`b.py:5`" in found.result.declined

    def test_the_very_threshold_is_sure_enough(self, tokenizer: ChatTokenizer) -> None:
        found = retriever(tokenizer, [hit()], min_confidence=CONFIDENCE).retrieve([1.0], QUESTION, REQUEST, 10)
        assert found.prompt_ids
        assert isinstance(found.result, Evidence)
        assert found.result.declined == ""

    @pytest.mark.parametrize(
        ("query", "content", "is_russian"),
        [
            ("Where is the retry budget of a request?\nА почему?", "А почему?", True),
            ("Где проверяется бюджет повторов запроса?\nand why?", "and why?", False),
            ("Где бюджет?", "You are a helpful assistant. Be brief.\n\nГде бюджет?", True),
            ("Where is the retry budget?\nА почему?", "Answer like a pirate, please.\n\nА почему?", True),
        ],
    )
    def test_it_is_said_in_the_language_of_the_last_question(
        self, tokenizer: ChatTokenizer, query: str, content: str, is_russian: bool
    ) -> None:
        request = REQUEST.model_copy(update={"query": query})
        messages = [{"role": "user", "content": content}]
        found = retriever(tokenizer, [], min_confidence=0.5).retrieve([1.0], messages, request, 10).result
        assert isinstance(found, Evidence)
        assert found.declined.startswith("В проиндексированном коде" if is_russian else "I did not find")

    def test_what_no_context_can_show_is_not_answered_from_nothing(self, tokenizer: ChatTokenizer) -> None:
        minified = hit(lines=1).model_copy(update={"text": "x" * 5000})
        found = retriever(tokenizer, [minified], min_confidence=CONFIDENCE).retrieve([1.0], QUESTION, REQUEST, 10)
        assert isinstance(found.result, Evidence)
        assert "`a.py:1`" in found.result.declined
        assert (found.result.hits, found.prompt_ids) == ([], [])

    @pytest.mark.parametrize("least", [0.0, CONFIDENCE])
    def test_a_conversation_that_leaves_no_room_for_a_context_is_refused(
        self, tokenizer: ChatTokenizer, least: float
    ) -> None:
        """Unless no search has to be sure: then the model is on its own."""
        bare = len(retriever(tokenizer, []).retrieve([1.0], QUESTION, REQUEST, 1).prompt_ids)
        tight = retriever(tokenizer, [hit(lines=40)], min_confidence=least)
        if least:
            with pytest.raises(ContextLengthExceeded, match=r"The 20 tokens .* hold none of the code"):
                tight.retrieve([1.0], QUESTION, REQUEST, CONTEXT_LENGTH - bare - 20)
        else:
            assert tight.retrieve([1.0], QUESTION, REQUEST, CONTEXT_LENGTH - bare - 20).prompt_ids

    def test_nothing_found_is_never_sure(self, tokenizer: ChatTokenizer) -> None:
        found = retriever(tokenizer, [], min_confidence=0.01).retrieve([1.0], QUESTION, REQUEST, 10)
        assert isinstance(found.result, Evidence)
        assert found.result.declined

    def test_a_search_alone_gets_its_hits_however_unsure(self, tokenizer: ChatTokenizer) -> None:
        found = retriever(tokenizer, [hit()], min_confidence=1.0).retrieve([1.0], [], REQUEST, 10)
        assert found.result.hits == [hit()]
