"""Single requests to scale: what the client saw, the stages that it went through, and every decode step."""

from collections.abc import Sequence

from slipstream.loadtest.report.drawing.flame import Box, Flame, Lane, Stack
from slipstream.loadtest.report.drawing.page import BarFigure, Block, Note
from slipstream.loadtest.report.drawing.scales import number
from slipstream.loadtest.report.stages import REST, tone_of
from slipstream.loadtest.statistics.order import quantile_rank
from slipstream.profiling.timeline.model import Request, Timeline, Timing

_CLIENT = 6  # the tone of what the client saw


def flame_blocks(timeline: Timeline, received_ns: Sequence[int | None]) -> list[Block]:
    """The median request and the slowest ones, on one scale.

    Args:
        received_ns: when the server received each request [n], on the client's clock.
    """
    told = [(request, at) for request, at in zip(timeline.requests, received_ns, strict=True) if _has_spans(request)]
    if not told:
        return [Note("The server told no spans of its requests, so none can be drawn: answers in one piece have none.")]
    chosen = _chosen(told)
    most = max(request.end_to_end_ms for _, request, _ in chosen)
    stacks = [_stack(name, request, at) for name, request, at in chosen]
    keys = [(stage, tone_of(stage)) for stage in (*timeline.stages, REST)]
    label = "; ".join(f"{name}: {number(request.end_to_end_ms)} ms" for name, request, _ in chosen)
    note = (
        "Time since the client sent the request. Each box of the lowest lane is one span, so each decode step is one; "
        "between the boxes lies what no stage accounts for."
    )
    return [BarFigure("The median request and the slowest ones", Flame(label, stacks, most, "ms", keys), note)]


def _has_spans(request: Request) -> bool:
    return request.timing is not None and bool(request.timing.spans)


def _chosen(told: Sequence[tuple[Request, int | None]]) -> list[tuple[str, Request, int | None]]:
    """Those at p50 and p95, and the slowest; each once."""
    ordered = sorted(told, key=lambda pair: pair[0].end_to_end_ms)
    places = {"median": 0.5, "p95": 0.95, "slowest": 1.0}
    found: dict[int, tuple[str, Request, int | None]] = {}
    for name, level in places.items():
        rank = quantile_rank(len(ordered), level) - 1
        found[rank] = (name, *ordered[rank])
    return list(found.values())


def _stack(name: str, request: Request, received_ns: int | None) -> Stack:
    timing = request.timing
    if timing is None:
        raise ValueError(f"request {request.index} has no timing")
    offset = 0.0 if received_ns is None else max((received_ns - request.sent_ns) / 1e6, 0.0)
    text = ", ".join(
        part
        for part in (
            f"request {request.index}",
            f"{number(request.end_to_end_ms)} ms",
            "" if request.ttft_ms is None else f"TTFT {number(request.ttft_ms)} ms",
            "" if request.prompt_tokens is None else f"{request.prompt_tokens:,} prompt tokens",
            "" if request.output_tokens is None else f"{request.output_tokens:,} output tokens",
        )
        if part
    )
    lanes = (
        Lane("client", _client(request)),
        Lane("stages", _stages(timing, offset)),
        Lane("spans", _spans(timing, offset)),
    )
    return Stack(name, text, lanes)


def _client(request: Request) -> list[Box]:
    first = request.ttft_ms
    if first is None:
        return [Box(0.0, request.end_to_end_ms, _CLIENT, f"answer: {number(request.end_to_end_ms)} ms", "answer")]
    rest = request.end_to_end_ms - first
    return [
        Box(0.0, first, _CLIENT, f"until the first token: {number(first)} ms", "until the first token"),
        Box(first, rest, _CLIENT, f"from the first token on: {number(rest)} ms", "from the first token on"),
    ]


def _stages(timing: Timing, offset: float) -> list[Box]:
    boxes = []
    for piece in timing.path():
        many = f" × {piece.count}" if piece.count > 1 else ""
        boxes.append(
            Box(
                offset + piece.start_ms,
                piece.length_ms,
                tone_of(piece.stage),
                f"{piece.stage}{many}: {number(piece.length_ms)} ms, from {number(piece.start_ms)} ms on",
                f"{piece.stage}{many}",
            )
        )
    return boxes


def _spans(timing: Timing, offset: float) -> list[Box]:
    return [
        Box(
            offset + span.start_ms,
            span.length_ms,
            tone_of(span.stage),
            f"{span.stage}: {number(span.length_ms)} ms, from {number(span.start_ms)} ms on",
        )
        for span in timing.spans
    ]


__all__ = ["flame_blocks"]
