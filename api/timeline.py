"""Where the time of a request went, for a client that asks with the header ``x-slipstream-timing: 1``.

The stages are marked where they run: here, and in the models, which tell with their answers (`ensemble.stage_marks`).
Laid one after the other they are the way of the request; what lies between the end of one and the beginning of the
next is a wait, and is called ``queue``. What follows the last mark is nobody's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import time

import numpy as np

from slipstream.api.responses import Timing
from slipstream.api.triton import Piece
from slipstream.ensemble.stage_marks import Before, Marks
from slipstream.profiling.spans import ENABLED, Span, Stage, begin, now_ns

TIMING_HEADER = "x-slipstream-timing"
ASKED = "1"
_NS_PER_MS = 1e6


@dataclass(slots=True)
class _Delivery:
    """One response of the generator; ``written_ns`` is 0 while it is being written."""

    marks: Marks
    is_last: bool
    written_ns: int = 0


class Timeline:
    """Of one request. It keeps the marks of an answer only if ``asked``; ranges for a tool that listens it always has.

    Args:
        request_id: the one id that the request has in every process.
    """

    def __init__(self, request_id: str, *, asked: bool = False) -> None:
        self.asked = asked and ENABLED
        self.completion_id: str | None = None
        self._request_id = request_id
        self._received_ns = now_ns()
        self._received_unix_s = time()
        self._ran: list[Span] = []
        self._told: list[Before] = []
        self._deliveries: list[_Delivery] = []
        self._has_text = False
        self._first_ns = 0

    @contextmanager
    def ran(self, stage: Stage) -> Iterator[None]:
        """Mark what the facade does itself; there may be an ``await`` in it."""
        opened = begin(stage, self._request_id)
        try:
            yield
        finally:
            self._ran.append(opened.end())

    def tell(self, marks: Before) -> None:
        """What a model that answers once tells of its stages; an embedder that tells nothing took all the time."""
        if not marks.embed_began and self._ran:
            sent = self._ran[-1].end_ns
            marks = marks._replace(embed_began=sent, embed_ended=marks.retrieve_began or now_ns())
        self._told.append(marks)

    @contextmanager
    def delivering(self, piece: Piece) -> Iterator[None]:
        """Mark the way of ``piece`` to the client."""
        marks = Marks.decode(np.frombuffer(piece.marks, "<i8").tolist()) if self.asked else None
        if marks is not None:
            self._deliveries.append(_Delivery(marks, bool(piece.finish_reason)))
        self._has_text = self._has_text or bool(piece.text)
        opened = begin("stream", self._request_id)
        try:
            yield
        finally:
            written_ns = opened.end().end_ns
            if self._has_text and not self._first_ns:
                self._first_ns = written_ns
            if marks is not None:
                self._deliveries[-1].written_ns = written_ns

    def timing(self) -> Timing:
        """What is known now."""
        now = now_ns()
        way = _Way(self._received_ns, now)
        for span in self._ran:
            way.go(*span)
        for told in self._told:
            way.prepare(told)
        if self._deliveries:
            self._answer(way, now)
        elif self._told:
            way.go("stream", way.at, now)
        first_ns = self._first_ns or now
        return Timing(
            id=self.completion_id,
            request_id=self._request_id,
            received_unix_s=round(self._received_unix_s, 6),
            ttft_ms=_ms(first_ns - self._received_ns) if self._has_text else None,
            end_to_end_ms=_ms(now - self._received_ns),
            stages=way.stages(),
            decode_steps=sum(span.stage == "decode" for span in way.spans),
            spans=[
                (span.stage, _ms(span.start_ns - self._received_ns), _ms(span.end_ns - span.start_ns))
                for span in way.spans
            ],
            beside=self._beside(),
        )

    def header(self) -> str:
        """`timing` without what grows with the answer."""
        return self.timing().model_dump_json(exclude={"spans", "beside"})

    def event(self) -> dict[str, object]:
        """`timing` as fields of a streamed chunk."""
        return {"choices": [], "timing": self.timing().model_dump()}

    def _answer(self, way: "_Way", now: int) -> None:
        first, last = self._deliveries[0].marks, self._deliveries[-1]
        began = 0
        if first.before is not None:
            way.prepare(first.before)
            began = first.before.taken or first.before.submitted
        stage: Stage = "prefill"
        for delivery in self._deliveries:
            for ended in delivery.marks.steps:
                way.go(stage, began, ended)
                stage, began = "decode", ended
        way.go("detokenize", last.marks.detokenize_began, last.marks.sent)
        way.go("stream", last.marks.sent, now if last.is_last or not last.written_ns else last.written_ns)

    def _beside(self) -> dict[Stage, float]:
        """What was said while the engine computed the next: all but the last."""
        before = self._deliveries[:-1]
        if not before:
            return {}
        detokenize = sum(delivery.marks.sent - delivery.marks.detokenize_began for delivery in before)
        stream = sum(delivery.written_ns - delivery.marks.sent for delivery in before)
        return {"detokenize": _ms(detokenize), "stream": _ms(stream)}


class _Way:
    """The stages of a request in their order, none overlapping; it has come to ``at``."""

    def __init__(self, received_ns: int, now: int) -> None:
        self.spans: list[Span] = []
        self._received_ns = self.at = received_ns
        self._now = now
        self._cached: set[Stage] = set()

    def go(self, stage: Stage, start_ns: int, end_ns: int) -> None:
        """Add a stage and the wait before it; nothing if it is unknown (0).

        What began before the request was received was computed for another and comes from a cache.
        """
        if not start_ns or not start_ns <= end_ns <= self._now:
            return
        if start_ns < self._received_ns:
            self._cached.add(stage)
            return
        self._append("queue", max(start_ns, self.at))
        self._append(stage, end_ns)

    def _append(self, stage: Stage, end_ns: int) -> None:
        """A span from where the way has come to; waits in a row are one."""
        if end_ns <= self.at:
            return
        start_ns = self.at
        if stage == "queue" and self.spans and self.spans[-1].stage == "queue":
            start_ns = self.spans.pop().start_ns
        self.spans.append(Span(stage, start_ns, end_ns))
        self.at = end_ns

    def prepare(self, marks: Before) -> None:
        """Add what came before the engine."""
        if not marks.embed_began and marks.retrieve_began >= self.at:  # an embedder that does not tell
            self.go("embed", self.at, marks.retrieve_began)
        self.go("embed", marks.embed_began, marks.embed_ended)
        self.go("prompt", marks.retrieve_began, marks.search_began)
        self.go("retrieve", marks.search_began, marks.search_ended)
        self.go("prompt", marks.search_ended, marks.prompt_ready)

    def stages(self) -> dict[Stage, float]:
        """Milliseconds by stage, in the order of their first; 0 for one that a cache answered."""
        sums: dict[Stage, int] = {}
        for span in self.spans:
            sums[span.stage] = sums.get(span.stage, 0) + span.end_ns - span.start_ns
        return {stage: _ms(ns) for stage, ns in (dict.fromkeys(self._cached, 0) | sums).items()}


def _ms(ns: int) -> float:
    return round(ns / _NS_PER_MS, 3)


__all__ = ["ASKED", "TIMING_HEADER", "Timeline"]
