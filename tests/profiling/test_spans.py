"""Spans and ranges: what is timed, what a tool gets, and what is left undone where nobody listens."""

import os
import subprocess
import sys
import threading
import time

import pytest

from slipstream.profiling import spans
from tests.profiling.fake_nvtx import RecordingDomain


def alone(script: str, **env: str) -> str:
    """What ``script`` prints in a Python of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NVTX_INJECTION64_PATH", "LD_PRELOAD")}
    done = subprocess.run([sys.executable, "-c", script], env=kept | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> RecordingDomain:
    recording = RecordingDomain()
    monkeypatch.setattr(spans, "_domain", recording)
    return recording


class TestWithATool:
    def test_a_block_that_raises_leaves_no_range_open(self, domain: RecordingDomain) -> None:
        with pytest.raises(ValueError, match="inside"), spans.span("embed", "r"):
            raise ValueError("inside")
        assert domain.pushed == []
        assert domain.ranges == [("embed", spans.payload("r"))]

    def test_ranges_of_several_requests_overlap_and_end_on_other_threads(self, domain: RecordingDomain) -> None:
        first, second = spans.begin("decode", "a"), spans.begin("queue", "b")
        thread = threading.Thread(target=first.end)
        thread.start()
        thread.join()
        second.end()
        assert domain.ranges == [("decode", spans.payload("a")), ("queue", spans.payload("b"))]
        assert domain.open == {}

    def test_a_step_carries_its_number_of_sequences(self, domain: RecordingDomain) -> None:
        with spans.span("step", 5):
            pass
        assert domain.ranges == [("step", 5)]


class TestTimes:
    def test_are_of_the_clock_that_all_processes_share(self) -> None:
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        with spans.span("embed", "r") as block:
            inside = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        opened = spans.begin("stream", "r")
        between = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        ended = opened.end()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        assert before <= block.start_ns <= inside <= block.end_ns <= between
        assert block.end_ns <= ended.start_ns <= between <= ended.end_ns <= after
        assert ended.stage == "stream"

    def test_of_a_block_that_raised_are_known(self) -> None:
        with pytest.raises(ValueError, match="inside"), spans.span("embed", "r") as block:
            raise ValueError("inside")
        assert 0 < block.start_ns <= block.end_ns


class TestPayload:
    @pytest.mark.parametrize("request_id", ["", "a", "x" * 128, "запрос", "\x00"])
    def test_is_a_positive_signed_integer_of_64_bits(self, request_id: str) -> None:
        assert 0 <= spans.payload(request_id) < 2**63

    def test_is_the_same_in_every_process_and_another_for_another_request(self) -> None:
        elsewhere = alone("from slipstream.profiling.spans import payload; print(payload('one'))", PYTHONHASHSEED="1")
        assert int(elsewhere) == spans.payload("one") != spans.payload("two")


class TestNobodyListens:
    def test_nvtx_is_not_even_imported_and_no_room_is(self) -> None:
        used = (
            "import sys\n"
            "from slipstream.profiling import spans\n"
            "with spans.span('embed', 'r'): spans.begin('queue', 'r').end()\n"
            "assert not spans.is_traced()\n"
            "print(sorted(m for m in sys.modules if m.startswith(('slipstream.', 'nvtx', 'numpy'))))"
        )
        assert alone(used) == "['slipstream.profiling', 'slipstream.profiling.spans']"

    @pytest.mark.parametrize("hidden", ["", "sys.modules['nvtx'] = None\n"], ids=["installed", "not installed"])
    def test_a_tool_that_is_not_there_is_no_error(self, hidden: str) -> None:
        """The variable names a library that does not exist: NVTX finds no tool, and ranges go nowhere."""
        script = (
            f"import sys\n{hidden}from slipstream.profiling import spans\n"
            "with spans.span('embed', 'r') as block: opened = spans.begin('queue', 'r')\n"
            "print(0 < block.start_ns <= block.end_ns <= opened.end().end_ns)"
        )
        assert alone(script, NVTX_INJECTION64_PATH="/nowhere/tool.so") == "True"


def test_switched_off_nothing_is_timed_nor_marked() -> None:
    script = (
        "from slipstream.profiling import spans\n"
        "with spans.span('embed', 'r') as block: pass\n"
        "print(spans.ENABLED, block.start_ns, block.end_ns, spans.begin('queue', 'r').end()[1:], spans.is_traced())"
    )
    off = {"SLIPSTREAM_SPANS": "0", "NVTX_INJECTION64_PATH": "/nowhere/tool.so"}
    assert alone(script, **off) == "False 0 0 (0, 0) False"
