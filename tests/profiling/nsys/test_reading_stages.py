"""Stages, waits and GPU work of small exports whose answers are known."""

from pathlib import Path

import pytest

from slipstream.profiling.nsys.calls import kind_of
from slipstream.profiling.nsys.reading import read_export
from slipstream.profiling.nsys.results import Calls, StageTimes
from tests.profiling.nsys.exports import Made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "capture.sqlite")


def stage(made: Made, name: str) -> StageTimes:
    return next(one for one in read_export(made.path).stages if one.stage == name)


def test_percentiles_are_nearest_rank(made: Made) -> None:
    lengths = [place * 8 % 21 for place in range(1, 21)]  # 1 to 20 in another order
    for place, length in enumerate(lengths):
        made.pushed("embed", place * 100, place * 100 + length * 1000, payload=place)
    found = stage(made, "embed")
    assert (found.p50_ms, found.p90_ms, found.p95_ms, found.p99_ms, found.max_ms) == (10, 18, 19, 20, 20)
    assert (found.ranges, found.requests, found.total_ms) == (20, 20, 210)


def test_a_single_range_is_every_percentile(made: Made) -> None:
    made.pushed("embed", 0, 1500, payload=7)
    found = stage(made, "embed")
    assert {found.p50_ms, found.p90_ms, found.p95_ms, found.p99_ms, found.max_ms, found.total_ms} == {1.5}


def test_an_open_range_is_counted_and_not_timed(made: Made) -> None:
    made.begun("decode", 0, 10_000, payload=1)
    made.begun("decode", 500, None, payload=2)
    made.begun("stream", 600, None, payload=2)
    decode, stream = stage(made, "decode"), stage(made, "stream")
    assert (decode.ranges, decode.unclosed, decode.max_ms) == (1, 1, 10)
    assert (stream.ranges, stream.unclosed, stream.p99_ms) == (0, 1, 0)


def test_steps_belong_to_no_request(made: Made) -> None:
    made.pushed("step", 0, 10, payload=4)
    made.pushed("step", 20, 30, payload=4)
    assert stage(made, "step").requests is None


def test_ranges_of_other_domains_are_left_out_and_counted(made: Made) -> None:
    made.domain("NCCL", 1, number=2)
    made.pushed("embed", 0, 10, payload=1)
    made.pushed("embed", 0, 9000, domain=2)
    made.pushed("embed", 0, 9000, domain=0)  # the default domain has no row of its own
    reading = read_export(made.path)
    assert [(one.stage, one.ranges, one.max_ms) for one in reading.stages] == [("embed", 1, 0.01)]
    assert reading.foreign_ranges == 2


def test_a_domain_has_another_number_in_another_process(made: Made) -> None:
    made.domain("NCCL", 2, number=1)
    made.domain("slipstream", 2, number=2)
    made.pushed("embed", 0, 10, payload=1)
    made.pushed("prompt", 0, 10, process=2, domain=2, payload=1)
    made.pushed("all-reduce", 0, 10, process=2, domain=1)
    reading = read_export(made.path)
    assert [one.stage for one in reading.stages] == ["embed", "prompt"]
    assert reading.processes == 2


def test_stages_come_in_the_order_of_a_request(made: Made) -> None:
    for name in ("zebra", "step", "decode", "queue", "embed"):
        made.pushed(name, 0, 1)
    assert [one.stage for one in read_export(made.path).stages] == ["queue", "embed", "decode", "step", "zebra"]


def calls(made: Made) -> dict[tuple[str, str], Calls]:
    return {(one.stage, one.function): one for one in read_export(made.path).calls}


def test_a_wait_belongs_to_the_innermost_range_of_its_thread(made: Made) -> None:
    made.pushed("retrieve", 0, 100)
    made.pushed("embed", 20, 60)
    made.pushed("prompt", 0, 100, thread=2)
    made.call("poll", 30, 50)  # inside both
    made.call("poll", 70, 80)  # inside the outer one
    made.call("poll", 150, 180)  # inside none
    made.call("poll", 40, 45, thread=3)  # on a thread without ranges
    found = calls(made)
    assert {key: (one.times, one.total_ms) for key, one in found.items()} == {
        ("embed", "poll"): (1, 0.02),
        ("retrieve", "poll"): (1, 0.01),
    }


def test_a_wait_counts_as_far_as_its_range_goes(made: Made) -> None:
    made.pushed("embed", 0, 100)
    made.call("read", 90, 500)
    assert calls(made)["embed", "read"].total_ms == pytest.approx(0.01)


def test_what_a_call_calls_is_not_counted_again(made: Made) -> None:
    made.pushed("embed", 0, 100)
    made.call("getaddrinfo", 10, 60, nesting=0)
    made.call("poll", 20, 50, nesting=1)
    assert [one.function for one in read_export(made.path).calls] == ["getaddrinfo"]


def test_ranges_that_hold_no_thread_have_no_waits(made: Made) -> None:
    made.begun("decode", 0, 100)
    made.pushed("step", 200, 300)  # on the same thread
    made.call("futex", 10, 90)
    assert read_export(made.path).calls == ()


def test_a_thread_of_another_process_with_the_same_number_is_another(tmp_path: Path) -> None:
    made = Made(tmp_path / "two.sqlite", processes=(1, 2))
    made.pushed("embed", 0, 100, process=1, thread=5)
    made.pushed("step", 0, 100, process=2, thread=5)
    made.call("pthread_cond_wait", 10, 90, process=2, thread=5)
    assert [one.stage for one in read_export(made.path).calls] == ["step"]


