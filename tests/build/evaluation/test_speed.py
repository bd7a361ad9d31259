"""The clock: what it counts, who takes turns, and what it does with an engine that fails."""

import threading
import time
from collections.abc import Callable

import pytest

from slipstream.build.evaluation import speed
from slipstream.build.evaluation.speed import STREAMS, EngineSilent, Rates, measure, prompts_needed, run_batch
from slipstream.engines.protocols import Emit, GenerationRequest, RuntimeMetrics, TokenDelta

PROMPTS = [[number, 1, 2] for number in range(prompts_needed())]


class Paced:
    """A runtime that prefills for 10 ms and then gives a token every ``step_s``; each stream has a thread."""

    def __init__(self, calls: list[tuple[str, int]], name: str, step_s: float = 0.0002, *, fails: bool = False) -> None:
        self._calls, self._name, self._step_s, self._fails = calls, name, step_s, fails
        self.closed = False

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        self._calls.append((self._name, request.prompt_ids[0]))
        assert request.sampling.ignore_eos
        threading.Thread(target=self._generate, args=(request, emit)).start()

    def _generate(self, request: GenerationRequest, emit: Emit) -> None:
        if self._fails:
            emit(TokenDelta(request.generation_id, (), "error", "out of blocks"))
            return
        time.sleep(0.01)
        for number in range(request.sampling.max_tokens):
            emit(TokenDelta(request.generation_id, (number,)))
            time.sleep(self._step_s)
        emit(TokenDelta(request.generation_id, (), "length"))

    def cancel(self, generation_id: str) -> bool:
        return False

    def metrics(self) -> RuntimeMetrics:
        return RuntimeMetrics()

    def close(self) -> None:
        self.closed = True


def test_a_batch_is_clocked_from_submission_to_the_last_token() -> None:
    rates = run_batch(Paced([], "a", step_s=0.002), PROMPTS[:2], "a", tokens=20)
    assert 0.01 <= rates.ttft_s < 0.2
    assert 0 < rates.decode <= 500  # 19 gaps of at least 2 ms
    assert 0 < rates.output <= 2 * 20 / (0.01 + 19 * 0.002)


def test_engines_take_turns_and_no_prompt_comes_twice() -> None:
    calls: list[tuple[str, int]] = []
    engines: dict[str, Callable[[], Paced]] = {name: lambda name=name: Paced(calls, name) for name in "ab"}
    found = measure(engines, PROMPTS, lambda share, doing: None, rounds=2)
    assert [name for name, first in calls] == [
        *"ab",  # warming up
        *("a" * (1 + STREAMS)), *("b" * (1 + STREAMS)),
        *("b" * (1 + STREAMS)), *("a" * (1 + STREAMS)),
    ]  # fmt: skip
    for name in "ab":
        asked = [first for caller, first in calls if caller == name]
        assert len(set(asked)) == len(asked)
    assert found["a"].alone.streams == 1
    assert found["a"].loaded.streams == STREAMS
    assert found["a"].loaded.output > found["a"].alone.output


def test_a_number_is_the_median_of_its_rounds_and_its_spread_is_from_the_lowest_to_the_highest() -> None:
    found = speed._summary(8, [Rates(100, 10, 0.3), Rates(90, 12, 0.1), Rates(130, 11, 0.2)])
    assert (found.output, found.output_spread) == (100, pytest.approx(0.4))
    assert (found.decode, found.decode_spread, found.ttft_s) == (11, pytest.approx(2 / 11), 0.2)


def test_an_engine_that_fails_is_named_with_its_error() -> None:
    with pytest.raises(EngineSilent, match="a failed while it was measured: out of blocks"):
        run_batch(Paced([], "a", fails=True), PROMPTS[:1], "a")


def test_every_engine_is_closed_when_one_fails() -> None:
    loaded: list[Paced] = []

    def load(*, fails: bool) -> Paced:
        loaded.append(Paced([], "x", fails=fails))
        return loaded[-1]

    with pytest.raises(EngineSilent):
        measure({"a": lambda: load(fails=False), "b": lambda: load(fails=True)}, PROMPTS, lambda share, doing: None)
    assert [one.closed for one in loaded] == [True, True]


def test_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(Paced):
        def submit(self, request: GenerationRequest, emit: Emit) -> None: ...

    monkeypatch.setattr(speed, "_SILENCE_S", 0.05)
    with pytest.raises(EngineSilent, match="said nothing"):
        run_batch(Mute([], "a"), PROMPTS[:1], "a")
