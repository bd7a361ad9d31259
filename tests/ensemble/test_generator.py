"""The generator between a scripted engine and its sinks. The real engine and Triton are in `tests/integration`."""

import threading
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from slipstream.engines.protocols import Sampling
from slipstream.ensemble.contracts import ErrorCode, Evidence, Hit, SearchResult
from slipstream.ensemble.generation import Question, Refusal, Response
from slipstream.ensemble.generator import Generator
from slipstream.ensemble.grammar import citing_grammar
from slipstream.ensemble.tokenizer import ChatTokenizer
from tests.ensemble.fake_runtime import ScriptedRuntime
from tests.ensemble.words import write_tokenizer


class Collected:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.responses: list[Response] = []
        self.error: tuple[str, str] | None = None
        self.gone = False
        self.ended = threading.Event()
        self.breaks = False

    def send(self, response: Response) -> None:
        if self.breaks:
            raise ConnectionError("the reader broke")
        self.responses.append(response)
        if response.finish_reason:
            self.ended.set()

    def fail(self, code: ErrorCode, message: str) -> None:
        self.error = (code, message)
        self.ended.set()

    def is_gone(self) -> bool:
        return self.gone

    @property
    def text(self) -> str:
        return "".join(response.text for response in self.responses)

    def wait(self) -> "Collected":
        assert self.ended.wait(5), f"no end after {self.responses}"
        return self


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def runtime() -> ScriptedRuntime:
    return ScriptedRuntime()


@pytest.fixture
def generator(runtime: ScriptedRuntime, tokenizer: ChatTokenizer) -> Iterator[Generator]:
    generator = Generator(runtime, tokenizer, max_concurrency=2, max_waiting=1, stream_interval=3)
    yield generator
    generator.close()


def ask(generator: Generator, name: str = "a", stop: tuple[str, ...] = (), hits: str = "") -> Collected:
    sink = Collected()
    generator.submit(Question(name, [1, 2, 3], Sampling(max_tokens=100), stop, hits), sink)
    return sink


def hits(count: int) -> str:
    hit = Hit(path="a.py", line_start=1, line_end=2, symbol="f", repo="r", language="python", score=1.0, text="x")
    return SearchResult(hits=[hit] * count, collection="code", index_version="1", confidence=0.9).model_dump_json()


class TestUgly:
    def test_a_full_queue_refuses_at_once(self, generator: Generator) -> None:
        for name in "abc":
            ask(generator, name)
        with pytest.raises(Refusal) as refused:
            ask(generator, "d")
        assert refused.value.code == "overloaded"

    def test_the_place_of_a_finished_one_is_free_again(self, generator: Generator, runtime: ScriptedRuntime) -> None:
        sinks = [ask(generator, name) for name in "abc"]
        runtime.emit("b", finish="stop")
        sinks[1].wait()
        ask(generator, "d")

    def test_an_id_that_is_live_is_refused(self, generator: Generator) -> None:
        ask(generator, "a")
        with pytest.raises(Refusal, match="live"):
            ask(generator, "a")

    def test_hits_that_are_no_result_are_refused_before_the_engine_works(
        self, generator: Generator, runtime: ScriptedRuntime
    ) -> None:
        with pytest.raises(Refusal):
            ask(generator, hits="{}")
        assert not runtime.requests

    def test_a_sink_that_breaks_frees_its_slot_and_harms_no_other(
        self, generator: Generator, runtime: ScriptedRuntime, tokenizer: ChatTokenizer
    ) -> None:
        broken, well = ask(generator, "a"), ask(generator, "b")
        broken.breaks = True
        runtime.emit("a", *tokenizer.encode("yes"))
        runtime.emit("b", *tokenizer.encode("no"), finish="stop")
        assert well.wait().text == "no"
        assert runtime.cancelled == ["a"]

    def test_an_engine_error_reaches_the_client(self, generator: Generator, runtime: ScriptedRuntime) -> None:
        sink = ask(generator)
        runtime.emit("a", finish="error", error="no room")
        sink.wait()
        assert sink.error == ("engine_error", "no room")

    def test_closing_ends_every_stream(self, runtime: ScriptedRuntime, tokenizer: ChatTokenizer) -> None:
        generator = Generator(runtime, tokenizer)
        sink = ask(generator)
        generator.close()
        assert sink.wait().responses[-1].finish_reason == "cancelled"
        with pytest.raises(Refusal):
            ask(generator, "b")


