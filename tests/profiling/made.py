"""Timelines, machines and engines as they might have been, made to measure."""

from collections.abc import Mapping, Sequence
from typing import Any

from slipstream.profiling.diagnosis.case import Case, EngineLook
from slipstream.profiling.telemetry.records import Gpu, Process, Telemetry
from slipstream.profiling.timeline.model import Request, Span, Timeline, Timing

S = 1_000_000_000
START_NS = 5_000 * S
USUAL = {"queue": 2.0, "embed": 9.0, "retrieve": 6.0, "prompt": 1.0, "prefill": 60.0}


def timing(
    before: Mapping[str, float] = USUAL, steps: Sequence[float] = (12.0,) * 20, received_unix_s: float | None = None
) -> Timing:
    """Stages one after the other, then the steps, then 0.5 ms of `stream`; the first token comes when the first step
    begins."""
    spans, at = [], 0.0
    for stage, length in [*before.items(), *(("decode", step) for step in steps), ("stream", 0.5)]:
        spans.append(Span(stage, at, length))
        at += length
    stages: dict[str, float] = {}
    for span in spans:
        stages[span.stage] = stages.get(span.stage, 0.0) + span.length_ms
    return Timing("r", received_unix_s, sum(before.values()), at, stages, len(steps), 0, tuple(spans))


def request(index: int = 0, at_s: float = 0.0, told: Timing | None = None, **changes: Any) -> Request:
    """Sent ``at_s`` after the start; the client sees everything half a millisecond later, each way."""
    told = told or timing()
    sent = START_NS + round(at_s * S)
    first = sent + round(((told.ttft_ms or 0.0) + 1.0) * 1e6)
    end = sent + round(((told.end_to_end_ms or 0.0) + 1.0) * 1e6)
    fields: dict[str, Any] = {
        "index": index, "outcome": "ok", "measured": True, "sent_ns": sent, "first_ns": first, "end_ns": end,
        "prompt_tokens": 700, "output_tokens": 21, "timing": told,
    }  # fmt: skip
    return Request(**(fields | changes))


def case(requests: Sequence[Request], **given: Any) -> Case:
    """On one clock, so each was received half a millisecond after it was sent."""
    timeline = Timeline.of(requests)
    received = [(one.sent_ns - START_NS) / S + 0.0005 for one in timeline.requests]
    return Case(timeline, received, **({"cores": 2} | given))


def looks(count: int = 20, every_s: float = 0.5, **fields: Any) -> list[Telemetry]:
    """A field that is a list gives each look its own value."""
    return [
        Telemetry(
            t_s=every_s * (number + 1),
            **{name: value[number] if isinstance(value, list) else value for name, value in fields.items()},
        )
        for number in range(count)
    ]


def engine(count: int = 20, every_s: float = 0.5, **fields: Any) -> list[EngineLook]:
    return [
        EngineLook(
            t_s=every_s * (number + 1),
            **{name: value[number] if isinstance(value, list) else value for name, value in fields.items()},
        )
        for number in range(count)
    ]


def process(role: str, cpu_share: float, threads: int = 2) -> Process:
    return Process(role, 4711, cpu_share, 2**30, threads)


def gpu(**fields: Any) -> Gpu:
    return Gpu(0, "GPU-1", memory_total_bytes=80 * 2**30, **fields)
