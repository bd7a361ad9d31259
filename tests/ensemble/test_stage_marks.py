"""Stage times as tensors, and which of them the generator sends when."""

from collections.abc import Iterator
from time import monotonic_ns

import pytest

from slipstream.engines.protocols import Sampling, TokenDelta
from slipstream.ensemble.contracts import Evidence
from slipstream.ensemble.generation import Question
from slipstream.ensemble.generator import Generator
from slipstream.ensemble.live import Live
from slipstream.ensemble.stage_marks import Before, Marks
from slipstream.ensemble.stopping import StopFilter
from slipstream.ensemble.tokenizer import ChatTokenizer, TextStream
from tests.ensemble.fake_runtime import ScriptedRuntime
from tests.ensemble.test_generator import Collected, wait_until
from tests.ensemble.words import write_tokenizer

BEFORE = Before(1, 2, 3, 4, 5, 6, 7, 8)


class TestTensor:
    @pytest.mark.parametrize(
        "values", [[], [0], [0, 1], [8, *BEFORE], [8, *BEFORE, 1], [7, 1, 2, 3, 4, 5, 6, 7, 8, 9], [-1, 1, 1], [10**12]]
    )
    def test_what_is_none_of_ours_is_no_marks(self, values: list[int]) -> None:
        assert Marks.decode(values) is None

    @pytest.mark.parametrize("before", [None, BEFORE])
    @pytest.mark.parametrize("steps", [(), (11,), tuple(range(11, 500))])
    def test_what_is_encoded_is_decoded(self, before: Before | None, steps: tuple[int, ...]) -> None:
        marks = Marks(9, 10, steps, before)
        assert Marks.decode(marks.encode()) == marks

    @pytest.mark.parametrize("wrong", [(), (1,), (1, 2, 3), (1, 2, 3, 4, 5)])
    def test_a_tensor_of_a_wrong_length_says_nothing(self, wrong: tuple[int, ...]) -> None:
        assert Before.of(wrong, wrong, 7, 8) == Before(submitted=7, taken=8)
        assert Before.of((1, 2), (3, 4, 5, 6), 7, 8) == BEFORE


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


class TimedRuntime(ScriptedRuntime):
    """One whose deltas say when."""

    def step(self, token: int, step_ns: int, taken_ns: int = 0, *, is_last: bool = False) -> None:
        self._emits["a"](TokenDelta("a", (token,), "stop" if is_last else None, "", step_ns, taken_ns))


@pytest.fixture
def runtime() -> TimedRuntime:
    return TimedRuntime()


@pytest.fixture
def generator(runtime: TimedRuntime, tokenizer: ChatTokenizer) -> Iterator[Generator]:
    generator = Generator(runtime, tokenizer, max_concurrency=2)
    yield generator
    generator.close()


def ask(generator: Generator, stop: tuple[str, ...] = (), evidence: str = "") -> Collected:
    sink = Collected()
    sampling = Sampling(max_tokens=100)
    generator.submit(Question("a", [1], sampling, stop, evidence, "the-id", (1, 2), (3, 4, 5, 6)), sink)
    return sink


def marks(sink: Collected) -> list[Marks]:
    decoded = [Marks.decode(response.marks) for response in sink.responses]
    return [one for one in decoded if one is not None]


class TestGenerator:
    def test_the_engine_hears_the_id_of_the_client(self, generator: Generator, runtime: TimedRuntime) -> None:
        ask(generator)
        assert runtime.requests["a"].request_id == "the-id"

    def test_the_first_response_tells_what_was_before_and_each_its_own_steps(
        self, generator: Generator, runtime: TimedRuntime, tokenizer: ChatTokenizer
    ) -> None:
        asked = monotonic_ns()
        sink = ask(generator)
        submitted = monotonic_ns()
        (token,) = tokenizer.encode("y")
        for number in (1, 2):
            runtime.step(token, 100 * number, 50)
            wait_until(lambda number=number: len(sink.responses) == number)  # type: ignore[misc]
        runtime.step(token, 300, 50, is_last=True)
        sink.wait()
        first, second, last = marks(sink)
        assert [one.steps for one in (first, second, last)] == [(100,), (200,), (300,)]
        assert first.before is not None
        assert first.before[:6] == (1, 2, 3, 4, 5, 6)
        assert asked <= first.before.submitted <= submitted
        assert first.before.taken == 50
        assert second.before is last.before is None
        moments = [moment for one in (first, second, last) for moment in (one.detokenize_began, one.sent)]
        assert moments == sorted(moments)
        assert submitted <= moments[0] <= moments[-1] <= monotonic_ns()

    def test_steps_whose_text_was_withheld_are_told_with_the_next(self, tokenizer: ChatTokenizer) -> None:
        """Half a character is no text, nor is what may become a stop string."""
        live = Live(Question("a", [1], Sampling(9)), Collected(), TextStream(tokenizer), StopFilter((" no END",)), None)
        told: list[tuple[str, tuple[int, ...]]] = []
        for number, token in enumerate(tokenizer.encode("y noé"), 1):
            live.put(TokenDelta("a", (token,), "stop" if number == 6 else None, "", 100 * number, 50))
            response = live.respond(live.take())
            if response is not None and (found := Marks.decode(response.marks)) is not None:
                told.append((response.text, found.steps))
        assert told == [("y", (100,)), (" noé", (200, 300, 400, 500, 600))]

    def test_a_runtime_that_knows_no_times_is_timed_by_when_its_tokens_come(
        self, generator: Generator, runtime: TimedRuntime, tokenizer: ChatTokenizer
    ) -> None:
        sink = ask(generator)
        before = monotonic_ns()
        runtime.emit("a", *tokenizer.encode("yes"))  # at once
        after = monotonic_ns()
        runtime.emit("a", finish="stop")
        (step,) = (step for one in marks(sink.wait()) for step in one.steps)
        assert before <= step <= after
        found = marks(sink)[0].before
        assert found is not None
        assert found.taken == 0

    def test_an_answer_that_found_nothing_tells_of_the_search_and_of_no_engine(self, generator: Generator) -> None:
        fields = {"hits": [], "collection": "code", "index_version": "1", "confidence": 0.1}
        sink = ask(generator, evidence=Evidence(declined="no.", **fields).model_dump_json())
        (only,) = marks(sink)
        assert only.steps == ()
        assert only.before is not None
        assert only.before[:6] == (1, 2, 3, 4, 5, 6)
        assert 0 < only.before.submitted <= only.detokenize_began <= only.sent
        assert only.before.taken == 0