class TestStream:
    def test_counts_hits_and_finish(
        self, generator: Generator, runtime: ScriptedRuntime, tokenizer: ChatTokenizer
    ) -> None:
        sink = ask(generator, hits=hits(1))
        ids = tokenizer.encode("yes no")
        runtime.emit("a", ids[0])
        wait_until(lambda: len(sink.responses) == 1)
        runtime.emit("a", *ids[1:])
        runtime.emit("a", finish="length")
        last = sink.wait().responses[-1]
        assert sink.text == "yes no"
        assert (last.prompt_tokens, last.completion_tokens, last.finish_reason) == (3, len(ids), "length")
        assert [bool(response.hits) for response in sink.responses] == [True] + [False] * (len(sink.responses) - 1)

    @pytest.mark.parametrize("stop", [(), ("END",)])
    def test_an_answer_cut_inside_a_character_ends_before_it(
        self, generator: Generator, runtime: ScriptedRuntime, tokenizer: ChatTokenizer, stop: tuple[str, ...]
    ) -> None:
        sink = ask(generator, stop=stop)
        ids = tokenizer.encode("yes 😀")
        runtime.emit("a", *ids[:-1], finish="length")
        assert sink.wait().text == "yes "
        assert sink.responses[-1].completion_tokens == len(ids) - 1

    def test_a_stop_string_ends_the_answer_and_frees_the_slot(
        self, generator: Generator, runtime: ScriptedRuntime, tokenizer: ChatTokenizer
    ) -> None:
        sink = ask(generator, stop=("END",))
        runtime.emit("a", *tokenizer.encode("yes END no"))
        wait_until(lambda: runtime.cancelled == ["a"])
        runtime.emit("a", *tokenizer.encode("more"))
        runtime.emit("a", finish="cancelled")
        assert sink.wait().text == "yes "
        assert sink.responses[-1].finish_reason == "stop"

    def test_a_mark_that_names_no_context_never_leaves(
        self, generator: Generator, runtime: ScriptedRuntime, tokenizer: ChatTokenizer
    ) -> None:
        sink = ask(generator, hits=hits(2))
        for token in tokenizer.encode("yes [2] no [9]."):
            runtime.emit("a", token)
        runtime.emit("a", finish="stop")
        assert sink.wait().text == "yes [2] no."

    @pytest.mark.parametrize("text", ["yes [", "yes [2", "yes ", "`yes [no", "[1] no ["])
    def test_what_might_have_become_a_mark_leaves_at_the_end(
        self, generator: Generator, runtime: ScriptedRuntime, tokenizer: ChatTokenizer, text: str
    ) -> None:
        sink = ask(generator, hits=hits(2))
        runtime.emit("a", *tokenizer.encode(text), finish="length")
        assert sink.wait().text == text

    def test_without_contexts_marks_are_the_models_own_business(
        self, generator: Generator, runtime: ScriptedRuntime, tokenizer: ChatTokenizer
    ) -> None:
        sink = ask(generator)
        runtime.emit("a", *tokenizer.encode("x = [9]"), finish="stop")
        assert sink.wait().text == "x = [9]"

    def test_a_client_that_left_is_noticed(
        self, generator: Generator, runtime: ScriptedRuntime, tokenizer: ChatTokenizer
    ) -> None:
        sink = ask(generator)
        sink.gone = True

        def emitted_until_cancelled() -> bool:
            runtime.emit("a", *tokenizer.encode("yes"))
            return runtime.cancelled == ["a"]

        wait_until(emitted_until_cancelled)

    def test_when_crowded_tokens_travel_together_but_the_first_never_waits(
        self, generator: Generator, runtime: ScriptedRuntime, tokenizer: ChatTokenizer
    ) -> None:
        sink, _ = ask(generator, "a"), ask(generator, "b")
        first, *rest = tokenizer.encode("yesnoyesno")
        runtime.emit("a", first)
        wait_until(lambda: len(sink.responses) == 1)
        for token in rest:
            runtime.emit("a", token)
        runtime.emit("a", finish="stop")
        assert sink.wait().text == "yesnoyesno"
        assert len(sink.responses) <= 2 + len(rest) // 3

    def test_cancel_reaches_the_engine(self, generator: Generator, runtime: ScriptedRuntime) -> None:
        ask(generator)
        assert generator.cancel("a")
        assert not generator.cancel("unknown")
        assert runtime.cancelled == ["a", "unknown"]


