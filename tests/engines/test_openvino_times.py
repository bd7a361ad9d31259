"""When the OpenVINO runtime took each request and when each step ended, as its deltas tell."""

from time import monotonic_ns
from types import SimpleNamespace
from typing import cast

import pytest

from slipstream.engines.openvino.link import Link, Message
from slipstream.engines.openvino.pipeline import EngineConfig
from slipstream.engines.openvino.ranges import Ranges
from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.openvino.worker import Worker
from slipstream.engines.protocols import Sampling
from slipstream.profiling import spans
from tests.engines.conftest import Reader
from tests.profiling.fake_nvtx import RecordingDomain

PROMPT = [72, 101, 108, 108, 111]
SLOTS = 4  # of the fixture `runtime`


def ask(runtime: OpenVinoRuntime, name: str, max_tokens: int) -> Reader:
    return Reader(runtime, name, PROMPT, Sampling(max_tokens=max_tokens))


def test_of_one_request_lie_in_order_between_its_submission_and_its_end(runtime: OpenVinoRuntime) -> None:
    before = monotonic_ns()
    reader = ask(runtime, "one", 20).wait()
    after = monotonic_ns()
    steps = [delta.step_ns for delta in reader.deltas]
    (taken,) = {delta.taken_ns for delta in reader.deltas}
    assert len(reader.tokens) == 20
    assert len(steps) >= 20
    assert before <= taken < steps[0]
    assert steps == sorted(set(steps))
    assert steps[-1] <= after


def test_one_that_waits_for_a_slot_is_taken_when_another_has_ended(runtime: OpenVinoRuntime) -> None:
    readers = [ask(runtime, f"r{number}", 40) for number in range(SLOTS + 1)]
    for reader in readers:
        reader.wait()
    *served, waited = readers
    first_end = min(reader.deltas[-1].step_ns for reader in served)
    assert all(reader.deltas[0].taken_ns < first_end for reader in served)
    assert waited.deltas[0].taken_ns >= first_end


def test_one_that_was_never_taken_has_no_times(runtime: OpenVinoRuntime) -> None:
    busy = [ask(runtime, f"b{number}", 1500) for number in range(SLOTS)]
    waiting = ask(runtime, "waiting", 5)
    runtime.cancel("waiting")
    (delta,) = waiting.wait().deltas
    assert (delta.finish_reason, delta.step_ns, delta.taken_ns) == ("cancelled", 0, 0)
    for reader in busy:
        runtime.cancel(reader.generation_id)
        reader.wait()


def test_a_step_has_the_time_of_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of its beginning: the step of a prompt is 0.2 s long."""
    clock = [100]

    class Pipeline:
        def step(self) -> None:
            clock[0] = 300

        def get_metrics(self) -> SimpleNamespace:
            return SimpleNamespace(cache_usage=0.0)

    monkeypatch.setattr(spans, "now_ns", lambda: clock[0])
    worker = Worker(Pipeline(), cast("Link", None), SLOTS, cast("EngineConfig", None))
    assert worker._step() == ([], 300)


def test_that_a_request_was_taken_is_told_once() -> None:
    messages: list[Message] = []
    link = cast("Link", SimpleNamespace(send=messages.append))
    worker = Worker(None, link, SLOTS, cast("EngineConfig", None))
    worker._taken.append((1, 5))
    for step_ns in (10, 20):
        worker._report([(1, [3], None, "")], step_ns)
    assert [message[-2:] for message in messages] == [[10, [(1, 5)]], [20, []]]


class TestRanges:
    @pytest.fixture
    def domain(self, monkeypatch: pytest.MonkeyPatch) -> RecordingDomain:
        recording = RecordingDomain()
        monkeypatch.setattr(spans, "_domain", recording)
        return recording

    def test_of_a_request_are_its_wait_its_prompt_and_a_step_for_every_further_delta(
        self, domain: RecordingDomain
    ) -> None:
        ranges = Ranges()
        ranges.enter(1, "queue", "r")
        ranges.enter(1, "prefill", "r")
        for is_last in (False, False, True):
            ranges.advance(1, is_last=is_last)
        assert domain.ranges == [(stage, spans.payload("r")) for stage in ("queue", "prefill", "decode", "decode")]
        assert domain.open == {}

    def test_of_one_that_is_dropped_end_there(self, domain: RecordingDomain) -> None:
        ranges = Ranges()
        ranges.enter(1, "queue", "r")
        ranges.leave(1)
        ranges.leave(1)
        ranges.advance(1, is_last=False)
        ranges.leave(2)
        assert domain.ranges == [("queue", spans.payload("r"))]
        assert domain.open == {}

    def test_where_nobody_listens_nothing_is_kept(self) -> None:
        ranges = Ranges()
        ranges.enter(1, "queue", "r")
        ranges.advance(1, is_last=False)
        assert not ranges._open
