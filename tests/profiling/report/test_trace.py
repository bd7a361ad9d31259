"""The trace that Perfetto opens: complete events in microseconds, parts of the machine as processes."""

import json
from dataclasses import replace
from typing import Any

from slipstream.profiling.diagnosis.case import EngineLook
from slipstream.profiling.report.trace import CLIENT, ENGINE, FACADE, MACHINE, TRITON, trace
from slipstream.profiling.telemetry.records import Gpu
from slipstream.profiling.timeline.model import Span, Timeline
from tests.profiling.made import START_NS, S, looks, request, timing


def events(*requests: Any, **given: Any) -> list[dict[str, Any]]:
    timeline = Timeline.of(requests)
    received = [one.sent_ns + 500_000 for one in timeline.requests]
    document = json.loads(trace(timeline, received, start_ns=START_NS, **given))
    assert set(document) == {"traceEvents", "displayTimeUnit"}
    found: list[dict[str, Any]] = document["traceEvents"]
    return found


def test_every_span_is_a_complete_event_in_the_process_that_ran_it() -> None:
    found = [event for event in events(request(3, 2.0, timing(steps=(12.0, 14.0)))) if event["ph"] == "X"]
    drawn = [(event["name"], event["pid"], event["ts"], event["dur"]) for event in found]
    assert drawn == [
        ("request", CLIENT, 2_000_000.0, 105_500.0),
        ("until the first token", CLIENT, 2_000_000.0, 79_000.0),
        ("queue", FACADE, 2_000_500.0, 2_000.0),
        ("embed", TRITON, 2_002_500.0, 9_000.0),
        ("retrieve", TRITON, 2_011_500.0, 6_000.0),
        ("prompt", TRITON, 2_017_500.0, 1_000.0),
        ("prefill", ENGINE, 2_018_500.0, 60_000.0),
        ("decode", ENGINE, 2_078_500.0, 12_000.0),
        ("decode", ENGINE, 2_090_500.0, 14_000.0),
        ("stream", FACADE, 2_104_500.0, 500.0),
    ]
    assert [event["args"] for event in found if event["name"] == "decode"] == [{"step": 1}, {"step": 2}]
    assert {event["tid"] for event in found} == {4}


def test_processes_and_threads_have_names() -> None:
    named = {
        (event["name"], event["pid"], event["tid"]): event["args"]
        for event in events(request(0, 0), request(1, 1))
        if event["ph"] == "M"
    }
    assert named["process_name", ENGINE, 0] == {"name": "engine"}
    assert named["thread_name", CLIENT, 2] == {"name": "request 1"}


def test_events_of_one_thread_nest_or_follow_and_never_overlap() -> None:
    """Perfetto drops a complete event that overlaps another one of its thread only in part."""
    lanes: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in events(*(request(n, n / 10) for n in range(5))):
        if event["ph"] == "X":
            assert event["dur"] >= 0
            lanes.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    for lane in lanes.values():
        for start, end in lane:
            for other, until in lane:
                apart = end <= other + 0.01 or until <= start + 0.01
                nested = (start >= other and end <= until) or (other >= start and until <= end)
                assert apart or nested


def test_a_span_that_its_rounding_makes_end_too_late_ends_where_the_next_begins() -> None:
    """As a server tells it: every beginning and every length in whole microseconds."""
    told = timing({}, ())
    for late_ms, drawn in ((0.001, 20_000), (0.002, 20_002)):
        spans = (Span("decode", 1.0, 20.0 + late_ms), Span("stream", 1.5, 0.2), Span("decode", 21.0, 9.0))
        found = [one for one in events(request(0, 2.0, replace(told, spans=spans))) if one["name"] == "decode"]
        assert [(one["ts"], one["dur"]) for one in found] == [(2_001_500, drawn), (2_021_500, 9_000)]


def test_what_was_sampled_is_a_counter() -> None:
    watched = looks(2, cpu_share=[0.5, None], memory_bytes=2**30)
    found = [
        event
        for event in events(request(), telemetry=watched, engine=[EngineLook(1.5, 3, 1, 0.25)])
        if event["ph"] == "C"
    ]
    assert [(event["name"], event["ts"], event["args"]) for event in found] == [
        ("CPU, % of all cores", 500_000.0, {"machine": 50.0}),
        ("memory, MiB", 500_000.0, {"used": 1024.0}),
        ("memory, MiB", 1_000_000.0, {"used": 1024.0}),
        ("generations", 1_500_000.0, {"active": 3, "waiting": 1}),
        ("KV cache, %", 1_500_000.0, {"used": 25.0}),
    ]
    assert {event["pid"] for event in found} == {MACHINE}


def test_equal_instances_of_one_card_are_counters_of_their_own() -> None:
    """Perfetto takes counters of one name for one."""
    used = [Gpu(0, f"MIG-{number}2345678-9abc", "1g.10gb", memory_bytes=2**30) for number in range(2)]
    found = [event for event in events(request(), telemetry=looks(1, gpus=tuple(used))) if event["ph"] == "C"]
    assert [event["name"] for event in found] == [
        "GPU 0 1g.10gb (MIG-02345678), MiB", "GPU 0 1g.10gb (MIG-12345678), MiB"
    ]  # fmt: skip


def test_a_request_that_cannot_be_placed_shows_what_the_client_saw() -> None:
    timeline = Timeline.of([request(0, 1.0)])
    found = json.loads(trace(timeline, [None], start_ns=START_NS))["traceEvents"]
    assert [event["name"] for event in found if event["ph"] == "X"] == ["request", "until the first token"]
    assert found[-1]["ts"] == S / 1e3