class TestConstrained:
    """What the engine is told; that it obeys is specified in `tests.ensemble.test_grammar`."""

    @pytest.fixture
    def generator(self, runtime: ScriptedRuntime, tokenizer: ChatTokenizer) -> Iterator[Generator]:
        generator = Generator(runtime, tokenizer, max_concurrency=4, constrained=True)
        yield generator
        generator.close()

    def test_the_grammar_is_that_of_the_contexts_in_the_prompt(
        self, generator: Generator, runtime: ScriptedRuntime
    ) -> None:
        for name, count in (("a", 1), ("b", 3)):
            ask(generator, name, hits=hits(count))
            assert runtime.requests[name].grammar == citing_grammar(count)

    def test_an_answer_that_found_nothing_is_not_made_to_cite(
        self, generator: Generator, runtime: ScriptedRuntime, tokenizer: ChatTokenizer
    ) -> None:
        sink = ask(generator, hits=hits(0))
        assert runtime.requests["a"].grammar == ""
        runtime.emit("a", *tokenizer.encode("no [1]."), finish="stop")
        assert sink.wait().text == "no."

    def test_without_a_search_there_is_nothing_to_cite(self, generator: Generator, runtime: ScriptedRuntime) -> None:
        ask(generator)
        assert runtime.requests["a"].grammar == ""

    def test_code_with_brackets_leaves_as_it_was_written(
        self, generator: Generator, runtime: ScriptedRuntime, tokenizer: ChatTokenizer
    ) -> None:
        sink = ask(generator, hits=hits(2))
        for token in tokenizer.encode("`yes = [9]` [1]."):
            runtime.emit("a", token)
        runtime.emit("a", finish="stop")
        assert sink.wait().text == "`yes = [9]` [1]."

    def test_cut_before_a_mark_says_so(
        self, generator: Generator, runtime: ScriptedRuntime, tokenizer: ChatTokenizer
    ) -> None:
        sink = ask(generator, hits=hits(2))
        runtime.emit("a", *tokenizer.encode("`yes = [9]"), finish="length")
        assert sink.wait().text == "`yes = "
        assert sink.responses[-1].finish_reason == "length"


def test_free_answers_get_no_grammar(generator: Generator, runtime: ScriptedRuntime) -> None:
    ask(generator, hits=hits(2))
    assert runtime.requests["a"].grammar == ""


def wait_until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert monotonic() < deadline
        pause.wait(0.01)


SENTENCE = "yes no END."  # a token for each character


class TestNotFound:
    """The evidence says that there is none: the generator says so, and the engine is not asked."""

    def declined(self, sentence: str = SENTENCE) -> str:
        fields = {"hits": [], "collection": "code", "index_version": "1", "confidence": 0.1}
        return Evidence(declined=sentence, **fields).model_dump_json()

    def test_the_sentence_is_the_answer_and_no_slot_is_taken(
        self, generator: Generator, runtime: ScriptedRuntime
    ) -> None:
        for name in ("a", "b", "c", "d", "e"):  # more than there are slots and places in the queue
            sink = Collected()
            generator.submit(Question(name, [], Sampling(max_tokens=100), (), self.declined()), sink)
            (response,) = sink.responses
            assert (response.text, response.finish_reason, response.hits) == (SENTENCE, "stop", self.declined())
            assert (response.prompt_tokens, response.completion_tokens) == (0, len(SENTENCE))
        assert runtime.requests == {}
        assert not generator.cancel("a")

    @pytest.mark.parametrize("limit", [1, 4, len(SENTENCE) - 1, len(SENTENCE)])
    def test_fewer_tokens_than_the_sentence_has(self, generator: Generator, limit: int) -> None:
        sink = Collected()
        generator.submit(Question("a", [], Sampling(max_tokens=limit), (), self.declined()), sink)
        (response,) = sink.responses
        assert (response.text, response.completion_tokens) == (SENTENCE[:limit], limit)
        assert response.finish_reason == ("stop" if limit == len(SENTENCE) else "length")

    def test_a_cut_splits_no_character(self, generator: Generator) -> None:
        sink = Collected()
        generator.submit(Question("a", [], Sampling(max_tokens=5), (), self.declined("привет")), sink)
        assert sink.text == "пр"  # two bytes a letter, and a token a byte

    def test_a_stop_string_in_the_sentence_ends_it(self, generator: Generator) -> None:
        sink = Collected()
        generator.submit(Question("a", [], Sampling(max_tokens=100), (" END",), self.declined()), sink)
        (response,) = sink.responses
        assert (response.text, response.finish_reason) == ("yes no", "stop")
        assert response.completion_tokens == len("yes no")

    def test_a_stop_string_before_the_limit_is_what_ended_it(self, generator: Generator) -> None:
        sink = Collected()
        generator.submit(Question("a", [], Sampling(max_tokens=8), (" no",), self.declined()), sink)
        (response,) = sink.responses
        assert (response.text, response.finish_reason) == ("yes", "stop")

    def test_half_a_stop_string_at_the_end_withholds_nothing(self, generator: Generator) -> None:
        sink = Collected()
        generator.submit(Question("a", [], Sampling(max_tokens=100), ("END. And",), self.declined()), sink)
        assert sink.text == SENTENCE
