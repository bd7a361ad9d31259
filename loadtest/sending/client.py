"""One request of a load: sent, and received with the moment of every block. What it came to is read afterwards.

Reading the JSON of 10,000 chunks per second while others wait for their moment would make their times wrong, so the
client keeps bytes and moments only. Requests whose client is to go away midway are the exception: their content is
counted as it comes.

No request is sent twice: what a lost connection did to it is what is measured.
"""

import json
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter

import gevent
from geventhttpclient.response import HTTPParseError, HTTPResponse

from slipstream.loadtest.sample import Outcome
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.schedule.planned import Planned
from slipstream.loadtest.sending.answers import Stream
from slipstream.loadtest.sending.connections import Connections, connect_to
from slipstream.loadtest.sending.timing import ASKING

_BLOCK = 16 * 1024
ENDPOINTS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}


class CutOff(gevent.GreenletExit):
    """The run ends; what is in flight goes with it."""


class Response(HTTPResponse):
    """The library's parser, which keeps the pieces of the body with the moment at which each came."""

    def __init__(self) -> None:
        super().__init__(method="POST")
        self.moment = 0.0
        self.blocks: list[tuple[float, bytes]] = []

    @property
    def is_complete(self) -> bool:
        """Whether all of it came, and not only a ``100 Continue``."""
        return self.message_complete and self.get_code() >= 200

    def header(self, name: str) -> str | None:
        """Its value; of several the last."""
        value = self.get(name)
        return value[-1] if isinstance(value, list) else value

    def _on_body(self, buf: bytearray) -> None:
        self.blocks.append((self.moment, bytes(buf)))


@dataclass(slots=True)
class Exchange:
    """A request and what came back, as bytes; moments are those of ``time.perf_counter``.

    Attributes:
        due: when it was to be sent.
        measured: whether it was due after the warm-up.
        failure: why it did not come to its end; None when the server ended its answer.
    """

    planned: Planned
    due: float
    measured: bool
    sent: float = 0.0
    end: float = 0.0
    connect_s: float = 0.0
    response: Response = field(default_factory=Response)
    failure: tuple[Outcome, str] | None = None

    @property
    def is_refused(self) -> bool:
        """Whether there was no connection, or an answer that says no by its status."""
        if self.failure is not None and self.failure[0] == "refused":
            return True
        return self.response.headers_complete and self.response.get_code() >= 400


class Client:
    """Sends the requests of one scenario to one server. Any number of greenlets may ask at once."""

    def __init__(self, scenario: Scenario, host: str, api_key: str | None = None) -> None:
        """
        Raises:
            HostInvalid: ``host`` is no URL of a server.
        """
        self._connections, name, prefix = connect_to(host, scenario.timeouts)
        self._total_s = scenario.timeouts.total
        self._stall_s = scenario.timeouts.stall
        self.path = prefix + ENDPOINTS[scenario.endpoint]
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {name}", "User-Agent: slipstream-loadtest"]
        lines += [f"Accept: {'text/event-stream' if scenario.stream else 'application/json'}"]
        lines += ["Content-Type: application/json"] + ([f"Authorization: Bearer {api_key}"] if api_key else [])
        lines += [f"{ASKING}: 1"] if scenario.stage_times else []
        self._head = "\r\n".join(lines).encode() + b"\r\nContent-Length: %d\r\n\r\n"

    def prepare(self) -> None:
        """Look the server's name up, which takes long the first time; an unknown one fails later, as refused."""
        with suppress(OSError):
            self._connections.resolve()

    def ask(self, exchange: Exchange) -> Exchange:
        """Send ``exchange.planned`` and wait for all of the answer; whatever happens is written into ``exchange``."""
        exchange.sent = perf_counter()
        overdue = gevent.Timeout(self._total_s)
        try:
            with overdue:
                self._send_and_receive(exchange)
        except gevent.Timeout as timeout:
            if timeout is not overdue:
                raise
            exchange.failure = ("timeout", f"not ended within {self._total_s:g} s")
        except CutOff:
            exchange.failure = ("cut_off", "the run was ended")
        exchange.end = perf_counter()
        if exchange.failure is None:
            exchange.end = exchange.response.moment
        return exchange

    def close(self) -> None:
        """Close the connections that are kept."""
        self._connections.close()

    def _send_and_receive(self, exchange: Exchange) -> None:
        body = json.dumps(exchange.planned.body).encode()
        started = perf_counter()
        try:
            sock, exchange.connect_s = self._connections.open()
        except OSError as error:
            exchange.connect_s = perf_counter() - started
            is_late = isinstance(error, TimeoutError)
            exchange.failure = ("connect_timeout" if is_late else "refused", _in_words(error))
            return
        is_kept = False
        try:
            sock.settimeout(self._stall_s)
            _send(sock, self._head % len(body) + body)
            self._receive(sock, exchange)
            is_kept = exchange.failure is None and not exchange.response.should_close()
        except TimeoutError:
            exchange.failure = ("stalled", f"no byte for {self._stall_s:g} s")
        except HTTPParseError as error:
            exchange.failure = ("malformed", f"no HTTP: {error}"[:200])
        except OSError as error:
            exchange.failure = ("truncated", _in_words(error))
        finally:
            give_back = self._connections.return_socket if is_kept else self._connections.release_socket
            give_back(sock)

    def _receive(self, sock: gevent.socket.socket, exchange: Exchange) -> None:
        response, leave_after = exchange.response, exchange.planned.disconnect_after
        stream = Stream() if leave_after is not None else None
        read = 0
        while not response.is_complete:
            data = sock.recv(_BLOCK)
            response.moment = perf_counter()
            if not data:
                _end(response, exchange)
                return
            response.feed(data)
            if stream is not None and leave_after is not None and response.get_code() == 200:
                for moment, block in response.blocks[read:]:
                    stream.feed(moment, block)
                read = len(response.blocks)
                if len(stream.answer.chunk_s) >= leave_after:
                    exchange.failure = ("disconnected", f"left after {leave_after} chunks")
                    return


def _send(sock: gevent.socket.socket, request: bytes) -> None:
    # A server may answer and close before it has read all; reading says whether this one did.
    with suppress(ConnectionResetError, BrokenPipeError):
        sock.sendall(request)


def _end(response: Response, exchange: Exchange) -> None:
    """The server closed the connection: the end of an answer without a length, else too early."""
    with suppress(HTTPParseError):
        response.feed(b"")
    if not response.is_complete:
        exchange.failure = ("truncated", "the connection ended before the answer did")


def _in_words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"[:200]
    return str(error.strerror or error)[:200]


__all__ = ["ENDPOINTS", "Client", "Connections", "CutOff", "Exchange", "Response"]
