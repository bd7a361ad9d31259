"""Servers that do exactly what a test says, byte for byte, on real sockets in a thread of their own."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Script = Callable[[socket.socket], None]


class Scripted:
    """Plays a script for each connection; counts them and keeps the requests."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self.ended = threading.Event()  # the script is through with a connection
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in [self._thread, *self._threads]:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._play, args=(connection,)))
            self._threads[-1].start()

    def _play(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            with suppress(OSError):  # the client went away, as some tests want it to
                self._script(connection)
        self.ended.set()


@contextmanager
def scripted(script: Script) -> Iterator[Scripted]:
    server = Scripted(script)
    try:
        yield server
    finally:
        server.close()


def take_request(connection: socket.socket) -> tuple[str, dict[str, Any]]:
    """The head and the body of the next request; a head of no letters when the client closed."""
    received = b""
    while b"\r\n\r\n" not in received:
        block = connection.recv(65536)
        if not block:
            return "", {}
        received += block
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0] or 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head.decode(), json.loads(body or b"{}")


def framed(data: bytes) -> bytes:
    """One piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(said: Any) -> bytes:
    return b"data: " + (said if isinstance(said, bytes) else json.dumps(said).encode()) + b"\n\n"


def delta(content: Any = None, finish: str | None = None) -> dict[str, Any]:
    part = {"role": "assistant"} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": part, "finish_reason": finish}]}


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DONE = event(b"[DONE]")
END = b"0\r\n\r\n"


def streaming(*events: bytes, end: bytes = END, head: bytes = HEAD, gap_s: float = 0.0) -> Script:
    """Answers every request of a connection with ``events``, ``gap_s`` apart."""

    def script(connection: socket.socket) -> None:
        while take_request(connection)[0]:
            connection.sendall(head)
            for one in events:
                connection.sendall(framed(one))
                time.sleep(gap_s)
            connection.sendall(end)
            if end != END:
                return

    return script


def answering(status: str, body: bytes, *headers: str) -> Script:
    """Answers every request of a connection in one piece."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]

    def script(connection: socket.socket) -> None:
        while take_request(connection)[0]:
            connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return script


def writing(answer: bytes) -> Script:
    """Writes ``answer`` after the request and closes."""

    def script(connection: socket.socket) -> None:
        take_request(connection)
        connection.sendall(answer)

    return script
