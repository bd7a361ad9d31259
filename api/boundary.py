"""The outermost layer: request ids, limits, the ``Host`` check, the access log, and the last net under defects."""

import asyncio
import ipaddress
import re
from time import perf_counter
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipstream.api.errors import ApiError, ShuttingDown, as_api_error, response
from slipstream.api.metrics import Metrics
from slipstream.api.routes.delivery import Disconnected
from slipstream.api.state import RequestRecord
from slipstream.api.timeline import ASKED, TIMING_HEADER, Timeline

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 4 * 1024**2
BODY_TIMEOUT_S = 30.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_QUIET = {"/health/live", "/health/ready", "/metrics"}
"""Asked by machines every few seconds: neither in the log nor work in flight."""


class Boundary:
    """ASGI middleware around every route.

    Args:
        app: what it wraps.
        metrics: where requests are counted.
        host: the address that is bound. A loopback address accepts loopback names in ``Host`` and ``Origin`` only,
            which keeps a web page from reaching the server, also through a name of its own that it points at
            127.0.0.1 (DNS rebinding).
        closing: set when the server waits no longer for what runs; what is cancelled then is told so.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, host: str, closing: asyncio.Event) -> None:
        self._app = app
        self._metrics = metrics
        self._closing = closing
        self._check_host = is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        quiet = scope["path"] in _QUIET
        is_asked = headers.getlist(TIMING_HEADER) == [ASKED] and not quiet
        record = RequestRecord(request_id, Timeline(request_id, asked=is_asked))
        scope.setdefault("state", {})["record"] = record

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                _add_headers(message, record)
            await send(message)

        self._metrics.in_flight.inc(0 if quiet else 1)
        try:
            await self._answer(scope, receive, send_recorded, headers, record)
        finally:
            self._metrics.in_flight.dec(0 if quiet else 1)
            self._finish(scope, record)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers, record: RequestRecord
    ) -> None:
        try:
            self._admit(headers)
            await self._app(scope, _bounded(receive), send)
        except Disconnected:
            record.disconnected = True
        except Exception as error:
            await _refuse(as_api_error(error), record, scope, receive, send)
        except asyncio.CancelledError:
            if not self._closing.is_set():
                raise
            await _refuse(ShuttingDown(), record, scope, receive, send)

    def _admit(self, headers: Headers) -> None:
        if self._check_host and not is_loopback(_host_name(headers.get("host", ""))):
            raise ApiError(
                421, "This server answers to localhost only; the Host header names another.", code="misdirected_request"
            )
        if self._check_host and not _is_local_origin(headers.get("origin")):
            raise ApiError(403, "This server answers no pages of other sites.", code="foreign_origin")
        if len(headers.getlist("host")) > 1:
            raise ApiError(400, "The request has more than one Host header.", code="invalid_header")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:16]) > MAX_BODY_BYTES:
            raise _too_large()

    def _finish(self, scope: Scope, record: RequestRecord) -> None:
        duration_s = perf_counter() - record.started
        route = getattr(scope.get("route"), "path", "unknown")
        status = 499 if record.disconnected else record.status  # nginx's number for a client that left
        metrics = self._metrics
        metrics.requests.labels(route, record.model, status).inc()
        metrics.duration.labels(route).observe(duration_s)
        if record.disconnected:
            metrics.disconnects.inc()
        if route in _QUIET:
            return
        fields = {
            "model": record.model or None,
            "code": record.code,
            "ttft_s": _rounded(record.ttft_s),
            "tpot_s": _rounded(record.tpot_s),
            "prompt_tokens": record.prompt_tokens,
            "completion_tokens": record.completion_tokens,
        }
        log.info(
            "request",
            request_id=record.request_id,
            method=scope["method"],
            route=route,
            status=status,
            duration_s=_rounded(duration_s),
            **{name: value for name, value in fields.items() if value is not None},
        )


async def _refuse(refusal: ApiError, record: RequestRecord, scope: Scope, receive: Receive, send: Send) -> None:
    record.code = refusal.code
    if not record.status:
        await response(refusal)(scope, receive, send)


def _add_headers(message: Message, record: RequestRecord) -> None:
    headers = MutableHeaders(scope=message)
    headers["X-Request-ID"] = record.request_id
    if record.timeline.asked and not headers.get("content-type", "").startswith("text/event-stream"):
        headers[TIMING_HEADER] = record.timeline.header()


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 5)


def _too_large() -> ApiError:
    return ApiError(413, f"The body is larger than the limit of {MAX_BODY_BYTES} bytes.", code="request_too_large")


def _bounded(receive: Receive) -> Receive:
    """``receive`` that gives up on a body that is too long (whatever its header said) or too slow."""
    size = 0
    complete = False
    deadline = asyncio.get_running_loop().time() + BODY_TIMEOUT_S

    async def bounded() -> Message:
        nonlocal size, complete
        if complete:
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise ApiError(408, f"The body did not arrive within {BODY_TIMEOUT_S:g} s.", code="timeout") from None
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > MAX_BODY_BYTES:
                raise _too_large()
        return message

    return bounded


def _host_name(host: str) -> str:
    """The name in a ``Host`` header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _is_local_origin(origin: str | None) -> bool:
    """Whether a request comes from no web page, or from one of this machine.

    A page of another site may send a POST here without asking (a "simple request" of the Fetch standard); it could not
    read the answer, but it would keep the engine busy.
    """
    return origin is None or is_loopback(_host_name(origin.partition("://")[2]))


def is_loopback(host: str) -> bool:
    """Whether ``host`` is a name or address of this machine only."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
