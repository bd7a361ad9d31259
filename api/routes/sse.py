"""Server-sent events of a streamed answer.

An event costs one concatenation: everything around the text is assembled once per stream. The response starts with
the first token, so that a refusal by the ensemble still has an HTTP status of its own.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from slipstream.api.errors import as_api_error, payload
from slipstream.api.routes.answers import Answer, sources, usage
from slipstream.api.routes.delivery import Disconnected, while_connected
from slipstream.api.state import RequestRecord
from slipstream.api.timeline import Timeline
from slipstream.api.triton import Piece

# `X-Accel-Buffering` keeps nginx from collecting the events.
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_TEXT_SLOT = b'"\\u0000text\\u0000"'
_DONE = b"data: [DONE]\n\n"
# Not line ends to the protocol, but to clients that split lines as Python's `str.splitlines` does.
_LINE_ENDS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "\x85\u2028\u2029"}


class EventStream(StreamingResponse):
    """``answer`` as `chat.completion.chunk` events; it ends, and frees the engine, when the client goes away.

    What fails before the first event is raised; later, it is an event of its own, and the last.
    """

    def __init__(self, answer: Answer, record: RequestRecord, closing: asyncio.Event, *, include_usage: bool) -> None:
        self._events = events(answer, include_usage=include_usage)
        self._frame = _frame(answer, include_usage=include_usage)
        super().__init__(self._events, headers=_HEADERS, media_type="text/event-stream")
        self._record = record
        self._closing = closing
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        last = b""
        try:
            await while_connected(receive, self._deliver(send), self._closing)
        except Disconnected:
            raise
        except Exception as error:
            if not self._started:
                raise
            refusal = as_api_error(error)
            self._record.code = refusal.code
            last = _timing(self._frame, self._record.timeline) + b"data: " + payload(refusal) + b"\n\n"
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _deliver(self, send: Send) -> None:
        async with aclosing(self._events):
            async for event in self._events:
                if not self._started:
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    self._started = True
                await send({"type": "http.response.body", "body": event, "more_body": True})


async def events(answer: Answer, *, include_usage: bool) -> AsyncGenerator[bytes, None]:
    """The events of ``answer``, ready to send: one with the role, one per text, one with the finish reason, the
    citations and whether it is grounded, one with the usage and one with the timing if they were asked for, and
    ``[DONE]``."""
    frame = _frame(answer, include_usage=include_usage)
    before, after = _event(frame, _choice({"content": "\0text\0"})).split(_TEXT_SLOT)
    opening = _event(frame, _choice({"role": "assistant", "content": ""}))
    texts: list[str] = []
    hits = b""
    async with aclosing(answer.pieces) as pieces:
        async for piece in pieces:
            hits = hits or piece.hits
            event = b""
            if piece.text:
                texts.append(piece.text)
                event = before + _json(piece.text) + after
            if piece.finish_reason:
                event += _closing(frame, piece, "".join(texts), hits, include_usage=include_usage)
                event += _timing(frame, answer.timeline) + _DONE
            if event:
                yield opening + event
                opening = b""


def _json(text: str) -> bytes:
    """``text`` as a JSON string that stays on one line."""
    data = orjson.dumps(text)
    return data if text.isascii() else data.decode().translate(_LINE_ENDS).encode()


def _frame(answer: Answer, *, include_usage: bool) -> dict[str, Any]:
    frame = {
        "id": answer.id,
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.model,
        "system_fingerprint": answer.fingerprint,
    }
    # OpenAI: with `include_usage` every chunk but the last carries a null.
    return {**frame, "usage": None} if include_usage else frame


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]}


def _event(frame: dict[str, Any], fields: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(frame | fields) + b"\n\n"


def _timing(frame: dict[str, Any], timeline: Timeline) -> bytes:
    return _event(frame, timeline.event()) if timeline.asked else b""


def _closing(frame: dict[str, Any], last: Piece, text: str, hits: bytes, *, include_usage: bool) -> bytes:
    found = sources(text, hits)
    cited = [citation.model_dump() for citation in found["citations"]]
    closing = _event(frame, _choice({}, last.finish_reason) | {"citations": cited, "grounded": found["grounded"]})
    if include_usage:
        closing += _event(frame, {"choices": [], "usage": usage(last).model_dump()})
    return closing
