"""Golden questions through the generator: what reaches the engine, what comes back, how two engines are compared."""

import threading
import time
from collections.abc import Mapping, Sequence

import pytest

from slipstream.build.golden import answers as answers_module
from slipstream.build.golden.answers import EngineFailed, GoldenAnswers, agreement, answer
from slipstream.engines.protocols import Emit, FinishReason, GenerationRequest, RuntimeMetrics, TokenDelta
from slipstream.ensemble.grammar import citing_grammar
from slipstream.ensemble.manifest import ServingOptions
from slipstream.ensemble.tokenizer import ChatTokenizer
from tests.build.golden.prompts import context, prompt, question, said, span, together
from tests.ensemble.words import write_tokenizer

PROMPTS = [
    prompt(question(span(), name="a"), context(), prompt_ids=(7, 8, 9)),
    prompt(question(span(), name="b"), context(), context(9, 12), prompt_ids=(7, 8)),
    prompt(question(name="c"), declined="Nothing is here."),
]
FREE, CONSTRAINED = ServingOptions(citations="free"), ServingOptions()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


class Reciting:
    """A runtime that recites texts on a thread of its own and notes what it was asked."""

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        texts: Mapping[str, str],
        finish: FinishReason = "stop",
        error: str = "",
        *,
        mute: bool = False,
        pause_s: float = 0.0,
    ) -> None:
        self._pause_s = pause_s
        self._tokenizer, self._texts, self._finish, self._error, self._mute = tokenizer, texts, finish, error, mute
        self._lock = threading.Lock()
        self.requests: list[GenerationRequest] = []
        self.live = self.most = 0
        self.cancelled: list[str] = []
        self.closed = False

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        with self._lock:
            self.requests.append(request)
            self.live += 1
            self.most = max(self.most, self.live)
        if not self._mute:
            threading.Thread(target=self._recite, args=(request.generation_id, emit)).start()

    def _recite(self, name: str, emit: Emit) -> None:
        time.sleep(self._pause_s)
        if not self._error:
            for token in self._tokenizer.encode(self._texts[name]):
                emit(TokenDelta(name, (token,)))
        with self._lock:
            self.live -= 1
        emit(TokenDelta(name, (), "error" if self._error else self._finish, self._error))

    def cancel(self, generation_id: str) -> bool:
        self.cancelled.append(generation_id)
        return False

    def metrics(self) -> RuntimeMetrics:
        return RuntimeMetrics()

    def close(self) -> None:
        self.closed = True


def silent(share: float, doing: str) -> None: ...


def ask(runtime: Reciting, tokenizer: ChatTokenizer, serving: ServingOptions = FREE, streams: int = 8) -> GoldenAnswers:
    return answer(PROMPTS, runtime, tokenizer, serving, silent, streams=streams)


