"""A request as client and server saw it. Moments are nanoseconds of ``time.monotonic_ns`` of the machine that asked;
what the server tells is in milliseconds since it received the request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from slipstream.loadtest.report.stages import REST
from slipstream.loadtest.sending.timing import is_duration, is_told
from slipstream.profiling.spans import STAGES

_LEAST_GAP_MS = 0.05  # between two spans: reading a clock and calling the next stage


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a request's critical path."""

    stage: str
    start_ms: float
    length_ms: float

    @property
    def end_ms(self) -> float:
        return self.start_ms + self.length_ms


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring spans of one stage, ``count`` of them; of the stage ``rest``: what no span accounts for."""

    stage: str
    start_ms: float
    length_ms: float
    count: int


@dataclass(frozen=True)
class Timing:
    """What the server says of one request.

    Attributes:
        received_unix_s: when it received the request, by its wall clock.
        stages: milliseconds by stage, on the critical path.
        spans: of the critical path in their order, none overlapping; empty where the answer was not streamed.
        beside: milliseconds by stage of work that ran while the engine's next step ran.
    """

    request_id: str
    received_unix_s: float | None
    ttft_ms: float | None
    end_to_end_ms: float | None
    stages: Mapping[str, float]
    decode_steps: int | None = None
    cached_prompt_tokens: int | None = None
    spans: tuple[Span, ...] = ()
    beside: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """From the object of a sample; a number that is no time, or no count, is left out.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: it is none of a sample's.
        """
        told = {name: value for name, value in said.items() if is_told(name, value)}
        counts = {name: int(told[name]) for name in ("decode_steps", "cached_prompt_tokens") if name in told}
        return cls(
            request_id=str(said.get("request_id") or said.get("id") or ""),
            received_unix_s=told.get("received_unix_s"),
            ttft_ms=told.get("ttft_ms"),
            end_to_end_ms=told.get("end_to_end_ms"),
            stages=_lengths(said["stages"]),
            spans=tuple(
                Span(str(stage), float(start), float(length))
                for stage, start, length in said["spans"]
                if is_duration(start) and is_duration(length)
            ),
            beside=_lengths(said["beside"]),
            **counts,
        )

    @cached_property
    def total_ms(self) -> float:
        """Of all stages."""
        return sum(self.stages.values())

    @cached_property
    def steps_ms(self) -> tuple[float, ...]:
        """How long each decode step took."""
        return tuple(span.length_ms for span in self.spans if span.stage == "decode")

    def before_first_token(self) -> dict[str, float]:
        """Milliseconds by stage until the first content, the part of a span before it; empty where it is not known."""
        found: dict[str, float] = {}
        for span in self.spans if self.ttft_ms is not None else ():
            part = min(span.end_ms, self.ttft_ms or 0.0) - span.start_ms
            if part > 0:
                found[span.stage] = found.get(span.stage, 0.0) + part
        return found

    def path(self) -> tuple[Piece, ...]:
        """The critical path: neighbouring spans of a stage in one, and the gaps between them."""
        pieces: list[Piece] = []
        at = 0.0
        for span in sorted(self.spans, key=lambda span: span.start_ms):
            if span.start_ms - at > _LEAST_GAP_MS:
                pieces.append(Piece(REST, at, span.start_ms - at, 1))
            last = pieces[-1] if pieces else None
            if last is not None and last.stage == span.stage:
                pieces[-1] = Piece(last.stage, last.start_ms, span.end_ms - last.start_ms, last.count + 1)
            else:
                pieces.append(Piece(span.stage, span.start_ms, span.length_ms, 1))
            at = max(at, span.end_ms)
        return tuple(pieces)


def _lengths(said: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in said.items() if is_duration(value)}


@dataclass(frozen=True)
class Request:
    """One request: the client's moments, and what the server told.

    Attributes:
        first_ns: when the first content came; None: none did, or the answer was not streamed.
        timing: None where the server told nothing.
    """

    index: int
    outcome: str
    measured: bool
    sent_ns: int
    first_ns: int | None
    end_ns: int
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    timing: Timing | None = None

    @property
    def end_to_end_ms(self) -> float:
        return (self.end_ns - self.sent_ns) / 1e6

    @property
    def ttft_ms(self) -> float | None:
        return None if self.first_ns is None else (self.first_ns - self.sent_ns) / 1e6

    @property
    def rest_ms(self) -> float:
        """Of the end-to-end time that the client measured, what no stage accounts for."""
        return self.end_to_end_ms - (self.timing.total_ms if self.timing else 0.0)

    @property
    def accounted(self) -> float:
        """Share of the end-to-end time that the client measured which the stages sum to; may be above 1."""
        return self.timing.total_ms / self.end_to_end_ms if self.timing and self.end_to_end_ms > 0 else 0.0


@dataclass(frozen=True)
class Timeline:
    """The requests of a profile that succeeded and told their times, in the order in which they were sent.

    Attributes:
        asked: how many were sent and measured.
        failed: how many of them failed.
    """

    requests: tuple[Request, ...]
    asked: int
    failed: int

    @classmethod
    def of(cls, requests: Sequence[Request]) -> Self:
        """Of all that were sent."""
        measured = [request for request in requests if request.measured]
        told = [request for request in measured if request.outcome == "ok" and request.timing is not None]
        failed = sum(request.outcome not in {"ok", "disconnected", "cut_off"} for request in measured)
        return cls(tuple(sorted(told, key=lambda request: request.sent_ns)), len(measured), failed)

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """Every stage that any request went through: ours in their order, others as the server orders them."""
        told = dict.fromkeys(stage for timing in self.timings for stage in timing.stages)
        known: tuple[str, ...] = STAGES
        return tuple(sorted(told, key=lambda stage: known.index(stage) if stage in known else len(known)))

    @cached_property
    def timings(self) -> tuple[Timing, ...]:
        return tuple(request.timing for request in self.requests if request.timing is not None)

    def __len__(self) -> int:
        return len(self.requests)


__all__ = ["Piece", "Request", "Span", "Timeline", "Timing"]
