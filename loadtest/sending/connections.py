"""Connections to the server under load, kept open between requests as clients keep them."""

import select
import socket
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import gevent.socket
from gevent import monkey
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool

from slipstream import InputError
from slipstream.loadtest.credentials import API_KEY
from slipstream.loadtest.scenario import Timeouts

_MOST = 1_000_000  # an open loop must never wait for a connection to become free
_KEY = f"give http://HOST:PORT, and a key in {API_KEY}"
_poll = monkey.get_original("select", "poll")


class HostInvalid(InputError):
    """The server's address is no URL of one."""


class Connections(ConnectionPool):
    """A pool without a bound, which knows how long connecting took."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named | {"size": _MOST})
        self._connect_s: dict[gevent.socket.socket, float] = {}
        self._resolved: list[Any] = []

    def open(self) -> tuple[gevent.socket.socket, float]:
        """A connection, and how long it took to make it; 0 for one that was open.

        Raises:
            OSError: there is none to be had; a TimeoutError when the server does not answer.
        """
        sock = self.get_socket()
        return sock, self._connect_s.pop(sock, 0.0)

    def after_connect(self, sock: gevent.socket.socket) -> None:
        # Nagle would hold the end of a long prompt back until the server acknowledges its beginning.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _create_socket(self) -> gevent.socket.socket:
        started = perf_counter()
        sock = super()._create_socket()
        self._connect_s[sock] = perf_counter() - started
        return sock

    def resolve(self) -> None:
        """Look the name up.

        Raises:
            OSError: it is unknown.
        """
        self._resolve()

    def _resolve(self) -> Any:
        if not self._resolved:  # once: a name is looked up in a thread, which costs the loop time
            self._resolved = list(super()._resolve())
        return self._resolved

    def _is_socket_alive(self, sock: gevent.socket.socket | None) -> bool:
        # select(), as the library does it, refuses descriptors above 1023.
        if sock is None or sock.fileno() < 0:
            return False
        poll = _poll()
        poll.register(sock.fileno(), select.POLLIN)
        return not poll.poll(0)


class SecureConnections(Connections, SSLConnectionPool):
    """The same over TLS; certificates are verified."""


def connect_to(host: str, timeouts: Timeouts) -> tuple[Connections, str, str]:
    """The pool for a server, the value of ``Host``, and the path under which its API is.

    Args:
        host: ``http://127.0.0.1:8000``; a path stands before ``/v1``, which may be left out.

    Raises:
        HostInvalid: it is no http or https URL, or it brings a user or a password.
    """
    if "@" in host:
        raise HostInvalid("the address brings a user or a password, which are not sent", _KEY)
    try:
        parts = urlsplit(host)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("it has no http:// or no host")
        parts.netloc.encode("ascii")
        parts.hostname.encode("idna")  # a label that is empty or too long would be found when it is looked up
        parts.path.encode("ascii")
    except ValueError as error:
        raise HostInvalid(
            f"{host!r} is no address of a server: {error}", "give one as http://127.0.0.1:8000"
        ) from error
    kind = SecureConnections if parts.scheme == "https" else Connections
    pool = kind(
        parts.hostname, port, parts.hostname, port,
        connection_timeout=timeouts.connect, network_timeout=timeouts.stall,
    )  # fmt: skip
    return pool, parts.netloc, parts.path.rstrip("/").removesuffix("/v1")


__all__ = ["Connections", "HostInvalid", "connect_to"]
