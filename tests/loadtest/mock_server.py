"""A completions server of known truth, in a process of its own: it says when it wrote each first chunk.

    python -m tests.loadtest.mock_server [--truth FILE]

It prints its port. A request's ``mock`` field (a scenario's ``extra_body.mock``) says how to answer: ``chunks`` content
chunks at ``rate`` per second, the first after ``first_s`` seconds. Each line of the truth holds the prompt, the moments
(``time.perf_counter``, which all processes of one Linux machine share) at which the request was read and the first and
the last chunk were written, and how many there were.
"""

import argparse
import asyncio
import gc
import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _framed(payload: str) -> bytes:
    data = f"data: {payload}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunk(content: str | None, finish: str | None = None) -> dict[str, Any]:
    """A part of a streamed chat completion."""
    delta = {"role": "assistant"} if content is None else {"content": content}
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mock",
        "choices": [{"index": 0, "delta": {} if finish else delta, "finish_reason": finish}],
    }  # fmt: skip


_ROLE = _framed(json.dumps(chunk(None)))
_CONTENT = _framed(json.dumps(chunk(" word")))
_STOP = _framed(json.dumps(chunk("", "stop")))


class Answering(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(self, truth: TextIO | None) -> None:
        self._truth = truth
        self._received = bytearray()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        if len(rest) >= length:
            self._received.clear()
            self._answer(json.loads(rest[:length]), perf_counter())

    def _answer(self, body: dict[str, Any], moment: float) -> None:
        mock = {"chunks": 8, "rate": 50.0, "first_s": 0.01} | body.get("mock", {})
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        said = {"prompt": prompt, "read": moment, "chunks": mock["chunks"]}
        self._transport.write(_HEAD + _ROLE)
        begin = self._loop.time() + mock["first_s"]
        self._timer = self._loop.call_at(begin, self._go_on, said, 0, begin, 1 / mock["rate"])

    def _go_on(self, said: dict[str, Any], number: int, begin: float, gap: float) -> None:
        if number == 0:
            said["first"] = perf_counter()
        if number < said["chunks"]:
            self._transport.write(_CONTENT)
            due = begin + (number + 1) * gap if number + 1 < said["chunks"] else self._loop.time()
            self._timer = self._loop.call_at(due, self._go_on, said, number + 1, begin, gap)
            said["last"] = perf_counter()
            return
        usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": said["chunks"]}}
        self._transport.write(_STOP + _framed(json.dumps(usage)) + _framed("[DONE]") + b"0\r\n\r\n")
        if self._truth is not None:
            self._truth.write(json.dumps(said) + "\n")
            self._truth.flush()


async def serve(truth: TextIO | None) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Answering(truth), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, help="where the truth is written")
    arguments = parser.parse_args()
    truth = arguments.truth.open("w", encoding="utf-8") if arguments.truth else None
    gc.freeze()
    gc.disable()  # a pause of the server's would look like an error of the client's
    try:
        asyncio.run(serve(truth))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