class TestAnEngine:
    def test_that_refuses_a_prompt_is_named_with_the_question(self, tokenizer: ChatTokenizer) -> None:
        with pytest.raises(EngineFailed, match=r"question 'a': .*out of memory"):
            ask(Reciting(tokenizer, {}, error="out of memory"), tokenizer)

    def test_that_hangs_is_given_up_and_left_without_work(
        self, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(answers_module, "ANSWER_TIMEOUT_S", 0.2)
        hanging = Reciting(tokenizer, {}, mute=True)
        with pytest.raises(EngineFailed, match="no answer ended"):
            ask(hanging, tokenizer)
        assert {"a", "b"} <= set(hanging.cancelled)

    def test_stays_loaded(self, tokenizer: ChatTokenizer) -> None:
        runtime = Reciting(tokenizer, {"a": "yes[1]", "b": "no"})
        first, second = ask(runtime, tokenizer), ask(runtime, tokenizer)
        assert [one.token_ids for one in first.answers] == [one.token_ids for one in second.answers]
        assert not runtime.closed

    def test_has_no_more_answers_at_a_time_than_streams(self, tokenizer: ChatTokenizer) -> None:
        texts = {"a": "yes [1]", "b": "no [2]"}
        for streams in (1, 2):
            runtime = Reciting(tokenizer, texts, pause_s=0.1)
            ask(runtime, tokenizer, streams=streams)
            assert runtime.most == streams


class TestARequest:
    def test_is_what_the_generator_makes_of_it(self, tokenizer: ChatTokenizer) -> None:
        runtime = Reciting(tokenizer, {"a": "yes[1]", "b": "no[2]"})
        ask(runtime, tokenizer, CONSTRAINED)
        by_name = {request.generation_id: request for request in runtime.requests}
        assert by_name["a"].prompt_ids == (7, 8, 9)
        assert by_name["a"].grammar == citing_grammar(1)
        assert by_name["b"].grammar == citing_grammar(2)
        assert (by_name["a"].sampling.temperature, by_name["a"].sampling.max_tokens) == (0.0, 128)

    def test_has_no_grammar_where_citations_are_free(self, tokenizer: ChatTokenizer) -> None:
        runtime = Reciting(tokenizer, {"a": "yes", "b": "no"})
        ask(runtime, tokenizer, FREE)
        assert {request.grammar for request in runtime.requests} == {""}

    def test_is_not_made_for_what_was_declined(self, tokenizer: ChatTokenizer) -> None:
        runtime = Reciting(tokenizer, {"a": "yes", "b": "no"})
        given = ask(runtime, tokenizer)
        assert {request.generation_id for request in runtime.requests} == {"a", "b"}
        assert given.answers[2].text == "Nothing is here."
        assert (given.answers[2].token_ids, given.answers[2].prompt_tokens) == ((), 0)

    def test_comes_after_those_that_begin_like_it(self, tokenizer: ChatTokenizer) -> None:
        runtime = Reciting(tokenizer, {"a": "yes", "b": "no"})
        ask(runtime, tokenizer, streams=1)
        assert [request.generation_id for request in runtime.requests] == ["b", "a"]


class TestAnAnswer:
    def test_loses_marks_that_name_no_context_but_not_their_trace(self, tokenizer: ChatTokenizer) -> None:
        given = ask(Reciting(tokenizer, {"a": "yes [1][9].", "b": "no"}), tokenizer)
        assert (given.answers[0].text, given.answers[0].raw) == ("yes [1].", "yes [1][9].")
        assert given.answers[0].cited == [1]
        assert given.answers[0].token_ids == tuple(tokenizer.encode("yes [1][9]."))

    def test_that_was_cut_says_so(self, tokenizer: ChatTokenizer) -> None:
        given = ask(Reciting(tokenizer, {"a": "yes", "b": "no"}, finish="length"), tokenizer)
        assert [one.finish for one in given.answers[:2]] == ["length", "length"]

    def test_stands_where_its_prompt_stood(self, tokenizer: ChatTokenizer) -> None:
        given = ask(Reciting(tokenizer, {"a": "yes", "b": "no"}), tokenizer)
        assert [one.question_id for one in given.answers] == ["a", "b", "c"]
        assert given.generated_tokens == sum(len(one.token_ids) for one in given.answers)
        assert all(0 < one.first_token_s <= one.total_s <= given.wall_s for one in given.answers[:2])


class TestAgreement:
    def of(self, one: Sequence[int], other: Sequence[int]) -> tuple[float, float]:
        sides = [together(said("x").model_copy(update={"token_ids": tuple(ids)})) for ids in (one, other)]
        found = agreement(*sides)
        assert found.answers == 1
        assert found.identical is not None
        assert found.common_prefix is not None
        return found.identical, found.common_prefix

    @pytest.mark.parametrize(
        ("one", "other", "share"),
        [
            ([], [], 1.0),
            ([], [1], 0.0),
            ([1, 2, 3, 4], [1, 2, 3, 4], 1.0),
            ([1, 2, 3, 4], [1, 2, 3], 0.75),
            ([1, 2, 9, 4], [1, 2, 3, 4], 0.5),
            ([9, 2, 3, 4], [1, 2, 3, 4], 0.0),
        ],
    )
    def test_is_of_whole_answers_and_of_how_they_begin(
        self, one: Sequence[int], other: Sequence[int], share: float
    ) -> None:
        assert self.of(one, other) == (float(list(one) == list(other)), share)
        assert self.of(other, one) == self.of(one, other)

    def test_leaves_out_what_no_engine_was_asked(self) -> None:
        declined = said("Not found.", name="c", tokens=0)
        assert agreement(together(said("x"), declined), together(said("x"), declined)).answers == 1

    def test_is_of_the_same_questions_only(self) -> None:
        with pytest.raises(ValueError, match="same questions"):
            agreement(together(said("x", name="a")), together(said("x", name="b")))

    def test_of_no_answer_is_no_number(self) -> None:
        declined = together(said("Not found.", name="c", tokens=0))
        assert agreement(declined, declined).model_dump() == {"answers": 0, "identical": None, "common_prefix": None}
