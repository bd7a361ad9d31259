"""The socket and the HTTP protocol: a port that is taken, clients that are slow, silent or rude."""

import asyncio
import socket
from typing import Any

import pytest

from slipstream.api import listener
from slipstream.api.listener import AddressTaken, address_of, bind
from tests.api.serving import served


def test_a_taken_port_names_itself_and_the_option() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(AddressTaken, match=f"127.0.0.1:{port}") as raised:
            bind("127.0.0.1", port)
    assert "--port" in raised.value.remedy


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(AddressTaken, match=host):
        bind(host, 0)


def test_the_address_is_one_that_can_be_asked() -> None:
    with bind("0.0.0.0", 0) as everywhere:  # noqa: S104
        assert address_of(everywhere).startswith("http://127.0.0.1:")


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


def place(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").rsplit(":", 1)
    return host, int(port)


async def until_closed(url: str, *sent: bytes, every_s: float = 0.0) -> bytes:
    """Send the pieces one after the other; all that came back until the server closed the connection."""
    reader, writer = await asyncio.open_connection(*place(url))
    try:
        for piece in sent:
            writer.write(piece)
            await asyncio.sleep(every_s)
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_headers_that_never_end_close_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEADER_TIMEOUT_S", 0.3)
    async with served(hello, "off") as url:
        assert await until_closed(url, b"GET / HTTP/1.1\r\n", b"a: b\r\n", b"c: d\r\n", every_s=0.15) == b""


async def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEADER_TIMEOUT_S", 0.3)
    async with served(hello, "off") as url:
        assert await until_closed(url) == b""


async def test_headers_without_end_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEADER_TIMEOUT_S", 1000)
    async with served(hello, "off") as url:
        assert await until_closed(url, b"GET / HTTP/1.1\r\n", *[b"a: " + b"x" * 4096 + b"\r\n"] * 64) == b""


async def test_a_request_in_time_is_answered_and_its_connection_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEADER_TIMEOUT_S", 0.2)
    async with served(hello, "off") as url:
        reader, writer = await asyncio.open_connection(*place(url))
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\nhi"), 20)
            assert answer.startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.4)  # longer than headers may take: the time between requests is no part of them
        writer.close()


async def test_a_client_that_stops_reading_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "UNREAD_TIMEOUT_MS", 500)
    gone = asyncio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        watcher = asyncio.create_task(_watch(receive, gone))
        while not gone.is_set():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await asyncio.sleep(0)
        await watcher

    async with served(endless, "off") as url:
        with socket.create_connection(place(url)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asyncio.wait_for(gone.wait(), 10)


async def _watch(receive: Any, gone: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()
