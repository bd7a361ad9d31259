"""The socket and the HTTP protocol of the facade: a port that says when it is taken, headers that must arrive."""

import asyncio
import socket

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from slipstream import EnvironmentFault
from slipstream.api.terminal import url_of

HEADER_TIMEOUT_S = 10.0
MAX_HEADER_BYTES = 64 * 1024
UNREAD_TIMEOUT_MS = 30_000


class AddressTaken(EnvironmentFault):
    """The facade cannot bind its address."""


def bind(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one.

    Raises:
        AddressTaken: another program has the port, or this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it: one whose reader stopped reading, or vanished, ends instead of holding its answer.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_TIMEOUT_MS)
        listener.bind((host, port))
        # Listening at once makes a second server fail here and now, and lets early clients wait instead of fail.
        listener.listen(128)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        remedy = "stop the program that has it, or choose another with --port (0 takes a free one)"
        raise AddressTaken(f"cannot listen on {host}:{port}: {reason}", remedy) from error
    return listener


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with an end to waiting: headers have `HEADER_TIMEOUT_S` and `MAX_HEADER_BYTES`."""

    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._timer is not None:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_headers()

    def on_headers_complete(self) -> None:
        self._headers_arrived()
        super().on_headers_complete()

    def _await_headers(self) -> None:
        if self._timer is None:
            self._header_bytes = 0
            self._timer = self.loop.call_later(HEADER_TIMEOUT_S, self.transport.close)

    def _headers_arrived(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def address_of(listener: socket.socket) -> str:
    """The URL under which ``listener`` is reached from this machine."""
    host, port, *_ = listener.getsockname()
    return url_of(host, port)