def test_the_longest_functions_of_a_stage_are_told(made: Made) -> None:
    made.pushed("embed", 0, 1000)
    for number in range(9):
        made.call(f"function{number}", number * 100, number * 100 + 10 + number)
    assert [one.function for one in read_export(made.path).calls] == [f"function{number}" for number in range(8, 2, -1)]


def test_it_says_when_the_libraries_were_not_traced(made: Made) -> None:
    made.pushed("embed", 0, 100)
    assert any("not traced" in note for note in read_export(made.path).notes)
    made.call("poll", 1, 50)
    assert not any("not traced" in note for note in read_export(made.path).notes)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("pthread_cond_timedwait", "lock"), ("sem_wait", "lock"), ("epoll_wait", "socket"), ("recvmsg", "socket"),
        ("clock_nanosleep", "sleep"), ("pread64", "file"), ("waitpid", "process"), ("getrandom", "other"),
        ("__read_chk", "file"), ("pthread_join", "process"),
    ],
)  # fmt: skip
def test_a_function_tells_what_it_waits_for(function: str, kind: str) -> None:
    assert kind_of(function) == kind


def test_gpu_work_belongs_to_the_range_that_launched_it(tmp_path: Path) -> None:
    made = Made(tmp_path / "gpu.sqlite", processes=(1, 2))
    made.pushed("step", 0, 100, thread=1)
    made.pushed("embed", 0, 100, process=2, thread=1)
    made.pushed("retrieve", 10, 90, process=2, thread=1)
    made.launch(7, 50)  # in the step
    made.launch(7, 50, process=2)  # the same number, in retrieve inside embed
    made.launch(8, 95, process=2)
    made.launch(9, 200)  # outside
    made.kernel("gemm", 7, 300, 340)  # kernels run later than what launched them
    made.kernel("gemm", 7, 340, 350)  # a graph: one launch, two kernels
    made.kernel("softmax", 7, 310, 311, process=2)
    made.kernel("softmax", 8, 312, 314, process=2)
    made.kernel("idle", 9, 400, 401)
    made.kernel("unknown", 99, 400, 402)
    found = {(one.stage, one.name): (one.times, one.total_ms, one.longest_ms) for one in read_export(made.path).gpu}
    assert found == {
        ("step", "gemm"): (2, 0.05, 0.04),
        ("retrieve", "softmax"): (1, 0.001, 0.001),
        ("embed", "softmax"): (1, 0.002, 0.002),
        ("", "idle"): (1, 0.001, 0.001),
        ("", "unknown"): (1, 0.002, 0.002),
    }


def test_copies_are_told_by_direction_with_their_bytes(made: Made) -> None:
    made.pushed("step", 0, 100)
    for number in (1, 2, 3):
        made.launch(number, number * 10)
    made.copy(1, 1, 200, 210, 1000)
    made.copy(1, 2, 210, 230, 3000)
    made.copy(42, 3, 230, 240, 5)
    made.launch(4, 40)
    made.cleared(4, 240, 241, 64)
    found = {one.name: (one.kind, one.times, one.total_ms, one.moved_bytes) for one in read_export(made.path).gpu}
    assert found == {
        "host to device": ("copy", 2, 0.03, 4000),
        "copy kind 42": ("copy", 1, 0.01, 5),
        "memory set": ("set", 1, 0.001, 64),
    }


def test_a_graph_that_was_recorded_as_a_whole_is_told_and_noted(made: Made) -> None:
    made.pushed("step", 0, 100)
    for number in (1, 2, 3):
        made.launch(number, number * 10)
    made.graph(7, 1, 200, 240)
    made.graph(7, 2, 250, 310)
    made.graph(8, 3, 320, 330)
    made.graph(8, 4, 340, 341)  # launched before the capture
    made.kernel("sample", 3, 345, 346)
    reading = read_export(made.path)
    assert [(one.stage, one.kind, one.name, one.times, one.total_ms, one.longest_ms) for one in reading.gpu] == [
        ("", "graph", "CUDA graph 8", 1, 0.001, 0.001),
        ("step", "graph", "CUDA graph 7", 2, 0.1, 0.06),
        ("step", "graph", "CUDA graph 8", 1, 0.01, 0.01),
        ("step", "kernel", "sample", 1, 0.001, 0.001),
    ]
    (note,) = (note for note in reading.notes if "graph" in note)
    assert note.startswith("4 launches of CUDA graphs were recorded as wholes")


def test_without_graphs_nothing_is_noted_of_them(made: Made) -> None:
    made.pushed("step", 0, 100)
    made.kernel("gemm", 1, 10, 20)
    assert not any("graph" in note for note in read_export(made.path).notes)


def test_kernels_without_launches_are_outside_every_stage(made: Made) -> None:
    made.pushed("step", 0, 100)
    made.kernel("gemm", 1, 10, 20)
    assert [(one.stage, one.name) for one in read_export(made.path).gpu] == [("", "gemm")]


def test_a_machine_without_a_gpu_has_no_gpu_work(made: Made) -> None:
    made.pushed("step", 0, 100)
    assert read_export(made.path).gpu == ()
