"""The requests in Chrome's trace event format, which Perfetto (https://ui.perfetto.dev) and chrome://tracing open.

A process of the trace is a part of the machine (client, facade, Triton's models, engine), a thread is a request, and
what was sampled is a counter. Format: "Trace Event Format", Chromium project; moments are microseconds.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from slipstream.profiling.diagnosis.case import EngineLook
from slipstream.profiling.telemetry.records import Telemetry
from slipstream.profiling.timeline.model import Request, Timeline, Timing

Event = dict[str, Any]

CLIENT, FACADE, TRITON, ENGINE, MACHINE = range(1, 6)
_PARTS = {CLIENT: "client", FACADE: "facade", TRITON: "embedder and retriever", ENGINE: "engine", MACHINE: "machine"}
# `queue` is every wait for the next stage, so it stands with who receives requests and hands them on.
_PART_OF = {
    "queue": FACADE, "stream": FACADE, "embed": TRITON, "retrieve": TRITON, "prompt": TRITON, "prefill": ENGINE,
    "decode": ENGINE, "detokenize": ENGINE,
}  # fmt: skip


def trace(
    timeline: Timeline,
    received_ns: Sequence[int | None],
    telemetry: Sequence[Telemetry] = (),
    engine: Sequence[EngineLook] = (),
    start_ns: int = 0,
) -> str:
    """The trace as JSON, time 0 at the start of the run.

    Args:
        received_ns: when the server received each request [n]; of one for which it is None only the client's part is
            drawn.
        start_ns: of the run, on the clock of the requests.
    """
    events = [
        *_names(timeline),
        *(event for request, at in zip(timeline.requests, received_ns, strict=True)
          for event in _request(request, at, start_ns)),
        *_counters(telemetry, engine),
    ]  # fmt: skip
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, separators=(",", ":")) + "\n"


def _names(timeline: Timeline) -> Iterator[Event]:
    for part, name in _PARTS.items():
        yield {"ph": "M", "name": "process_name", "pid": part, "tid": 0, "args": {"name": name}}
        yield {"ph": "M", "name": "process_sort_index", "pid": part, "tid": 0, "args": {"sort_index": part}}
    for part in (CLIENT, FACADE, TRITON, ENGINE):
        for request in timeline.requests:
            name = f"request {request.index}"
            yield {"ph": "M", "name": "thread_name", "pid": part, "tid": _thread(request), "args": {"name": name}}


def _thread(request: Request) -> int:
    return request.index + 1  # 0 is the process itself


def _request(request: Request, received_ns: int | None, start_ns: int) -> Iterator[Event]:
    at = (request.sent_ns - start_ns) / 1e3
    facts = {"outcome": request.outcome, "prompt_tokens": request.prompt_tokens, "output_tokens": request.output_tokens}
    timing = request.timing
    if timing is not None:
        facts |= {"request_id": timing.request_id, "cached_prompt_tokens": timing.cached_prompt_tokens}
    yield _complete("request", CLIENT, request, at, request.end_to_end_ms * 1e3, facts)
    if request.ttft_ms is not None:
        yield _complete("until the first token", CLIENT, request, at, request.ttft_ms * 1e3)
    if timing is not None and received_ns is not None:
        yield from _spans(request, timing, (received_ns - start_ns) / 1e3)


def _spans(request: Request, timing: Timing, at: float) -> Iterator[Event]:
    step = 0
    begins: dict[int, float] = {}
    ends = []
    for span in reversed(timing.spans):
        part = _PART_OF.get(span.stage, FACADE)
        start, end = at + span.start_ms * 1e3, at + (span.start_ms + span.length_ms) * 1e3
        following = begins.get(part, end)
        ends.append(following if 0 < end - following <= _ROUNDED_US else end)
        begins[part] = start
    for span, end in zip(timing.spans, reversed(ends), strict=True):
        step += span.stage == "decode"
        facts = {"step": step} if span.stage == "decode" else {}
        start = at + span.start_ms * 1e3
        yield _complete(span.stage, _PART_OF.get(span.stage, FACADE), request, start, end - start, facts)


_ROUNDED_US = 1.5
"""A server tells beginnings and lengths in whole microseconds, each rounded by itself, so that a span may seem to end
after the next one has begun. Perfetto drops an event that overlaps the one before it on its thread."""


def _complete(
    name: str, part: int, request: Request, start_us: float, length_us: float, facts: dict[str, Any] | None = None
) -> Event:
    start, end = round(start_us), round(start_us + length_us)  # whole, or what Perfetto makes of them overlaps again
    found: Event = {
        "ph": "X", "name": name, "cat": _PARTS[part], "pid": part, "tid": _thread(request), "ts": start,
        "dur": end - start,
    }  # fmt: skip
    return found | ({"args": facts} if facts else {})


def _counters(telemetry: Sequence[Telemetry], engine: Sequence[EngineLook]) -> Iterator[Event]:
    for look in telemetry:
        yield from _counter("CPU, % of all cores", look.t_s, machine=_percent(look.cpu_share))
        yield from _counter("memory, MiB", look.t_s, used=_mebibytes(look.memory_bytes))
        for gpu in look.gpus:
            name = f"GPU {gpu.index}" + (f" {gpu.mig} ({gpu.uuid[:12]})" if gpu.mig else "")
            yield from _counter(f"{name}, % busy", look.t_s, busy=_percent(gpu.busy_share))
            yield from _counter(f"{name}, MiB", look.t_s, used=_mebibytes(gpu.memory_bytes))
    for one in engine:
        yield from _counter("generations", one.t_s, active=one.active, waiting=one.waiting)
        yield from _counter("KV cache, %", one.t_s, used=_percent(one.cache_usage_ratio))


def _counter(name: str, t_s: float, **values: float | None) -> Iterator[Event]:
    known = {key: value for key, value in values.items() if value is not None}
    if known:
        yield {"ph": "C", "name": name, "pid": MACHINE, "tid": 0, "ts": round(t_s * 1e6, 3), "args": known}


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def _mebibytes(number: int | None) -> float | None:
    return None if number is None else round(number / 2**20, 1)


__all__ = ["trace"]
